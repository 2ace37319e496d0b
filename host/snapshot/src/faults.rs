//! A bad disk, for tests: full, read-only, failing, slow; and one whose power is cut.
//!
//! What was written and not yet synced may be lost when the power goes, in part and in any order.
//! `BadDisk` remembers how to undo it and, when the power is cut, does so for some of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;

use crate::disk::{Disk, Faults, Operation};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// `ENOSPC` for whatever needs room.
    Full,
    /// `EROFS` for whatever changes something.
    ReadOnly,
    /// `EIO` for writes.
    Writes,
    /// `EIO` for reads.
    Reads,
    /// `EIO` when what was written is to be put on disk.
    Syncs,
    /// Everything takes this long.
    Slow(Duration),
}

/// Bytes that a disk writes wholly or not at all.
const SECTOR: usize = 512;

#[derive(Default)]
pub struct BadDisk {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fault: Fault,
    /// Changes until the power is cut; `None`: it stays on.
    fuse: Option<u32>,
    unsynced: Vec<Undo>,
}

enum Undo {
    Written { path: PathBuf, offset: u64, before: Vec<u8> },
    Resized { path: PathBuf, len: u64 },
    Created { path: PathBuf },
    Removed { path: PathBuf, content: Vec<u8> },
}

impl BadDisk {
    pub fn disk(self: &Arc<BadDisk>) -> Disk {
        Disk::with_faults(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Cuts the power after so many more changes: everything fails from then on.
    pub fn cut_power_after(&self, changes: u32) {
        self.state().fuse = Some(changes);
    }

    /// The disk works again and has lost nothing.
    pub fn power_on(&self) {
        self.state().fuse = None;
    }

    /// Whether the power has been cut.
    pub fn is_off(&self) -> bool {
        self.state().fuse == Some(0)
    }

    /// Loses some of what was not synced, and is good again.
    pub fn lose_power(&self, rng: &mut impl Rng) -> io::Result<()> {
        let mut state = self.state();
        (state.fuse, state.fault) = (None, Fault::None);
        // One whole loss in a while, and one of nothing.
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

impl State {
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

    fn check(&self, operation: &Operation<'_>) -> io::Result<()> {
        let error = |number| Err(io::Error::from_raw_os_error(number));
        let changes = !matches!(operation, Operation::Read { .. } | Operation::Open { create: false, .. });
        match (self.fault, operation) {
            (Fault::Full, Operation::Write { .. }) => error(libc::ENOSPC),
            (Fault::Full, Operation::Open { path, create: true }) if !path.exists() => error(libc::ENOSPC),
            (Fault::ReadOnly, Operation::Sync { .. }) => Ok(()),
            (Fault::ReadOnly, _) if changes => error(libc::EROFS),
            (Fault::Writes, Operation::Write { .. }) => error(libc::EIO),
            (Fault::Reads, Operation::Read { .. }) => error(libc::EIO),
            (Fault::Syncs, Operation::Sync { .. }) => error(libc::EIO),
            _ => Ok(()),
        }
    }
}

impl Faults for BadDisk {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        let mut state = self.state();
        if let Fault::Slow(time) = state.fault {
            drop(state);
            std::thread::sleep(time);
            state = self.state();
        }
        state.check(&operation)?;
        match operation {
            Operation::Read { .. } | Operation::Open { create: false, .. } => {
                return if state.fuse == Some(0) { state.change() } else { Ok(()) };
            }
            _ => state.change()?,
        }
        match operation {
            Operation::Write { path, file, offset, len } => {
                let mut before = vec![0; len as usize];
                let had = file.metadata()?.len();
                let there = had.saturating_sub(offset).min(len) as usize;
                file.read_exact_at(&mut before[..there], offset)?;
                state.unsynced.push(Undo::Written { path: path.into(), offset, before });
            }
            Operation::SetLen { path, file, len } => {
                let had = file.metadata()?.len();
                // Undone in the opposite order: first the length, then what was behind it.
                if len < had {
                    let mut before = vec![0; (had - len) as usize];
                    file.read_exact_at(&mut before, len)?;
                    state.unsynced.push(Undo::Written { path: path.into(), offset: len, before });
                }
                state.unsynced.push(Undo::Resized { path: path.into(), len: had });
            }
            Operation::Open { path, create: true } if !path.exists() => {
                state.unsynced.push(Undo::Created { path: path.into() });
            }
            Operation::Remove { path } => {
                if let Ok(content) = fs::read(path) {
                    state.unsynced.push(Undo::Removed { path: path.into(), content });
                }
            }
            Operation::Sync { path } => state.synced(path),
            Operation::Open { .. } | Operation::Read { .. } => {}
        }
        Ok(())
    }
}

impl State {
    /// A file's content is on disk from now on, or the entries of a directory.
    fn synced(&mut self, synced: &Path) {
        self.unsynced.retain(|undo| match undo {
            Undo::Written { path, .. } | Undo::Resized { path, .. } => path != synced,
            Undo::Created { path } | Undo::Removed { path, .. } => path.parent() != Some(synced),
        });
    }
}
