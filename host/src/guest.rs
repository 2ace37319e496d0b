//! One live instance of a package: takes a batch of events into a step, gives the step's actions out.
//!
//! Nothing a step emits has any effect before [`Guest::step`] returns `Ok`; what a failed step
//! emitted is only there to explain the failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use wasmop_package::Tier;
use wasmop_package::manifest::Limits;
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::code::{FIRST_MONOTONIC_NS, MIN_INIT_CPU, step_input};
use crate::engine::Engine;
use crate::engine::world::wasmop::controller::{runtime, sys};
use crate::memory::{Mapping, Memory, MemoryCount, PAGE, Spare, with_mapping};
use crate::wasi::{MAX_HANDLES, Wasi};

pub use runtime::EventKind;

/// What a guest is handed in a step.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    pub id: u64,
    pub aux: u32,
    pub payload: Bytes,
    /// The task this event belongs to, 0 if none: whom to blame if the step fails.
    pub task: u64,
}

impl Event {
    /// Bytes this event holds in the host, payload and bookkeeping.
    pub fn cost(&self) -> usize {
        self.payload.len() + size_of::<Event>()
    }
}

/// Everything that determines a step besides the instance's state. Kept for replay: the same input
/// on the same state gives the same state, bit for bit.
#[derive(Clone, Debug)]
pub struct StepInput {
    /// Wall clock, nanoseconds since the Unix epoch.
    pub now: u64,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic: u64,
    /// Seed of the random numbers handed out in this step.
    pub seed: [u8; 32],
    pub events: Vec<Event>,
}

/// An action of a guest.
#[derive(Clone, Debug)]
pub enum Action {
    Register { spec: String },
    Call(Call),
    DropCall { id: u64 },
    Done { task: u64, requeue_after: Option<Duration>, error: Option<String> },
    Mapped { task: u64, keys: String },
}

#[derive(Clone, Debug)]
pub struct Call {
    pub id: u64,
    pub task: u64,
    pub target: String,
    pub method: String,
    pub path: String,
    pub headers: String,
    pub body: Bytes,
}

/// A line the guest logged.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub level: tracing::Level,
    pub target: String,
    pub message: String,
    pub fields: String,
}

/// What a step emitted.
#[derive(Debug, Default)]
pub struct StepOutput {
    pub actions: Vec<Action>,
    pub logs: Vec<LogLine>,
    /// Time from the step's clock to the instance's next deadline.
    pub park: Option<Duration>,
}

/// Why a step did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Panic,
    CpuLimit,
    MemoryLimit,
    Trap,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Panic => "panic",
            Cause::CpuLimit => "cpu-limit",
            Cause::MemoryLimit => "memory-limit",
            Cause::Trap => "trap",
        }
    }
}

#[derive(Debug)]
pub struct StepFailure {
    pub cause: Cause,
    /// The trap with its wasm backtrace.
    pub detail: String,
    /// The task that last said it runs, 0 if none did.
    pub entered: u64,
    pub logs: Vec<LogLine>,
}

/// Steps between two measurements of an instance's size.
const STEPS_UNMEASURED: u32 = 16;
/// Most bytes of log a guest may emit in one step; what exceeds it is dropped with a note.
pub(crate) const MAX_LOG_BYTES_PER_STEP: usize = 256 << 10;
/// Most actions in one step.
const MAX_ACTIONS_PER_STEP: usize = 65_536;
/// Most bytes that the requests of one step may hold in the host.
const MAX_ACTION_BYTES_PER_STEP: usize = 64 << 20;

/// The store's data: input and output of the step under way, and its limits.
pub struct Context {
    now: u64,
    monotonic: u64,
    rng: StdRng,
    inbox: VecDeque<Event>,
    current: Bytes,
    output: StepOutput,
    log_bytes: usize,
    action_bytes: usize,
    registered: u32,
    entered: u64,
    max_memory: usize,
    memory_limit_hit: bool,
    cpu_limit: Duration,
    cpu_started: Duration,
    /// Time spent waiting in this step: as good as CPU time, the thread is taken.
    waited: Duration,
    cpu_limit_hit: bool,
    /// Only in the soft tier.
    wasi: Option<Box<Wasi>>,
}

