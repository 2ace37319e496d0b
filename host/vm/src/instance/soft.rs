//! An instance of the soft tier: it stays in this process, and a suspend moves its memory to disk.
//!
//! Its globals cannot be read and its WASI handles cannot be restored, so there are no snapshots. A failed step cannot be
//! rolled back, and another process starts from nothing. But the host owns its memory:
//!
//! ```text
//! step         a written page becomes anonymous   file  │ A │ B │ · │ D │     memory  A  B' ·  D    B' anonymous
//! suspend, 1   write anonymous pages              file  │ A │ B'│ · │ D │     memory  A  B' ·  D
//! suspend, 2   map the file again                 file  │ A │ B'│ · │ D │     memory  ·  ·  ·  ·    nothing resident
//! step         a touched page comes back          file  │ A │ B'│ · │ D │     memory  ·  B' ·  ·
//! ```
//!
//! This file is the exception to the rule that nothing writes to a mapped file. A suspend writes only pages that are
//! anonymous in this memory, the file's only mapping, so the memory does not show the place that is written. It writes
//! the page's own content, so the memory looks the same after each of the two parts. A failure between them loses
//! nothing: the pages are still dirty, and the next suspend writes them.
//!
//! The file has no name. It ends with the instance, or with the host's process.

use std::io;

use rustix::fs::FallocateFlags;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, LogLine, StepFailure, StepInput, StepOutput};
use wasmop_snapshot::disk::DiskFile;
use wasmop_snapshot::{ControllerStore, PAGE, is_zero};

use crate::compiled_package::InstalledPackage;
use crate::guest::Guest;
use crate::instance::origin::StartError;
use crate::wasi::WasiGrant;

/// A live instance and the file for its memory.
pub struct SoftInstance {
    // Keeps the code loaded. The package's `GuestExports` only serve to make instances.
    guest: Guest,
    /// The file for its memory, made by the first suspend.
    backing: Option<Backing>,
    suspended: bool,
    /// Lines logged while it was instantiated. They go to the output of the first step.
    init_logs: Vec<LogLine>,
}

struct Backing {
    file: DiskFile,
    /// Bytes of memory that are mapped from the file. Only grows.
    len: usize,
}

/// The result of a suspend, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftSuspension {
    /// Dirty pages that it released.
    pub dirty_bytes: u64,
    /// Written to disk: dirty pages that are not zero.
    pub written_bytes: u64,
    /// Taken by the memory on disk.
    pub disk_bytes: u64,
}

impl SoftInstance {
    /// Makes an instance. That runs its initialisation, which is part of instantiating a component. `surroundings`: what
    /// it is granted and started with. `registered`: controllers that the package has registered before.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        package: &InstalledPackage,
        surroundings: (&WasiGrant, &Startup),
        registered: u32,
    ) -> Result<SoftInstance, StartError> {
        let exports = package.exports()?;
        let (guest, _) =
            Guest::instantiate(package.engine(), &exports, package.limits(), registered, None, None, surroundings)?;
        Ok(SoftInstance::new(guest))
    }

    fn new(mut guest: Guest) -> SoftInstance {
        let init_logs = guest.take_logs();
        SoftInstance { guest, backing: None, suspended: false, init_logs }
    }

    /// Runs a step.
    ///
    /// # Errors
    /// If the step fails; returns its events. The instance is then lost.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        self.suspended = false;
        let mut logs = std::mem::take(&mut self.init_logs);
        match self.guest.step(&input) {
            Ok(mut output) => {
                logs.append(&mut output.logs);
                Ok(StepOutput { logs, ..output })
            }
            Err(mut failure) => {
                logs.append(&mut failure.logs);
                Err((StepFailure { logs, ..failure }, input.events))
            }
        }
    }

    /// Writes its dirty pages to its file and releases all pages.
    ///
    /// # Errors
    /// If the disk fails or the quota is exceeded. The instance can go on.
    pub fn suspend(&mut self, store: &ControllerStore) -> io::Result<SoftSuspension> {
        let (memory, quiescent) = self.guest.memory();
        let backing = match &mut self.backing {
            Some(backing) => backing,
            none => none.insert(Backing { file: store.unnamed_file()?, len: 0 }),
        };
        let size = memory.size();
        let dirty = memory.dirty_pages()?;
        let most = backing.file.allocated()? + (dirty.len() * PAGE) as u64;
        store.check_quota(most.min(size as u64))?;
        // Memories only grow, so this never truncates what is mapped.
        backing.file.set_len(size as u64)?;
        let bytes = memory.bytes(quiescent);
        let mut written_bytes = 0;
        for run in dirty.chunk_by(|a, b| a + 1 == *b) {
            let pages = &bytes[run[0] as usize * PAGE..][..run.len() * PAGE];
            let mut at = run[0] as usize * PAGE;
            for piece in pages.as_chunks::<PAGE>().0.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
                let piece = piece.as_flattened();
                if !is_zero(&piece[..PAGE]) {
                    backing.file.write_at(piece, at as u64)?;
                    written_bytes += piece.len() as u64;
                } else if at < backing.len {
                    clear(&backing.file, at, piece)?;
                }
                at += piece.len();
            }
        }
        memory.map_from(quiescent, backing.file.for_reading()?, 0, 0, size)?;
        backing.len = size;
        self.suspended = true;
        self.guest.expect_anonymous(0);
        let disk_bytes = backing.file.allocated()?;
        Ok(SoftSuspension { dirty_bytes: (dirty.len() * PAGE) as u64, written_bytes, disk_bytes })
    }

    /// Whether no step has run since it was suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest {
        &mut self.guest
    }
}

/// Clears a part of the file: punches a hole, or writes `zeros` where the file system has no holes.
fn clear(file: &DiskFile, at: usize, zeros: &[u8]) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file.for_reading()?, hole, at as u64, zeros.len() as u64) {
        Ok(()) => Ok(()),
        Err(_) => file.write_at(zeros, at as u64),
    }
}

#[cfg(test)]
mod tests;
