//! A pool of memories of suspended instances, for the instances that are resumed next.
//!
//! A host that suspends often also resumes often, and most of a resume's cost is the kernel's page faults. The pool lends
//! a memory only to an instance that starts from the same image. It holds memories for a short time only, so an idle
//! host holds none. The controller that has left a memory finds its own pages there.
//!
//! A memory that maps its controller's file serves only that controller, and only from the snapshot that it was left
//! with. Any later save may have reused the mapped slots, and a discarded state directory has other files of the same
//! name.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmop_snapshot::{BaseImage, Overlay, SnapshotRef};

use crate::memory::PooledMemory;

/// Most memories in the pool.
const MAX_MEMORIES: usize = 4;
/// Bytes: the pool refuses larger memories.
const MAX_BYTES: usize = 4 << 20;

/// The pool of an engine.
pub struct MemoryPool {
    /// Oldest first; at most `max`.
    entries: Mutex<Vec<PoolEntry>>,
    max: usize,
}

impl Default for MemoryPool {
    fn default() -> MemoryPool {
        MemoryPool { entries: Mutex::default(), max: MAX_MEMORIES }
    }
}

struct PoolEntry {
    reused: Reused,
    since: Instant,
}

/// A memory of a dropped instance, and what is known of its content.
pub(crate) struct Reused {
    /// The image that it maps.
    pub base: Arc<BaseImage>,
    pub memory: PooledMemory,
    /// What it maps over the image, from its controller's state file.
    pub overlay: Overlay,
    /// The store of the last instance's controller ([`wasmop_snapshot::ControllerStore::id`]).
    pub controller: u64,
    /// The last instance's snapshot. Nothing has changed the memory since.
    pub snapshot: SnapshotRef,
}

impl Reused {
    /// Whether the memory holds exactly this snapshot.
    pub fn holds(&self, controller: u64, snapshot: &SnapshotRef) -> bool {
        self.controller == controller && self.snapshot == *snapshot && self.overlay.is_empty()
    }
}

impl MemoryPool {
    /// A pool that stays empty.
    pub(crate) fn none() -> MemoryPool {
        MemoryPool { entries: Mutex::default(), max: 0 }
    }

    /// Takes the memory that `controller` left with `snapshot`. Failing that, takes one that maps nothing but this
    /// package's image, if the instance starts from that image.
    pub(crate) fn take(&self, digest: &[u8; 32], controller: u64, snapshot: Option<&SnapshotRef>) -> Option<Reused> {
        let mut entries = self.entries.lock();
        let is_own = |reused: &Reused| reused.controller == controller && snapshot == Some(&reused.snapshot);
        let starts_from_package = snapshot.is_none_or(|s| s.base_generation == 0);
        let is_plain =
            |reused: &Reused| starts_from_package && reused.base.generation == 0 && reused.overlay.is_empty();
        let position = |fits: &dyn Fn(&Reused) -> bool| {
            entries.iter().rposition(|e| e.reused.base.header.digest == *digest && fits(&e.reused))
        };
        let at = position(&is_own).or_else(|| position(&is_plain))?;
        Some(entries.remove(at).reused)
    }

    /// Adds a memory, and evicts the oldest if the pool is full.
    pub(crate) fn put(&self, reused: Reused) {
        if reused.memory.bytes() > MAX_BYTES || self.max == 0 {
            return;
        }
        let entry = PoolEntry { reused, since: Instant::now() };
        let mut entries = self.entries.lock();
        let evicted = (entries.len() >= self.max).then(|| entries.remove(0));
        entries.push(entry);
        drop(entries);
        // Unmapping takes a while, so it happens without the lock.
        drop(evicted);
    }

    /// Bytes of RAM that the pool holds.
    pub fn bytes(&self) -> u64 {
        self.entries.lock().iter().map(|e| e.reused.memory.bytes() as u64).sum()
    }

    /// Drops all memories, when the machine is short of memory.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.entries.lock());
        drop(all);
    }

    /// Drops memories that nobody has taken for `linger`. Returns when to call again; `None` if the pool is empty.
    pub fn drop_idle(&self, linger: Duration) -> Option<Duration> {
        let mut entries = self.entries.lock();
        entries.retain(|e| e.since.elapsed() < linger);
        entries.iter().map(|e| linger.saturating_sub(e.since.elapsed())).min()
    }
}