fn thread_cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

impl Context {
    fn new(limits: &Limits, registered: u32) -> Context {
        Context {
            now: 0,
            monotonic: 0,
            rng: StdRng::from_seed([0; 32]),
            inbox: VecDeque::new(),
            current: Bytes::new(),
            output: StepOutput::default(),
            log_bytes: 0,
            action_bytes: 0,
            registered,
            entered: 0,
            max_memory: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            memory_limit_hit: false,
            cpu_limit: Duration::from_nanos(limits.cpu_per_step_ns),
            cpu_started: Duration::ZERO,
            waited: Duration::ZERO,
            cpu_limit_hit: false,
            wasi: None,
        }
    }

    /// Everything a step starts with.
    fn begin(&mut self, input: &StepInput) {
        self.now = input.now;
        self.monotonic = input.monotonic;
        self.rng = StdRng::from_seed(input.seed);
        self.inbox = input.events.iter().cloned().collect();
        self.output = StepOutput::default();
        (self.log_bytes, self.action_bytes, self.entered) = (0, 0, 0);
        (self.memory_limit_hit, self.cpu_limit_hit) = (false, false);
        self.restart_cpu_time();
    }

    fn restart_cpu_time(&mut self) {
        (self.cpu_started, self.waited) = (thread_cpu_time(), Duration::ZERO);
    }

    /// What the step may still use.
    pub(crate) fn cpu_left(&self) -> Duration {
        self.cpu_limit.saturating_sub(thread_cpu_time().saturating_sub(self.cpu_started) + self.waited)
    }

    /// Counts time spent waiting.
    pub(crate) fn spend(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// The error that ends the step. `did`: what it did for too long.
    pub(crate) fn cpu_limit_reached(&mut self, did: &str) -> wasmtime::Error {
        self.cpu_limit_hit = true;
        wasmtime::Error::msg(format!("{did} more than {:?} in one step", self.cpu_limit))
    }

    /// Full packages import nothing that asks for it.
    pub(crate) fn wasi(&mut self) -> &mut Wasi {
        self.wasi.get_or_insert_with(|| Box::new(Wasi::denying_all()))
    }

    /// What was written to WASI's streams so far goes before what is logged next.
    fn take_streams(&mut self) {
        if let Some(wasi) = &mut self.wasi {
            self.log_bytes += wasi.take_lines(&mut self.output.logs);
        }
    }

    fn act(&mut self, bytes: usize, action: Action) -> wasmtime::Result<()> {
        self.action_bytes += bytes;
        if self.output.actions.len() >= MAX_ACTIONS_PER_STEP || self.action_bytes > MAX_ACTION_BYTES_PER_STEP {
            return Err(wasmtime::Error::msg(format!(
                "the step emitted more than {MAX_ACTIONS_PER_STEP} actions or {MAX_ACTION_BYTES_PER_STEP} bytes"
            )));
        }
        self.output.actions.push(action);
        Ok(())
    }
}

impl ResourceLimiter for Context {
    fn memory_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.max_memory;
        self.memory_limit_hit |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        // Packages can't grow tables (validated); this bounds their initial size.
        Ok(desired <= 1 << 20)
    }
}

