//! A live instance of either tier, as the host's loop handles it.

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
// Always in a box.
#[allow(clippy::large_enum_variant)]
pub enum Instance {
    Full(FullInstance),
    Soft(SoftInstance),
}

impl Instance {
    /// Starts or resumes. `wasi`, `startup`: for the soft tier. `registered`: controllers registered before.
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

    /// Runs a step. After an error, which gives the events back, it can only be rolled back, if that.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        match self {
            Instance::Full(instance) => instance.step(input),
            Instance::Soft(instance) => instance.step(input),
        }
    }

    /// SoftSuspension softly: alive, with its memory on disk.
    pub fn is_suspended(&self) -> bool {
        match self {
            Instance::Full(_) => false,
            Instance::Soft(instance) => instance.is_suspended(),
        }
    }

    /// Whether it is to be saved before it goes on.
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

    /// Has a look at its size, now and then.
    pub fn measure(&mut self) {
        match self {
            Instance::Full(instance) => instance.guest_mut().measure(),
            Instance::Soft(instance) => instance.guest_mut().measure(),
        }
    }

    /// Memory that suspending it gives back, when it was last measured, bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        let tables = match self {
            Instance::Full(_) => self.table_bytes(),
            Instance::Soft(_) => 0,
        };
        self.guest().anonymous_bytes() + tables
    }

    /// Tables, which one of the soft tier holds also while it is suspended, bytes.
    pub fn table_bytes(&self) -> u64 {
        self.guest().table_bytes() as u64
    }

    /// Size of the linear memory, bytes.
    pub fn memory_size(&self) -> u64 {
        self.guest().memory_size() as u64
    }
}
