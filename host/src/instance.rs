//! A resident instance with what is needed to go back: where it was resumed from, and the steps since.
//!
//! A guest is a function of its steps' inputs, so the state before the last step is the state it
//! was resumed from plus a replay of the log. That is how a step that traps is undone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::code::InstalledPackage;
use crate::guest::{Event, Exports, Guest, InstantiateError, LoadError, StepFailure, StepInput, StepOutput};
use crate::memory::PAGE;
use crate::snapshot::format::Moment;
use crate::snapshot::image::ImageError;
use crate::snapshot::{BaseImage, ControllerStore, Overlay, Previous, Saved, SnapshotRef};

/// The log is bounded: past this many steps or bytes the instance is saved, and the log starts anew.
const MAX_LOG_STEPS: usize = 256;
const MAX_LOG_BYTES: usize = 1 << 20;

/// Steps between two measurements of an instance's size.
pub const STEPS_UNMEASURED: u32 = 16;
/// Pages in a row of a spare memory that are copied from the image instead of given back.
const MAX_COPIED_RUN: usize = 32;

/// Where an instance came from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The package's base image: it has run nothing but its initialisation.
    Fresh,
    Snapshot(SnapshotRef),
}

pub struct Instance {
    guest: Guest,
    // Keeps the compiled code loaded while the instance lives.
    _exports: Arc<Exports>,
    base: Arc<BaseImage>,
    /// What is saved of it already.
    previous: Previous,
    /// Pages that were copied from the base image, ascending.
    clean: Vec<u32>,
    overlay: Overlay,
    controller: u64,
    origin: Origin,
    registered_at_origin: u32,
    log: Vec<StepInput>,
    log_bytes: usize,
    /// As of the last look.
    anonymous_bytes: u64,
    /// Steps until the next one.
    unmeasured: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Instantiate(#[from] InstantiateError),
    #[error(transparent)]
    Snapshot(#[from] ImageError),
    #[error("replaying the steps since the last snapshot failed: {0}")]
    Replay(&'static str),
}

impl Instance {
    /// Starts or resumes: maps the base image, puts in what the snapshot adds. `registered`:
    /// controllers registered before.
    pub fn start(
        package: &InstalledPackage,
        store: &ControllerStore,
        origin: Origin,
        registered: u32,
    ) -> Result<Instance, StartError> {
        let exports = package.exports()?;
        let image = package.image().ok_or(LoadError::NoBaseImage)?;
        let open = match &origin {
            Origin::Fresh => None,
            Origin::Snapshot(snapshot) => Some(store.open(snapshot)?),
        };
        let (sum, generation) =
            open.as_ref().map_or((image.header.data_sum, 0), |o| (o.header.base_sum, o.header.base_generation));
        let (base, spare, mut overlay) =
            match (package.spares().take(&package.digest, sum, generation, store.id()), &open) {
                (Some((base, spare, overlay)), _) => (base, Some(spare), overlay),
                (None, Some(open)) => (store.base(&open.header, image)?, None, Overlay::default()),
                (None, None) => (image.clone(), None, Overlay::default()),
            };
        let size = open.as_ref().map_or(base.size(), |o| o.header.memory_size);
        let mapping = Some(base.mapping(size).map_err(ImageError::from)?);
        let (mut guest, stale) =
            Guest::instantiate(package.engine(), &exports, package.limits(), registered, mapping, spare)?;
        let (previous, clean) = match open {
            Some(open) => {
                let clean = renew(&mut guest, &base, &stale, &open.previous, &overlay)?;
                let copied = open.apply(store, &mut guest, &mut overlay, &stale)?;
                let mut previous = open.previous;
                previous.copied(copied);
                (previous, clean)
            }
            None => {
                let previous = Previous::default();
                let clean = renew(&mut guest, &base, &stale, &previous, &overlay)?;
                guest.set_globals(&base.header.globals)?;
                (previous, clean)
            }
        };
        let anonymous_bytes = ((previous.len() + clean.len()).saturating_sub(overlay.pages().count()) * PAGE) as u64;
        Ok(Instance {
            guest,
            _exports: exports,
            base,
            previous,
            clean,
            overlay,
            controller: store.id(),
            origin,
            registered_at_origin: registered,
            log: Vec::new(),
            log_bytes: 0,
            anonymous_bytes,
            unmeasured: STEPS_UNMEASURED,
        })
    }

    /// Runs a step and remembers its input. After an error, which gives the events back, the instance
    /// can only be rolled back.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        let output = match self.guest.step(&input) {
            Ok(output) => output,
            Err(failure) => return Err((failure, input.events)),
        };
        self.log_bytes += input.events.iter().map(|e| e.cost()).sum::<usize>() + size_of::<StepInput>();
        self.log.push(input);
        Ok(output)
    }

    /// The instance as it was before its last step, which failed. Also returns how many steps were
    /// replayed.
    pub fn rolled_back(
        self,
        package: &InstalledPackage,
        store: &ControllerStore,
    ) -> Result<(Instance, usize), StartError> {
        let Instance { guest, origin, registered_at_origin, log, .. } = self;
        drop(guest);
        let mut instance = Instance::start(package, store, origin, registered_at_origin)?;
        let steps = log.len();
        for input in log {
            // Outputs were committed when the step ran the first time.
            instance.step(input).map_err(|(failure, _)| StartError::Replay(failure.cause.as_str()))?;
        }
        Ok((instance, steps))
    }

    pub fn log_is_full(&self) -> bool {
        self.log.len() >= MAX_LOG_STEPS || self.log_bytes >= MAX_LOG_BYTES
    }

    /// Writes a snapshot. With `suspending`, the instance is dropped next; else it goes on from
    /// this snapshot with an empty log.
    pub fn save(
        &mut self,
        store: &ControllerStore,
        moment: Moment,
        generation: u64,
        suspending: bool,
        registered: u32,
    ) -> std::io::Result<Saved> {
        let mut saved =
            store.save(&mut self.guest, &self.base, &self.previous, &self.clean, moment, generation, suspending)?;
        if !suspending {
            self.previous = std::mem::take(&mut saved.previous);
            self.origin = Origin::Snapshot(saved.snapshot);
            self.registered_at_origin = registered;
            self.log = Vec::new();
            self.log_bytes = 0;
        }
        Ok(saved)
    }

    /// Ends it after a save, and keeps its memory for the next one of the package.
    pub fn recycle(self, package: &InstalledPackage, saved: &mut Saved) {
        let Instance { guest, base, overlay, controller, .. } = self;
        if let Some(spare) = guest.into_spare(std::mem::take(&mut saved.anonymous)) {
            package.spares().put(base, spare, overlay, controller);
        }
    }

    /// Has a look at its size, now and then: it means asking the kernel about each page.
    pub fn measure(&mut self) {
        if self.unmeasured > 0 {
            self.unmeasured -= 1;
            return;
        }
        let (memory, _) = self.guest.memory();
        if let Ok(pages) = memory.dirty_pages() {
            self.anonymous_bytes = (pages.len() * PAGE) as u64;
            self.unmeasured = STEPS_UNMEASURED;
        }
    }

    /// Memory that nobody else has, when it was last measured.
    pub fn anonymous_bytes(&self) -> u64 {
        self.anonymous_bytes
    }

    /// All of its state: memory and globals.
    pub fn state(&mut self) -> Result<(Vec<u8>, Vec<u64>), InstantiateError> {
        let globals = self.guest.globals()?;
        let (memory, store) = self.guest.memory();
        Ok((memory.bytes(store).to_vec(), globals))
    }

    /// Size of the linear memory, bytes.
    pub fn memory_size(&self) -> u64 {
        self.guest.memory_size() as u64
    }
}

/// Puts pages of a spare memory right that hold what its last instance left (`stale`), or are mapped from
/// what its controller's file was then (`overlay`): all that `next` does not bring. Returns, ascending, the
/// ones that hold a copy of what the base image has.
fn renew(
    guest: &mut Guest,
    base: &BaseImage,
    stale: &[u32],
    next: &Previous,
    overlay: &Overlay,
) -> Result<Vec<u32>, ImageError> {
    let (memory, store) = guest.memory();
    let in_memory = (memory.size() / PAGE) as u32;
    // Below these is not the base image, so they need content of their own.
    let mapped: BTreeSet<u32> = overlay.pages().filter(|page| *page < in_memory && !next.has(*page)).collect();
    let left: Vec<u32> = stale.iter().copied().filter(|page| !next.has(*page) && !mapped.contains(page)).collect();
    let (mut copied, mut forgotten) = (Vec::new(), Vec::new());
    for run in left.chunk_by(|a, b| a + 1 == *b) {
        // A long run is the last instance's heap: this one will hardly need it.
        let useful = run.len() <= MAX_COPIED_RUN && run[run.len() - 1] < base.pages();
        if useful { copied.extend_from_slice(run) } else { forgotten.extend_from_slice(run) }
    }
    memory.forget_pages(store, &forgotten)?;
    for page in mapped {
        if page < base.pages() {
            copied.push(page);
        } else {
            memory.write(store, page as usize * PAGE, &[0; PAGE])?;
        }
    }
    copied.sort_unstable();
    for run in copied.chunk_by(|a, b| a + 1 == *b) {
        let (file, offset) = base.place_of(run[0])?;
        memory.read_pages(store, file, offset, run)?;
    }
    Ok(copied)
}