impl sys::Host for Context {
    fn log(&mut self, level: sys::Level, target: String, message: String, fields: String) -> wasmtime::Result<()> {
        self.take_streams();
        self.log_bytes += target.len() + message.len() + fields.len() + size_of::<LogLine>();
        if self.log_bytes > MAX_LOG_BYTES_PER_STEP {
            return Ok(());
        }
        // Standard streams are written in pieces: Go's runtime prints a crash word by word.
        if matches!(&*target, "stdout" | "stderr")
            && let Some(last) = self.output.logs.last_mut()
            && last.target == target
            && !last.message.ends_with('\n')
        {
            last.message.push_str(&message);
            return Ok(());
        }
        let level = match level {
            sys::Level::Trace => tracing::Level::TRACE,
            sys::Level::Debug => tracing::Level::DEBUG,
            sys::Level::Info => tracing::Level::INFO,
            sys::Level::Warn => tracing::Level::WARN,
            sys::Level::Error => tracing::Level::ERROR,
        };
        self.output.logs.push(LogLine { level, target, message, fields });
        Ok(())
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now)
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        Ok(self.monotonic)
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        Ok(self.rng.next_u64())
    }

    fn park(&mut self, timeout_ns: u64) -> wasmtime::Result<()> {
        self.output.park = Some(Duration::from_nanos(timeout_ns));
        Ok(())
    }
}

impl runtime::Host for Context {
    fn next(&mut self) -> wasmtime::Result<runtime::Event> {
        Ok(match self.inbox.pop_front() {
            None => {
                self.current = Bytes::new();
                runtime::Event { kind: EventKind::Nothing, id: 0, aux: 0, len: 0 }
            }
            Some(event) => {
                self.current = event.payload;
                // Payloads are bounded by `MAX_STEP_BYTES`, far below 4 GiB.
                runtime::Event { kind: event.kind, id: event.id, aux: event.aux, len: self.current.len() as u32 }
            }
        })
    }

    fn read(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(std::mem::take(&mut self.current).into())
    }

    fn register(&mut self, spec: String) -> wasmtime::Result<u32> {
        self.act(spec.len(), Action::Register { spec })?;
        self.registered += 1;
        Ok(self.registered - 1)
    }

    fn call(&mut self, id: u64, task: u64, r: runtime::Request) -> wasmtime::Result<()> {
        let bytes = r.target.len() + r.method.len() + r.path.len() + r.headers.len() + r.body.len();
        let call = Call {
            id,
            task,
            target: r.target,
            method: r.method,
            path: r.path,
            headers: r.headers,
            body: r.body.into(),
        };
        self.act(bytes, Action::Call(call))
    }

    fn drop_call(&mut self, id: u64) -> wasmtime::Result<()> {
        self.act(0, Action::DropCall { id })
    }

    fn done(&mut self, task: u64, requeue_after: Option<u64>, error: Option<String>) -> wasmtime::Result<()> {
        let bytes = error.as_ref().map_or(0, String::len);
        let requeue_after = requeue_after.map(Duration::from_nanos);
        self.act(bytes, Action::Done { task, requeue_after, error })
    }

    fn mapped(&mut self, task: u64, keys: String) -> wasmtime::Result<()> {
        self.act(keys.len(), Action::Mapped { task, keys })
    }

    fn enter(&mut self, task: u64) -> wasmtime::Result<()> {
        self.entered = task;
        Ok(())
    }
}

/// The exports of a package, found once per compiled component.
pub struct Exports {
    pre: InstancePre<Context>,
    step: ComponentExportIndex,
    /// Only in the full tier.
    state: Option<StateExports>,
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
        Ok(Exports { step: find("wasmop:controller/guest@0.1.0", "step")?, state, pre })
    }
}

