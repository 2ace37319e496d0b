//! The disk of a host: snapshots as values, journals of watches as real files, and what goes wrong with both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wasmop_core::election::Tenure;

use crate::guest::Guest;
use crate::random::Random;

/// A memory file system, where there is one.
const MEMORY: &str = "/dev/shm";

/// A controller at rest.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The host's half, encoded.
    pub host_state: Vec<u8>,
    /// The instance.
    pub guest: Guest,
    /// The instance's clock.
    pub monotonic_ns: u64,
    /// The time of day when it was written.
    pub wall: Duration,
    /// The time in the world when it was written.
    pub world: Duration,
}

/// What outlives a host.
pub struct Disk {
    snapshots: BTreeMap<Arc<str>, Snapshot>,
    /// As they are after a crash of the machine; `None`: there is none.
    durable: BTreeMap<Arc<str>, Option<Snapshot>>,
    /// Being written.
    writing: BTreeSet<Arc<str>>,
    /// Of which tenure each controller's snapshot is.
    pub tenures: BTreeMap<Arc<str>, Tenure>,
    dir: TempDir,
    /// Writes fail until then.
    pub full_until: Duration,
    /// Writes take seconds until then.
    pub slow_until: Duration,
    /// It returns every snapshot as it was written. Otherwise some turn out to be unusable.
    pub is_sound: bool,
}

impl Disk {
    /// An empty disk.
    ///
    /// # Errors
    /// There is no directory for the journals.
    pub fn new() -> std::io::Result<Disk> {
        let memory = Path::new(MEMORY);
        let dir = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
        Ok(Disk {
            snapshots: BTreeMap::new(),
            durable: BTreeMap::new(),
            writing: BTreeSet::new(),
            tenures: BTreeMap::new(),
            dir,
            full_until: Duration::ZERO,
            slow_until: Duration::ZERO,
            is_sound: false,
        })
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A controller's snapshot.
    pub fn snapshot(&self, controller: &str) -> Option<&Snapshot> {
        self.snapshots.get(controller)
    }

    /// A snapshot begins to be written.
    pub fn begin(&mut self, controller: &Arc<str>) {
        self.writing.insert(controller.clone());
    }

    /// It was not written; the one before is as it was.
    pub fn give_up(&mut self, controller: &str) {
        self.writing.remove(controller);
    }

    /// It is written, and not yet durable.
    pub fn finish(&mut self, controller: &Arc<str>, snapshot: Snapshot) {
        self.writing.remove(controller);
        let before = self.snapshots.insert(controller.clone(), snapshot);
        self.durable.entry(controller.clone()).or_insert(before);
    }

    /// What was written would survive a crash of the machine.
    pub fn synced(&mut self, controller: &str) {
        self.durable.remove(controller);
    }

    /// Removes a snapshot.
    pub fn discard(&mut self, controller: &str) {
        self.snapshots.remove(controller);
        self.durable.remove(controller);
    }

    /// The host is killed: what it was writing is there in part. With `power` the whole machine goes down, and what was
    /// not made durable is lost.
    pub fn crash(&mut self, power: bool, random: &mut Random) {
        for controller in std::mem::take(&mut self.writing) {
            if random.percent(50) {
                self.snapshots.remove(&controller);
                self.durable.remove(&controller);
            }
        }
        let durable = std::mem::take(&mut self.durable);
        if !power {
            return;
        }
        for (controller, snapshot) in durable {
            match snapshot {
                Some(snapshot) => self.snapshots.insert(controller, snapshot),
                None => self.snapshots.remove(&controller),
            };
        }
        self.tear_journals(random);
    }

    /// Some journals lose their end.
    fn tear_journals(&self, random: &mut Random) {
        let Ok(entries) = fs::read_dir(self.path().join("watches")) else { return };
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files {
            if !random.percent(30) {
                continue;
            }
            let Ok(len) = fs::metadata(&file).map(|metadata| metadata.len()) else { continue };
            if let Ok(file) = OpenOptions::new().write(true).open(file) {
                let _ = file.set_len(random.between(0, len));
            }
        }
    }
}
