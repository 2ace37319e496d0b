//! A faulty disk for tests: full, read-only, failing, slow, or without power.
//!
//! A power cut loses some of the unsynced writes, in part and in any order. [`FaultyDisk`] records how to undo each
//! write, and undoes a random part of them when the power is cut.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rand::Rng;

use crate::disk::{Disk, DiskFaults, DiskOperation};

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing.
    #[default]
    None,
    /// `ENOSPC` for operations that need room.
    Full,
    /// `EROFS` for operations that change something.
    ReadOnly,
    /// `EIO` for writes.
    Writes,
    /// `EIO` for reads.
    Reads,
    /// `EIO` for syncs.
    Syncs,
    /// Every operation takes this long.
    Slow(Duration),
}

/// Bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// Injects faults into a [`Disk`].
#[derive(Default)]
pub struct FaultyDisk {
    state: Mutex<DiskState>,
}

#[derive(Default)]
struct DiskState {
    fault: DiskFault,
    /// Changes until the power is cut. `None`: the power stays on.
    fuse: Option<u32>,
    unsynced: Vec<Undo>,
}

enum Undo {
    Written { path: PathBuf, offset: u64, before: Vec<u8> },
    Resized { path: PathBuf, len: u64 },
    Created { path: PathBuf },
    Removed { path: PathBuf, content: Vec<u8> },
}

impl FaultyDisk {
    /// The disk that these faults apply to.
    pub fn disk(self: &Arc<FaultyDisk>) -> Disk {
        Disk::with_faults(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock()
    }

    /// Sets the fault from now on.
    pub fn set(&self, fault: DiskFault) {
        self.state().fault = fault;
    }

    /// Cuts the power after this many more changes. From then on every operation fails.
    pub fn cut_power_after(&self, changes: u32) {
        self.state().fuse = Some(changes);
    }

    /// Restores the power. The disk has lost nothing.
    pub fn power_on(&self) {
        self.state().fuse = None;
    }

    /// Whether the power has been cut.
    pub fn is_off(&self) -> bool {
        self.state().fuse == Some(0)
    }

    /// Loses a random part of the unsynced changes, then clears all faults.
    ///
    /// # Errors
    /// If a file cannot be changed.
    pub fn lose_power(&self, rng: &mut impl Rng) -> io::Result<()> {
        let mut state = self.state();
        (state.fuse, state.fault) = (None, DiskFault::None);
        // Sometimes everything is lost, sometimes nothing.
        let likely = [0.0, 0.3, 0.5, 0.9, 1.0][rng.random_range(0..5)];
        for undo in std::mem::take(&mut state.unsynced).into_iter().rev() {
            match undo {
                Undo::Written { path, offset, before } => {
                    let Ok(file) = File::options().write(true).open(&path) else { continue };
                    let len = file.metadata()?.len();
                    for (n, sector) in before.chunks(SECTOR).enumerate() {
                        let at = offset + (n * SECTOR) as u64;
                        if at < len && rng.random_bool(likely) {
                            let sector = &sector[..sector.len().min((len - at) as usize)];
                            file.write_all_at(sector, at)?;
                        }
                    }
                }
                Undo::Resized { path, len } => {
                    if rng.random_bool(likely)
                        && let Ok(file) = File::options().write(true).open(&path)
                    {
                        file.set_len(len)?;
                    }
                }
                Undo::Created { path } => {
                    if rng.random_bool(likely) {
                        let _ = fs::remove_file(path);
                    }
                }
                Undo::Removed { path, content } => {
                    if rng.random_bool(likely) && !path.exists() {
                        fs::write(path, content)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl DiskState {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check(&self, operation: &DiskOperation<'_>) -> io::Result<()> {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        let changes = !matches!(operation, DiskOperation::Read { .. } | DiskOperation::Open { create: false, .. });
        match (self.fault, operation) {
            (DiskFault::Full, DiskOperation::Write { .. }) => error(libc::ENOSPC),
            (DiskFault::Full, DiskOperation::Open { path, create: true }) if !path.exists() => error(libc::ENOSPC),
            (DiskFault::ReadOnly, DiskOperation::Sync { .. }) => Ok(()),
            (DiskFault::ReadOnly, _) if changes => error(libc::EROFS),
            (DiskFault::Writes, DiskOperation::Write { .. }) => error(libc::EIO),
            (DiskFault::Reads, DiskOperation::Read { .. }) => error(libc::EIO),
            (DiskFault::Syncs, DiskOperation::Sync { .. }) => error(libc::EIO),
            _ => Ok(()),
        }
    }
}

impl DiskFaults for FaultyDisk {
    fn before(&self, operation: DiskOperation<'_>) -> io::Result<()> {
        let mut state = self.state();
        if let DiskFault::Slow(time) = state.fault {
            drop(state);
            std::thread::sleep(time);
            state = self.state();
        }
        state.check(&operation)?;
        match operation {
            DiskOperation::Read { .. } | DiskOperation::Open { create: false, .. } => {
                return if state.fuse == Some(0) { state.change() } else { Ok(()) };
            }
            _ => state.change()?,
        }
        match operation {
            DiskOperation::Write { path, file, offset, len } => {
                let mut before = vec![0; len as usize];
                let had = file.metadata()?.len();
                let there = had.saturating_sub(offset).min(len) as usize;
                file.read_exact_at(&mut before[..there], offset)?;
                state.unsynced.push(Undo::Written { path: path.into(), offset, before });
            }
            DiskOperation::SetLen { path, file, len } => {
                let had = file.metadata()?.len();
                // Undone in reverse: first the length, then the content behind it.
                if len < had {
                    let mut before = vec![0; (had - len) as usize];
                    file.read_exact_at(&mut before, len)?;
                    state.unsynced.push(Undo::Written { path: path.into(), offset: len, before });
                }
                state.unsynced.push(Undo::Resized { path: path.into(), len: had });
            }
            DiskOperation::Open { path, create: true } if !path.exists() => {
                state.unsynced.push(Undo::Created { path: path.into() });
            }
            DiskOperation::Remove { path } => {
                if let Ok(content) = fs::read(path) {
                    state.unsynced.push(Undo::Removed { path: path.into(), content });
                }
            }
            DiskOperation::Sync { path } => state.synced(path),
            DiskOperation::Open { .. } | DiskOperation::Read { .. } => {}
        }
        Ok(())
    }
}

impl DiskState {
    /// A file's content, or a directory's entries, cannot be lost any more.
    fn synced(&mut self, synced: &Path) {
        self.unsynced.retain(|undo| match undo {
            Undo::Written { path, .. } | Undo::Resized { path, .. } => path != synced,
            Undo::Created { path } | Undo::Removed { path, .. } => path.parent() != Some(synced),
        });
    }
}
