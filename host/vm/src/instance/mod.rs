//! A live instance of either tier, as the host's loop handles it.

use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, StepFailure, StepInput, StepOutput};
use wasmop_package::Tier;
use wasmop_snapshot::ControllerStore;

use crate::compiled_package::InstalledPackage;
use crate::guest::Guest;
use crate::instance::{Instance, Origin, StartError, SoftInstance};
use crate::wasi::WasiGrant;

// Always in a box.
#[allow(clippy::large_enum_variant)]
pub enum Live {
    Full(Instance),
    Soft(SoftInstance),
}

impl Live {
    /// Starts or resumes. `wasi`, `startup`: for the soft tier. `registered`: controllers registered before.
    pub fn start(
        package: &InstalledPackage,
        store: &ControllerStore,
        wasi: Option<&WasiGrant>,
        startup: &Startup,
        origin: Origin,
        registered: u32,
    ) -> Result<Live, StartError> {
        match package.tier() {
            Tier::Full => Instance::start(package, store, origin, registered).map(Live::Full),
            Tier::Soft => {
                let nothing = WasiGrant::default();
                SoftInstance::start(package, (wasi.unwrap_or(&nothing), startup), registered).map(Live::Soft)
            }
        }
    }

    /// Runs a step. After an error, which gives the events back, it can only be rolled back, if that.
    pub fn step(&mut self, input: StepInput) -> Result<StepOutput, (StepFailure, Vec<Event>)> {
        match self {
            Live::Full(instance) => instance.step(input),
            Live::Soft(instance) => instance.step(input),
        }
    }

    /// Suspended softly: alive, with its memory on disk.
    pub fn is_suspended(&self) -> bool {
        match self {
            Live::Full(_) => false,
            Live::Soft(instance) => instance.is_suspended(),
        }
    }

    /// Whether it is to be saved before it goes on.
    pub fn log_is_full(&self) -> bool {
        match self {
            Live::Full(instance) => instance.log_is_full(),
            Live::Soft(_) => false,
        }
    }

    fn guest(&self) -> &Guest {
        match self {
            Live::Full(instance) => instance.guest(),
            Live::Soft(instance) => instance.guest(),
        }
    }

    /// Has a look at its size, now and then.
    pub fn measure(&mut self) {
        match self {
            Live::Full(instance) => instance.guest_mut().measure(),
            Live::Soft(instance) => instance.guest_mut().measure(),
        }
    }

    /// Memory that suspending it gives back, when it was last measured, bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        let tables = match self {
            Live::Full(_) => self.table_bytes(),
            Live::Soft(_) => 0,
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
