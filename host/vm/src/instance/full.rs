//! An instance of the full tier: it can be saved, and a failed step can be rolled back.
//!
//! A guest is deterministic in the inputs of its steps. So its state before the last step is the state that it started
//! from, plus a replay of the log of steps since. A roll-back does just that.

use std::sync::Arc;

use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, StepFailure, StepInput, StepOutput};
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::{ControllerStore, MemorySources, Overlay, SavedSnapshot, resume, resume_in_place};

use crate::compiled_package::InstalledPackage;
use crate::guest::{Guest, GuestExports, InstantiateError, LoadError};
use crate::instance::origin::{Origin, StartError};
use crate::memory::Mapping;
use crate::memory_pool::Reused;
use crate::wasi::WasiGrant;

/// Most steps in the log. When it is full, the host saves the instance, and the log starts again.
const MAX_LOG_STEPS: usize = 256;
/// Most bytes in the log.
const MAX_LOG_BYTES: usize = 1 << 20;
/// While saves fail, the log may grow to this many times its limits. Then it is dropped, so that a full disk does not
/// exhaust memory. Only a roll-back would need it.
const MAX_UNSAVED: usize = 16;

/// A live instance with its step log.
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
    /// The log was dropped: no roll-back is possible until the next save.
    log_dropped: bool,
}

impl FullInstance {
    /// Maps the base image, and restores the snapshot that `origin` names. `registered`: controllers that the package has
    /// registered before.
    ///
    /// # Errors
    /// See [`StartError`].
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
        let reused = package.engine().memory_pool().take(&package.digest, store.id(), origin.snapshot());
        let mut is_in_place = false;
        let (base, pooled, overlay) = match (reused, &open) {
            (Some(reused), _) => {
                is_in_place = matches!(&origin, Origin::Snapshot(snapshot) if reused.holds(store.id(), snapshot));
                (reused.base, Some(reused.memory), reused.overlay)
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
            pooled,
            (&WasiGrant::default(), &Startup::default()),
        )?;
        let sources = match open {
            Some(open) if is_in_place => resume_in_place(&mut guest, base, open, &stale)?,
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
            log_dropped: false,
        })
    }

    /// Runs a step and logs its input.
    ///
    /// # Errors
    /// If the step fails; returns its events. The instance can then only be rolled back.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        let output = match self.guest.step(&input) {
            Ok(output) => output,
            Err(failure) => return Err((failure, input.events)),
        };
        if self.log_dropped {
            return Ok(output);
        }
        self.log_bytes += input.events.iter().map(|e| e.cost()).sum::<usize>() + size_of::<StepInput>();
        self.log.push(input);
        if self.log.len() >= MAX_UNSAVED * MAX_LOG_STEPS || self.log_bytes >= MAX_UNSAVED * MAX_LOG_BYTES {
            (self.log, self.log_bytes, self.log_dropped) = (Vec::new(), 0, true);
        }
        Ok(output)
    }

    /// Rolls back the last step, which failed. Returns the instance as it was before, and the number of replayed steps.
    ///
    /// # Errors
    /// If the log was dropped, the instance cannot start again, or a replayed step fails.
    pub fn rolled_back(
        self,
        package: &InstalledPackage,
        store: &ControllerStore,
    ) -> Result<(FullInstance, usize), StartError> {
        let FullInstance { guest, origin, registered_at_origin, log, log_dropped, .. } = self;
        drop(guest);
        if log_dropped {
            return Err(StartError::LogDropped);
        }
        let mut instance = FullInstance::start(package, store, origin, registered_at_origin)?;
        let steps = log.len();
        for input in log {
            // The host has committed the output when the step ran first.
            instance.step(input).map_err(|(failure, _)| StartError::Replay(failure.cause.as_str()))?;
        }
        Ok((instance, steps))
    }

    /// Whether the instance should be saved soon.
    pub fn log_is_full(&self) -> bool {
        self.log_dropped || self.log.len() >= MAX_LOG_STEPS || self.log_bytes >= MAX_LOG_BYTES
    }

    /// Writes a snapshot. With `suspending`, the caller drops the instance next. Otherwise it goes on from this snapshot
    /// with an empty log. `registered`: controllers that the package has registered.
    ///
    /// # Errors
    /// If the snapshot cannot be written. The instance can go on.
    pub fn save(
        &mut self,
        store: &ControllerStore,
        meta: SnapshotMeta,
        suspending: bool,
        registered: u32,
    ) -> std::io::Result<SavedSnapshot> {
        let state = self.guest.instance_state(self.sources.needs_touched_pages())?;
        let mut saved = store.save(state, &self.sources, meta, suspending)?;
        if !suspending {
            self.sources.previous = std::mem::take(&mut saved.previous);
            self.origin = Origin::Snapshot(saved.snapshot);
            self.registered_at_origin = registered;
            self.log = Vec::new();
            self.log_bytes = 0;
            self.log_dropped = false;
        }
        Ok(saved)
    }

    /// Ends the instance after the save that made `saved`, and gives its memory to the pool.
    pub fn recycle(self, package: &InstalledPackage, saved: &mut SavedSnapshot) {
        let FullInstance { mut guest, sources: MemorySources { base, overlay, .. }, controller, .. } = self;
        if base.generation != saved.snapshot.base_generation {
            return;
        }
        // A save may have written back pages to the image where this memory shows something else.
        let (memory, _) = guest.memory();
        if base.generation != 0 && (memory.mapped() < memory.size() || !overlay.is_empty()) {
            return;
        }
        if let Some(memory) = guest.into_pooled(std::mem::take(&mut saved.anonymous)) {
            package.engine().memory_pool().put(Reused { base, memory, overlay, controller, snapshot: saved.snapshot });
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

    /// Its whole state, memory and globals: for tests that compare instances.
    ///
    /// # Errors
    /// If the globals cannot be read.
    pub fn state(&mut self) -> Result<(Vec<u8>, Vec<u64>), InstantiateError> {
        let globals = self.guest.globals()?;
        let (memory, store) = self.guest.memory();
        Ok((memory.bytes(store).to_vec(), globals))
    }
}
