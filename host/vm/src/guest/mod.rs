//! One live instance of a package: takes a batch of events into a step, gives the step's actions out.
//!
//! Nothing a step emits has any effect before [`Guest::step`] returns `Ok`; what a failed step
//! emitted is only there to explain the failure.

use std::fs::File;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use wasmop_core::startup::Startup;
use wasmop_core::step::{LogLine, StepFailure, StepFault, StepInput, StepOutput};
use wasmop_package::manifest::Limits;
use wasmop_package::{MAX_MUTABLE_GLOBALS, Tier};
use wasmop_snapshot::PAGE;
use wasmop_snapshot::format::Run;
use wasmop_snapshot::resume::ResumeTarget;
use wasmop_snapshot::save::InstanceState;
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use crate::context::Context;
use crate::engine::Engine;
use crate::log_limit::MAX_LOG_BYTES_PER_STEP;
use crate::memory::{Mapping, Memory, MemoryCount, Spare, with_mapping};
use crate::step_input::{FIRST_MONOTONIC_NS, step_input};
use crate::step_scheduler;
use crate::wasi::{MAX_HANDLES, Wasi, WasiGrant};

/// CPU time a package may use for its own initialisation, at least. It runs once, at install;
/// Go's runtime and package initialisers take up to 140 ms for a whole controller-runtime.
pub(crate) const MIN_INIT_CPU: Duration = Duration::from_secs(10);

/// Steps between two measurements of an instance's size.
const STEPS_UNMEASURED: u32 = 16;
/// The exports of a package, found once per compiled component.
pub struct Exports {
    pre: InstancePre<Context>,
    step: ComponentExportIndex,
    /// Only in the full tier.
    state: Option<StateExports>,
    /// Bytes that an instance holds besides its memory and tables, whatever it does.
    fixed_bytes: u64,
}

struct StateExports {
    init: ComponentExportIndex,
    global_count: ComponentExportIndex,
    global_get: ComponentExportIndex,
    global_set: ComponentExportIndex,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the package does not fit this host: {0}")]
    Incompatible(String),
    #[error("the package exports no `{0}`; build it again with this version of wasmop")]
    MissingExport(&'static str),
    #[error("the package is of the soft tier and has no base image")]
    NoBaseImage,
}

impl Exports {
    /// Addresses where the file of the compiled code is mapped.
    pub fn image(&self) -> std::ops::Range<usize> {
        let range = self.pre.component().image_range();
        range.start as usize..range.end as usize
    }

    pub fn new(engine: &Engine, component: &wasmtime::component::Component, tier: Tier) -> Result<Exports, LoadError> {
        let incompatible = |e: wasmtime::Error| LoadError::Incompatible(format!("{e:#}"));
        let pre = engine.linker(tier).and_then(|linker| linker.instantiate_pre(component)).map_err(incompatible)?;
        let find = |interface: &'static str, function: &'static str| {
            let instance = component.get_export_index(None, interface).ok_or(LoadError::MissingExport(interface))?;
            component.get_export_index(Some(&instance), function).ok_or(LoadError::MissingExport(function))
        };
        const STATE: &str = "wasmop:internal/state";
        let state = match tier {
            Tier::Full => Some(StateExports {
                init: find(STATE, "init")?,
                global_count: find(STATE, "global-count")?,
                global_get: find(STATE, "global-get")?,
                global_set: find(STATE, "global-set")?,
            }),
            Tier::Soft => None,
        };
        Ok(Exports { step: find("wasmop:controller/guest@0.1.0", "step")?, state, pre, fixed_bytes: 0 })
    }

