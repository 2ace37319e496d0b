//! A resident instance with what is needed to go back: where it was resumed from, and the steps since.
//!
//! A guest is a function of its steps' inputs, so the state before the last step is the state it
//! was resumed from plus a replay of the log. That is how a step that traps is undone.

use std::sync::Arc;

use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, StepFailure, StepInput, StepOutput};
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::resume::{resume_in_place, resume};
use wasmop_snapshot::{ControllerStore, Overlay, SavedSnapshot, MemorySources};

use crate::compiled_package::InstalledPackage;
use crate::guest::{GuestExports, Guest, InstantiateError, LoadError};
use crate::instance::origin::{Origin, StartError};
use crate::memory::Mapping;
use crate::memory_pool::Reused;
use crate::wasi::WasiGrant;

/// The log is bounded: past this many steps or bytes the instance is saved, and the log starts anew.
const MAX_LOG_STEPS: usize = 256;
const MAX_LOG_BYTES: usize = 1 << 20;
/// While the disk refuses snapshots the log grows on, to so many times that. Then it is given up: memory is
/// not to run out because a disk is full, and only a step that fails meanwhile needs it.
const MAX_UNSAVED: usize = 16;

pub struct FullInstance {
    guest: Guest,
    // Keeps the compiled code loaded while the instance lives.
    _exports: Arc<GuestExports>,
    sources: MemorySources,
    controller: u64,
    origin: Origin,
    registered_at_origin: u32,
    log: Vec<StepInput>,
    log_bytes: usize,
    /// It became too long: nothing can be rolled back until the next save.
    log_given_up: bool,
}

impl FullInstance {
    /// Starts or resumes: maps the base image, puts in what the snapshot adds. `registered`:
    /// controllers registered before.
    pub fn start(
        package: &InstalledPackage,
        store: &ControllerStore,
        origin: Origin,
        registered: u32,
    ) -> Result<FullInstance, StartError> {
        let exports = package.exports()?;
        let image = package.image().ok_or(LoadError::NoBaseImage)?;
        let open = match &origin {
            Origin::Fresh => None,
            Origin::Snapshot(snapshot) => Some(store.open(snapshot)?),
        };
        let used = package.engine().memory_pool().take(&package.digest, store.id(), origin.snapshot());
        let mut is_there = false;
        let (base, spare, overlay) = match (used, &open) {
            (Some(used), _) => {
                is_there = matches!(&origin, Origin::Snapshot(snapshot) if used.holds(store.id(), snapshot));
                (used.base, Some(used.spare), used.overlay)
            }
            (None, Some(open)) => {
                let base = store.base(&open.header, image)?;
                open.read_ahead(&base);
                (base, None, Overlay::default())
            }
            (None, None) => (image.clone(), None, Overlay::default()),
        };
        let size = open.as_ref().map_or(base.size(), |o| o.header.memory_size);
        let mapping = Some(Mapping::of(&base, size).map_err(ImageError::from)?);
        let (mut guest, stale) = Guest::instantiate(
            package.engine(),
            &exports,
            package.limits(),
            registered,
            mapping,
            spare,
            (&WasiGrant::default(), &Startup::default()),
        )?;
        let sources = match open {
            Some(open) if is_there => resume_in_place(&mut guest, base, open, &stale)?,
            open => resume(&mut guest, store, base, open, overlay, &stale)?,
        };
        guest.expect_anonymous(sources.private_pages());
        Ok(FullInstance {
            guest,
            _exports: exports,
            sources,
            controller: store.id(),
            origin,
            registered_at_origin: registered,
            log: Vec::new(),
            log_bytes: 0,
            log_given_up: false,
        })
    }

    /// Runs a step and remembers its input. After an error, which gives the events back, the instance
    /// can only be rolled back.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        let output = match self.guest.step(&input) {
            Ok(output) => output,
            Err(failure) => return Err((failure, input.events)),
        };
        if self.log_given_up {
            return Ok(output);
        }
        self.log_bytes += input.events.iter().map(|e| e.cost()).sum::<usize>() + size_of::<StepInput>();
        self.log.push(input);
        if self.log.len() >= MAX_UNSAVED * MAX_LOG_STEPS || self.log_bytes >= MAX_UNSAVED * MAX_LOG_BYTES {
            (self.log, self.log_bytes, self.log_given_up) = (Vec::new(), 0, true);
        }
        Ok(output)
    }

    /// The instance as it was before its last step, which failed. Also returns how many steps were
    /// replayed.
    pub fn rolled_back(
        self,
        package: &InstalledPackage,
        store: &ControllerStore,
    ) -> Result<(FullInstance, usize), StartError> {
        let FullInstance { guest, origin, registered_at_origin, log, log_given_up, .. } = self;
        drop(guest);
        if log_given_up {
            return Err(StartError::LogGivenUp);
        }
        let mut instance = FullInstance::start(package, store, origin, registered_at_origin)?;
        let steps = log.len();
        for input in log {
            // Outputs were committed when the step ran the first time.
            instance.step(input).map_err(|(failure, _)| StartError::Replay(failure.cause.as_str()))?;
        }
        Ok((instance, steps))
    }

    pub fn log_is_full(&self) -> bool {
        self.log_given_up || self.log.len() >= MAX_LOG_STEPS || self.log_bytes >= MAX_LOG_BYTES
    }

    /// Writes a snapshot. With `suspending`, the instance is dropped next; else it goes on from
    /// this snapshot with an empty log.
    pub fn save(
        &mut self,
        store: &ControllerStore,
        moment: SnapshotMeta,
        suspending: bool,
        registered: u32,
    ) -> std::io::Result<SavedSnapshot> {
        let state = self.guest.instance_state(self.sources.needs_touched_pages())?;
        let mut saved = store.save(state, &self.sources, moment, suspending)?;
        if !suspending {
            self.sources.previous = std::mem::take(&mut saved.previous);
            self.origin = Origin::Snapshot(saved.snapshot);
            self.registered_at_origin = registered;
            self.log = Vec::new();
            self.log_bytes = 0;
            self.log_given_up = false;
        }
        Ok(saved)
    }

    /// Ends it after a save, and keeps its memory for the next one of the package.
    pub fn recycle(self, package: &InstalledPackage, saved: &mut SavedSnapshot) {
        let FullInstance { mut guest, sources: MemorySources { base, overlay, .. }, controller, .. } = self;
        if base.generation != saved.snapshot.base_generation {
            return;
        }
        // A save may have moved pages into an image of its own that this memory does not show there.
        let (memory, _) = guest.memory();
        if base.generation != 0 && (memory.mapped() < memory.size() || !overlay.is_empty()) {
            return;
        }
        if let Some(spare) = guest.into_pooled(std::mem::take(&mut saved.anonymous)) {
            package.engine().memory_pool().put(Reused { base, spare, overlay, controller, snapshot: saved.snapshot });
        }
    }

    /// Size of the linear memory, bytes.
    pub fn memory_size(&self) -> u64 {
        self.guest.memory_size() as u64
    }

    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest {
        &mut self.guest
    }

    /// All of its state: memory and globals.
    pub fn state(&mut self) -> Result<(Vec<u8>, Vec<u64>), InstantiateError> {
        let globals = self.guest.globals()?;
        let (memory, store) = self.guest.memory();
        Ok((memory.bytes(store).to_vec(), globals))
    }
}
