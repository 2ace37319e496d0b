//! A live instance of either tier: starts or resumes, steps, and is saved or suspended.

use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, StepFailure, StepInput, StepOutput};
use wasmop_package::Tier;
use wasmop_snapshot::ControllerStore;

use crate::compiled_package::InstalledPackage;
use crate::guest::Guest;
use crate::wasi::WasiGrant;

pub use full::FullInstance;
pub use origin::{Origin, StartError};
pub use soft::{SoftInstance, SoftSuspension};

mod full;
mod origin;
mod soft;

/// An instance of either tier.
// The host holds instances in boxes only.
#[allow(clippy::large_enum_variant)]
pub enum Instance {
    /// With snapshots and roll-back.
    Full(FullInstance),
    /// Without: it is suspended within the process.
    Soft(SoftInstance),
}

impl Instance {
    /// Starts or resumes an instance. `wasi` (`None`: nothing) and `startup` are for the soft tier. `registered`:
    /// controllers that the package has registered before.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        package: &InstalledPackage,
        store: &ControllerStore,
        wasi: Option<&WasiGrant>,
        startup: &Startup,
        origin: Origin,
        registered: u32,
    ) -> Result<Instance, StartError> {
        match package.tier() {
            Tier::Full => FullInstance::start(package, store, origin, registered).map(Instance::Full),
            Tier::Soft => {
                let nothing = WasiGrant::default();
                SoftInstance::start(package, (wasi.unwrap_or(&nothing), startup), registered).map(Instance::Soft)
            }
        }
    }

    /// Runs a step.
    ///
    /// # Errors
    /// If the step fails; returns its events. An instance of the full tier can then only be rolled back, one of the soft
    /// tier is lost.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        match self {
            Instance::Full(instance) => instance.step(input),
            Instance::Soft(instance) => instance.step(input),
        }
    }

    /// Whether it is suspended within the process: alive, with its memory on disk. Soft tier only.
    pub fn is_suspended(&self) -> bool {
        match self {
            Instance::Full(_) => false,
            Instance::Soft(instance) => instance.is_suspended(),
        }
    }

    /// Whether its step log is full, so that it should be saved soon.
    pub fn log_is_full(&self) -> bool {
        match self {
            Instance::Full(instance) => instance.log_is_full(),
            Instance::Soft(_) => false,
        }
    }

    fn guest(&self) -> &Guest {
        match self {
            Instance::Full(instance) => instance.guest(),
            Instance::Soft(instance) => instance.guest(),
        }
    }

    /// Measures its size, at most once in some steps.
    pub fn measure(&mut self) {
        match self {
            Instance::Full(instance) => instance.guest_mut().measure(),
            Instance::Soft(instance) => instance.guest_mut().measure(),
        }
    }

    /// Memory that suspending it would free, as last measured, bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        let tables = match self {
            Instance::Full(_) => self.table_bytes(),
            Instance::Soft(_) => 0,
        };
        self.guest().anonymous_bytes() + tables
    }

    /// Size of the tables, bytes. A suspended instance of the soft tier still holds them.
    pub fn table_bytes(&self) -> u64 {
        self.guest().table_bytes() as u64
    }

    /// Size of the linear memory, bytes.
    pub fn memory_size(&self) -> u64 {
        self.guest().memory_size() as u64
    }
}