    /// Instances hold so many bytes besides memory and tables, which count against their memory limit.
    pub fn with_fixed_bytes(self, fixed_bytes: u64) -> Exports {
        Exports { fixed_bytes, ..self }
    }
}

/// A live guest.
pub struct Guest {
    store: Store<Context>,
    memory: Memory,
    /// As of the last look at it.
    anonymous_pages: usize,
    /// Looks left out until the next one.
    unmeasured: u32,
    /// Of the memory, bytes, when it was last looked.
    measured_size: usize,
    engine: Engine,
    step: TypedFunc<(), ()>,
    /// Only in the full tier.
    state: Option<StateAccess>,
}

#[derive(Clone, Copy)]
struct StateAccess {
    init: TypedFunc<(), ()>,
    global_count: TypedFunc<(), (u32,)>,
    global_get: TypedFunc<(u32,), (u64,)>,
    global_set: TypedFunc<(u32, u64), ()>,
}

#[derive(Debug, thiserror::Error)]
pub enum InstantiateError {
    #[error(transparent)]
    Memory(#[from] MemoryCount),
    #[error("instantiating: {0}")]
    Wasm(String),
    #[error("what it is granted of the machine cannot be opened: {0}")]
    Wasi(std::io::Error),
    #[error("the globals of a package of the soft tier can't be read or set")]
    NoState,
}

impl From<wasmtime::Error> for InstantiateError {
    fn from(e: wasmtime::Error) -> Self {
        InstantiateError::Wasm(format!("{e:#}"))
    }
}

impl Guest {
    /// An instance whose memory begins as `mapping`, but for the pages returned, if it is a `spare` one:
    /// they are to be put right first. Its globals are those of the module: set them with
    /// [`Guest::set_globals`] unless it is to run [`Guest::init`].
    ///
    /// One of the soft tier runs its initialisation here, with what it is granted and started with; for others that
    /// means nothing.
    pub fn instantiate(
        engine: &Engine,
        exports: &Exports,
        limits: &Limits,
        registered: u32,
        mapping: Option<Mapping<'_>>,
        spare: Option<Spare>,
        (wasi, startup): (&WasiGrant, &Startup),
    ) -> Result<(Guest, Vec<u32>), InstantiateError> {
        let mut store = Store::new(engine.wasmtime(), Context::new(limits, exports.fixed_bytes, registered));
        let soft = exports.state.is_none();
        // Handles would be state outside of the snapshot; the world has none.
        store.set_max_component_handles(if soft { MAX_HANDLES } else { 0 });
        store.limiter(|context| context);
        store.epoch_deadline_callback(|mut cx| {
            let context = cx.data_mut();
            if !context.cpu_left().is_zero() {
                step_scheduler::slice_used();
                return Ok(UpdateDeadline::Continue(1));
            }
            Err(context.cpu_limit_reached("used the CPU for"))
        });
        store.set_epoch_deadline(1);
        let context = store.data_mut();
        context.restart_cpu_time();
        let cpu_limit = context.cpu_limit;
        if soft {
            context.set_wasi(Wasi::granting(wasi, startup).map_err(InstantiateError::Wasi)?);
        }
        if soft {
            context.begin(&step_input(FIRST_MONOTONIC_NS, Vec::new()));
            context.cpu_limit = cpu_limit.max(MIN_INIT_CPU);
        }
        // No code of a full package runs here: its structure was checked (`wasmop_package`).
        let _ticking = engine.ticking();
        let (instance, memory, stale) =
            with_mapping(mapping, spare, || exports.pre.instantiate(&mut store).map_err(InstantiateError::from))?;
        store.data_mut().cpu_limit = cpu_limit;
        let state = match &exports.state {
            Some(state) => Some(StateAccess {
                init: instance.get_typed_func(&mut store, state.init)?,
                global_count: instance.get_typed_func(&mut store, state.global_count)?,
                global_get: instance.get_typed_func(&mut store, state.global_get)?,
                global_set: instance.get_typed_func(&mut store, state.global_set)?,
            }),
            None => None,
        };
        let measured_size = memory.size();
        let guest = Guest {
            step: instance.get_typed_func(&mut store, exports.step)?,
            state,
            store,
            memory,
            anonymous_pages: 0,
            unmeasured: 0,
            measured_size,
            engine: engine.clone(),
        };
        Ok((guest, stale))
    }

    /// Runs the module's own initialisation, once in the life of an instance.
    pub fn init(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
        match self.state {
            Some(StateAccess { init, .. }) => self.run(input, init),
            None => Ok(StepOutput { logs: self.take_logs(), ..StepOutput::default() }),
        }
    }

    /// What it logged while it was instantiated.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        let context = self.store.data_mut();
        context.take_streams();
        std::mem::take(&mut context.output.logs)
    }

    /// Runs one step.
    pub fn step(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
        let step = self.step;
        self.run(input, step)
    }

    fn run(&mut self, input: &StepInput, function: TypedFunc<(), ()>) -> Result<StepOutput, StepFailure> {
        self.store.data_mut().begin(input);
        self.store.set_epoch_deadline(1);
        let result = {
            let _ticking = self.engine.ticking();
            function.call(&mut self.store, ())
        };
        let context = self.store.data_mut();
        context.take_streams();
        let mut output = std::mem::take(&mut context.output);
        if context.log_bytes > MAX_LOG_BYTES_PER_STEP {
            output.logs.push(LogLine {
                level: tracing::Level::WARN,
                target: "wasmop".into(),
                message: format!("more than {MAX_LOG_BYTES_PER_STEP} bytes logged in one step; the rest was dropped"),
                fields: String::new(),
            });
        }
        context.inbox.clear();
        context.current = Bytes::new();
        match result {
            Ok(()) => Ok(StepOutput { refused_memory: context.memory_limit_hit, ..output }),
            Err(trap) => {
                let detail = format!("{trap:#}");
                let cause = if context.cpu_limit_hit {
                    StepFault::CpuLimit
                } else if context.memory_limit_hit {
                    StepFault::MemoryLimit
                } else if context.action_limit_hit {
                    StepFault::ActionLimit
                } else if matches!(trap.downcast_ref::<wasmtime::Trap>(), Some(wasmtime::Trap::UnreachableCodeReached))
                {
                    StepFault::Panic
                } else {
                    StepFault::Trap
                };
                let reason = trap.root_cause().to_string();
                Err(StepFailure { cause, reason, detail, entered: context.entered, logs: output.logs })
            }
        }
    }

