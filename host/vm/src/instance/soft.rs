//! An instance of the soft tier: it stays in this process, and while it is suspended its memory is
//! on disk.
//!
//! Its globals can't be read and its WASI handles can't be made again, so there is no snapshot: a step
//! that fails can't be undone, and another process begins anew. But the host owns its memory:
//!
//! ```text
//! step   a written page becomes anonymous   file  │ A │ B │ · │ D │     memory  A  B' ·  D    B' anonymous
//! suspend, 1   write anonymous pages        file  │ A │ B'│ · │ D │     memory  A  B' ·  D
//! suspend, 2   map the file anew            file  │ A │ B'│ · │ D │     memory  ·  ·  ·  ·    nothing resident
//! step   a page that is touched comes back  file  │ A │ B'│ · │ D │     memory  ·  B' ·  ·
//! ```
//!
//! The file is the one exception from "a mapped file is never written". It is written only where a
//! page of this memory, its only mapping, is anonymous: that page no longer shows the file. And what is
//! written is the page's own content, so the memory looks the same before, between and after the two
//! steps; a failure between them loses nothing, the pages are still dirty and written next time.
//!
//! The file has no name: it ends with the instance, or with the host however that ends.

use std::io;

use rustix::fs::FallocateFlags;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, LogLine, StepFailure, StepInput, StepOutput};
use wasmop_snapshot::disk::DiskFile;
use wasmop_snapshot::format::is_zero;
use wasmop_snapshot::{ControllerStore, PAGE};

use crate::compiled_package::InstalledPackage;
use crate::guest::Guest;
use crate::instance::origin::StartError;
use crate::wasi::WasiGrant;

pub struct SoftInstance {
    // Keeps the code it needs loaded; the package's `GuestExports` go, they serve to make instances.
    guest: Guest,
    /// Where its memory goes; made at the first suspension.
    backing: Option<Backing>,
    suspended: bool,
    /// Logged while it was instantiated. Belongs to the first step, so that the limit of the log counts it.
    init_logs: Vec<LogLine>,
}

struct Backing {
    file: DiskFile,
    /// Bytes of memory that are mapped from it; only grows.
    len: usize,
}

/// What a suspension did. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftSuspension {
    /// Of pages that were dirty, now released.
    pub dirty_bytes: u64,
    pub written_bytes: u64,
    /// That the memory takes on disk.
    pub disk_bytes: u64,
}

impl SoftInstance {
    /// A new instance; its initialisation, which is part of instantiating a component, has run.
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

    /// Runs a step. After an error, which gives the events back, the instance is lost.
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

    /// Writes its dirty pages to its file and releases them. After an error it goes on as before.
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
        // Only ever makes it longer: what is mapped stays.
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

    /// No step since it was suspended.
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

/// Makes part of the file zero, `zeros`; a hole where the file system can.
fn clear(file: &DiskFile, at: usize, zeros: &[u8]) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file.for_reading()?, hole, at as u64, zeros.len() as u64) {
        Ok(()) => Ok(()),
        Err(_) => file.write_at(zeros, at as u64),
    }
}

#[cfg(test)]
mod tests;
