//! One live instance of a package in wasmtime. A step takes a batch of events in and gives actions out.
//!
//! Nothing that a step emits has an effect before [`Guest::step`] returns `Ok`. The logs of a failed step only explain
//! the failure.

use std::fs::File;
use std::io;
use std::time::Duration;

use wasmop_core::startup::Startup;
use wasmop_core::step::{LogLine, StepFailure, StepInput, StepOutput};
use wasmop_package::manifest::Limits;
use wasmop_package::{MAX_MUTABLE_GLOBALS, Tier};
use wasmop_snapshot::format::PageRun;
use wasmop_snapshot::{InstanceState, PAGE, ResumeTarget};
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use crate::engine::Engine;
use crate::memory::{Mapping, Memory, PooledMemory};
use crate::memory_creator::{MemoryCount, with_mapping};
use crate::step_context::StepContext;
use crate::step_input::{FIRST_MONOTONIC_NS, step_input};
use crate::step_scheduler;
use crate::wasi::{MAX_HANDLES, Wasi, WasiGrant};

/// Least CPU limit of a package's initialisation, which runs once, at install. Go's runtime and the package initialisers
/// of a whole controller-runtime take up to 140 ms.
pub(crate) const MIN_INIT_CPU: Duration = Duration::from_secs(10);

/// Steps between two measurements of an instance's size.
const STEPS_UNMEASURED: u32 = 16;

/// The exports of a package, looked up once for each loaded component.
pub struct GuestExports {
    pre: InstancePre<StepContext>,
    step: ComponentExportIndex,
    /// Full tier only.
    state: Option<StateExports>,
    /// Bytes that every instance holds besides memory and tables.
    fixed_bytes: u64,
}

struct StateExports {
    init: ComponentExportIndex,
    global_count: ComponentExportIndex,
    global_get: ComponentExportIndex,
    global_set: ComponentExportIndex,
}

/// Why a package cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It imports what this host does not have, or its code cannot be read.
    #[error("the package does not fit this host: {0}")]
    Incompatible(String),
    /// It lacks an interface or function.
    #[error("the package exports no `{0}`; build it again with this version of wasmop")]
    MissingExport(&'static str),
    /// A base image was asked of a package of the soft tier.
    #[error("the package is of the soft tier and has no base image")]
    NoBaseImage,
}

impl GuestExports {
    /// Addresses of the compiled code.
    pub(crate) fn code_range(&self) -> std::ops::Range<usize> {
        let range = self.pre.component().image_range();
        range.start as usize..range.end as usize
    }

    /// Links `component` and looks up its exports.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn new(
        engine: &Engine,
        component: &wasmtime::component::Component,
        tier: Tier,
    ) -> Result<GuestExports, LoadError> {
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
        Ok(GuestExports { step: find("wasmop:controller/guest@0.1.0", "step")?, state, pre, fixed_bytes: 0 })
    }

    /// Sets the bytes that every instance holds besides memory and tables. They count against its memory limit.
    pub(crate) fn with_fixed_bytes(self, fixed_bytes: u64) -> GuestExports {
        GuestExports { fixed_bytes, ..self }
    }
}

/// A live instance in wasmtime.
pub struct Guest {
    store: Store<StepContext>,
    memory: Memory,
    /// Private pages at the last measurement.
    anonymous_pages: usize,
    /// Measurements to skip until the next one.
    unmeasured: u32,
    /// Size of the memory at the last measurement, bytes.
    measured_size: usize,
    engine: Engine,
    step: TypedFunc<(), ()>,
    /// Full tier only.
    state: Option<StateAccess>,
}

#[derive(Clone, Copy)]
struct StateAccess {
    init: TypedFunc<(), ()>,
    global_count: TypedFunc<(), (u32,)>,
    global_get: TypedFunc<(u32,), (u64,)>,
    global_set: TypedFunc<(u32, u64), ()>,
}

/// Why there is no instance, or its globals cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum InstantiateError {
    /// It has no linear memory, or several.
    #[error(transparent)]
    Memory(#[from] MemoryCount),
    /// wasmtime, or the guest itself, failed.
    #[error("instantiating: {0}")]
    Wasm(String),
    /// A granted directory cannot be opened.
    #[error("a granted directory cannot be opened: {0}")]
    Wasi(std::io::Error),
    /// Packages of the soft tier do not export their globals.
    #[error("the globals of a package of the soft tier cannot be read or set")]
    NoState,
}

impl From<wasmtime::Error> for InstantiateError {
    fn from(e: wasmtime::Error) -> Self {
        InstantiateError::Wasm(format!("{e:#}"))
    }
}