    /// The mutable globals' bits, in order.
    pub fn globals(&mut self) -> Result<Vec<u64>, InstantiateError> {
        self.refuel();
        let engine = self.engine.clone();
        let _ticking = engine.ticking();
        let state = self.state.ok_or(InstantiateError::NoState)?;
        let count = self.global_count(state)?;
        (0..count).map(|i| Ok(state.global_get.call(&mut self.store, (i,))?.0)).collect()
    }

    pub fn set_globals(&mut self, globals: &[u64]) -> Result<(), InstantiateError> {
        self.refuel();
        let engine = self.engine.clone();
        let _ticking = engine.ticking();
        let state = self.state.ok_or(InstantiateError::NoState)?;
        let count = self.global_count(state)?;
        if count as usize != globals.len() {
            return Err(InstantiateError::Wasm(format!("{} globals saved, the module has {count}", globals.len())));
        }
        for (i, bits) in globals.iter().enumerate() {
            state.global_set.call(&mut self.store, (i as u32, *bits))?;
        }
        Ok(())
    }

    fn global_count(&mut self, state: StateAccess) -> Result<u32, InstantiateError> {
        let (count,) = state.global_count.call(&mut self.store, ())?;
        if count as usize > MAX_MUTABLE_GLOBALS {
            return Err(InstantiateError::Wasm(format!("the module says that it has {count} globals")));
        }
        Ok(count)
    }

    /// Starts the CPU budget anew; calls outside a step must not trip over the last one's.
    fn refuel(&mut self) {
        self.store.data_mut().restart_cpu_time();
        self.store.set_epoch_deadline(1);
    }

    /// What a save of it is made of. `touched`: with the pages of the mapped image that it has touched.
    pub fn instance_state(&mut self, touched: bool) -> io::Result<InstanceState<'_>> {
        let globals = self.globals().map_err(io::Error::other)?;
        let anonymous = self.memory.dirty_pages()?;
        let touched = match touched {
            // Without that kernel interface there is no reading ahead.
            true => self.memory.touched_pages().unwrap_or_default(),
            false => Vec::new(),
        };
        Ok(InstanceState { memory: self.memory.bytes(&mut self.store), globals, anonymous, touched })
    }

    /// The memory and the store that guards it.
    pub fn memory(&mut self) -> (&Memory, &mut Store<Context>) {
        (&self.memory, &mut self.store)
    }

    pub fn memory_size(&self) -> usize {
        self.memory.size()
    }

    /// Bytes of its tables, which it holds as long as it lives.
    pub fn table_bytes(&self) -> usize {
        self.store.data().table_bytes()
    }

    /// It is known to have so many pages that nobody else has: the next look can wait.
    pub fn expect_anonymous(&mut self, pages: usize) {
        (self.anonymous_pages, self.unmeasured) = (pages, if pages == 0 { 0 } else { STEPS_UNMEASURED });
    }

    /// Has a look at its size, when its memory has grown and once in `STEPS_UNMEASURED` steps: it means asking the
    /// kernel about each page.
    pub fn measure(&mut self) {
        let size = self.memory.size();
        if self.unmeasured > 0 && size == self.measured_size {
            self.unmeasured -= 1;
        } else if let Ok(pages) = self.memory.dirty_pages() {
            (self.anonymous_pages, self.unmeasured) = (pages.len(), STEPS_UNMEASURED);
            self.measured_size = size;
        }
    }

    /// Memory that nobody else has, when it was last looked, bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        (self.anonymous_pages * PAGE) as u64
    }

    /// Ends the instance and keeps its memory for another: see [`Memory::into_spare`].
    pub fn into_spare(self, anonymous: Vec<u32>) -> Option<Spare> {
        let Guest { store, memory, .. } = self;
        drop(store);
        memory.into_spare(anonymous)
    }
}

impl ResumeTarget for Guest {
    fn bytes(&mut self) -> &[u8] {
        self.memory.bytes(&mut self.store)
    }

    fn size(&self) -> usize {
        self.memory.size()
    }

    fn set_globals(&mut self, globals: &[u64]) -> io::Result<()> {
        Guest::set_globals(self, globals).map_err(io::Error::other)
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()> {
        self.memory.write(&mut self.store, offset, data)
    }

    fn read_pages(&mut self, file: &File, file_offset: u64, pages: &[u32]) -> io::Result<()> {
        self.memory.read_pages(&mut self.store, file, file_offset, pages)
    }

    fn map_from(&mut self, file: &File, file_offset: u64, offset: usize, len: usize) -> io::Result<()> {
        self.memory.map_from(&mut self.store, file, file_offset, offset, len)
    }

    fn forget_pages(&mut self, pages: &[u32]) -> io::Result<()> {
        self.memory.forget_pages(&mut self.store, pages)
    }

    fn expect_writes(&mut self, runs: &[Run]) {
        self.memory.expect_writes(runs.iter().map(|run| (run.page, run.count)));
    }
}

#[cfg(test)]
mod tests;