/// A live instance.
pub struct Guest {
    store: Store<Context>,
    memory: Memory,
    /// As of the last look at it.
    anonymous_pages: usize,
    /// Looks left out until the next one.
    unmeasured: u32,
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
    /// One of the soft tier runs its initialisation here.
    pub fn instantiate(
        engine: &Engine,
        exports: &Exports,
        limits: &Limits,
        registered: u32,
        mapping: Option<Mapping<'_>>,
        spare: Option<Spare>,
    ) -> Result<(Guest, Vec<u32>), InstantiateError> {
        let mut store = Store::new(engine.wasmtime(), Context::new(limits, registered));
        let soft = exports.state.is_none();
        // Handles would be state outside of the snapshot; the world has none.
        store.set_max_component_handles(if soft { MAX_HANDLES } else { 0 });
        store.limiter(|context| context);
        store.epoch_deadline_callback(|mut cx| {
            let context = cx.data_mut();
            if !context.cpu_left().is_zero() {
                return Ok(UpdateDeadline::Continue(1));
            }
            Err(context.cpu_limit_reached("used the CPU for"))
        });
        store.set_epoch_deadline(1);
        let context = store.data_mut();
        context.restart_cpu_time();
        let cpu_limit = context.cpu_limit;
        let _ticking = soft.then(|| {
            context.begin(&step_input(FIRST_MONOTONIC_NS, Vec::new()));
            context.wasi();
            context.cpu_limit = cpu_limit.max(MIN_INIT_CPU);
            engine.ticking()
        });
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
        let guest = Guest {
            step: instance.get_typed_func(&mut store, exports.step)?,
            state,
            store,
            memory,
            anonymous_pages: 0,
            unmeasured: 0,
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
            Ok(()) => Ok(output),
            Err(trap) => {
                let detail = format!("{trap:#}");
                let cause = if context.cpu_limit_hit {
                    Cause::CpuLimit
                } else if context.memory_limit_hit {
                    Cause::MemoryLimit
                } else if matches!(trap.downcast_ref::<wasmtime::Trap>(), Some(wasmtime::Trap::UnreachableCodeReached))
                {
                    Cause::Panic
                } else {
                    Cause::Trap
                };
                Err(StepFailure { cause, detail, entered: context.entered, logs: output.logs })
            }
        }
    }

    /// The mutable globals' bits, in order.
    pub fn globals(&mut self) -> Result<Vec<u64>, InstantiateError> {
        self.refuel();
        let state = self.state.ok_or(InstantiateError::NoState)?;
        let (count,) = state.global_count.call(&mut self.store, ())?;
        (0..count).map(|i| Ok(state.global_get.call(&mut self.store, (i,))?.0)).collect()
    }

    pub fn set_globals(&mut self, globals: &[u64]) -> Result<(), InstantiateError> {
        self.refuel();
        let state = self.state.ok_or(InstantiateError::NoState)?;
        let (count,) = state.global_count.call(&mut self.store, ())?;
        if count as usize != globals.len() {
            return Err(InstantiateError::Wasm(format!("{} globals saved, the module has {count}", globals.len())));
        }
        for (i, bits) in globals.iter().enumerate() {
            state.global_set.call(&mut self.store, (i as u32, *bits))?;
        }
        Ok(())
    }

    /// Starts the CPU budget anew; calls outside a step must not trip over the last one's.
    fn refuel(&mut self) {
        self.store.data_mut().restart_cpu_time();
        self.store.set_epoch_deadline(1);
    }

    /// The memory and the store that guards it.
    pub fn memory(&mut self) -> (&Memory, &mut Store<Context>) {
        (&self.memory, &mut self.store)
    }

    pub fn memory_size(&self) -> usize {
        self.memory.size()
    }

    /// It is known to have so many pages that nobody else has: the next look can wait.
    pub fn expect_anonymous(&mut self, pages: usize) {
        (self.anonymous_pages, self.unmeasured) = (pages, if pages == 0 { 0 } else { STEPS_UNMEASURED });
    }

    /// Has a look at its size, once in [`STEPS_UNMEASURED`] steps: it means asking the kernel about each
    /// page.
    pub fn measure(&mut self) {
        if self.unmeasured > 0 {
            self.unmeasured -= 1;
        } else if let Ok(pages) = self.memory.dirty_pages() {
            (self.anonymous_pages, self.unmeasured) = (pages.len(), STEPS_UNMEASURED);
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

/// Writes guest log lines to the host's log.
pub fn emit_logs(controller: &Arc<str>, logs: &[LogLine]) {
    for line in logs {
        let controller = controller.as_ref();
        let (source, fields, message) = (line.target.as_str(), line.fields.as_str(), line.message.trim_end());
        match line.level {
            tracing::Level::ERROR => tracing::error!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::DEBUG => tracing::debug!(target: "guest", controller, source, fields, "{message}"),
            _ => tracing::trace!(target: "guest", controller, source, fields, "{message}"),
        }
    }
}