impl Guest {
    /// Makes an instance whose memory begins as `mapping`. Returns it with the stale pages of a `pooled` memory, which the
    /// caller resets first. Its globals are the module's: call [`Guest::init`] or [`Guest::set_globals`] next.
    ///
    /// A guest of the soft tier runs its initialisation here, with its grant and startup. Other guests ignore both.
    ///
    /// # Errors
    /// See [`InstantiateError`].
    pub(crate) fn instantiate(
        engine: &Engine,
        exports: &GuestExports,
        limits: &Limits,
        registered: u32,
        mapping: Option<Mapping<'_>>,
        pooled: Option<PooledMemory>,
        (wasi, startup): (&WasiGrant, &Startup),
    ) -> Result<(Guest, Vec<u32>), InstantiateError> {
        let mut store = Store::new(engine.wasmtime(), StepContext::new(limits, exports.fixed_bytes, registered));
        let soft = exports.state.is_none();
        // Handles would be state outside of the snapshot. The world has none.
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
        let cpu_limit = context.cpu_limit();
        if soft {
            context.set_wasi(Wasi::granting(wasi, startup).map_err(InstantiateError::Wasi)?);
        }
        if soft {
            context.begin(&step_input(FIRST_MONOTONIC_NS, Vec::new()));
            context.replace_cpu_limit(cpu_limit.max(MIN_INIT_CPU));
        }
        // No code of a package of the full tier runs here: `wasmop_package` refuses start functions.
        let _ticking = engine.ticking();
        let (instance, memory, stale) =
            with_mapping(mapping, pooled, || exports.pre.instantiate(&mut store).map_err(InstantiateError::from))?;
        store.data_mut().replace_cpu_limit(cpu_limit);
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

    /// Runs the module's initialisation, once in the life of an instance.
    ///
    /// # Errors
    /// If it traps or exceeds a limit.
    pub(crate) fn init(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
        match self.state {
            Some(StateAccess { init, .. }) => self.run(input, init),
            None => Ok(StepOutput { logs: self.take_logs(), ..StepOutput::default() }),
        }
    }

    /// Takes what the guest logged while it was instantiated.
    pub(crate) fn take_logs(&mut self) -> Vec<LogLine> {
        self.store.data_mut().take_logs()
    }

    /// Runs one step.
    ///
    /// # Errors
    /// If the step traps or exceeds a limit. The instance must not run any more.
    pub(crate) fn step(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
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
        let output = context.finish();
        match result {
            Ok(()) => Ok(output),
            Err(trap) => Err(StepFailure {
                cause: context.cause(&trap),
                reason: trap.root_cause().to_string(),
                detail: format!("{trap:#}"),
                entered: context.entered(),
                logs: output.logs,
            }),
        }
    }

    /// Bits of the mutable globals, in order of the module.
    ///
    /// # Errors
    /// If the guest has none to read, or fails.
    pub(crate) fn globals(&mut self) -> Result<Vec<u64>, InstantiateError> {
        self.restart_cpu_time();
        let engine = self.engine.clone();
        let _ticking = engine.ticking();
        let state = self.state.ok_or(InstantiateError::NoState)?;
        let count = self.global_count(state)?;
        (0..count).map(|i| Ok(state.global_get.call(&mut self.store, (i,))?.0)).collect()
    }

    /// Sets the bits of the mutable globals, in order of the module.
    ///
    /// # Errors
    /// If the module has another number of globals, or fails.
    pub(crate) fn set_globals(&mut self, globals: &[u64]) -> Result<(), InstantiateError> {
        self.restart_cpu_time();
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

    /// Starts the CPU budget again, since the last step's does not count for calls outside of steps.
    fn restart_cpu_time(&mut self) {
        self.store.data_mut().restart_cpu_time();
        self.store.set_epoch_deadline(1);
    }

    /// The state for a save. `touched`: include the touched pages of the mapped image.
    ///
    /// # Errors
    /// If the globals or the dirty pages cannot be read.
    pub(crate) fn instance_state(&mut self, touched: bool) -> io::Result<InstanceState<'_>> {
        let globals = self.globals().map_err(io::Error::other)?;
        let anonymous = self.memory.dirty_pages()?;
        let touched = match touched {
            // Without that kernel interface, resumes do not prefetch.
            true => self.memory.touched_pages().unwrap_or_default(),
            false => Vec::new(),
        };
        Ok(InstanceState { memory: self.memory.bytes(&mut self.store), globals, anonymous, touched })
    }

    /// The memory, and the store that proves that the guest is not running.
    pub(crate) fn memory(&mut self) -> (&Memory, &mut Store<StepContext>) {
        (&self.memory, &mut self.store)
    }

    /// Size of the memory, bytes.
    pub(crate) fn memory_size(&self) -> usize {
        self.memory.size()
    }

    /// Bytes of the tables.
    pub(crate) fn table_bytes(&self) -> usize {
        self.store.data().table_bytes()
    }

    /// Sets the number of private pages, where the caller knows it. The next measurement can wait.
    pub(crate) fn expect_anonymous(&mut self, pages: usize) {
        (self.anonymous_pages, self.unmeasured) = (pages, if pages == 0 { 0 } else { STEPS_UNMEASURED });
    }

    /// Measures the private pages, if the memory has grown or after [`STEPS_UNMEASURED`] steps: it makes the kernel look
    /// at each page.
    pub(crate) fn measure(&mut self) {
        let size = self.memory.size();
        if self.unmeasured > 0 && size == self.measured_size {
            self.unmeasured -= 1;
        } else if let Ok(pages) = self.memory.dirty_pages() {
            (self.anonymous_pages, self.unmeasured) = (pages.len(), STEPS_UNMEASURED);
            self.measured_size = size;
        }
    }

    /// Private memory at the last measurement, bytes.
    pub(crate) fn anonymous_bytes(&self) -> u64 {
        (self.anonymous_pages * PAGE) as u64
    }

    /// Ends the instance and gives its memory to the pool: see [`Memory::into_pooled`].
    pub(crate) fn into_pooled(self, anonymous: Vec<u32>) -> Option<PooledMemory> {
        let Guest { store, memory, .. } = self;
        drop(store);
        memory.into_pooled(anonymous)
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

    fn discard_pages(&mut self, pages: &[u32]) -> io::Result<()> {
        self.memory.discard_pages(&mut self.store, pages)
    }

    fn prefault(&mut self, runs: &[PageRun]) {
        self.memory.prefault(runs.iter().map(|run| (run.page, run.count)));
    }
}

#[cfg(test)]
mod tests;
