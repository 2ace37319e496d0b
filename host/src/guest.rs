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
use wasmop_package::manifest::Limits;
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::engine::Engine;
use crate::engine::world::wasmop::controller::{runtime, sys};
use crate::memory::{Mapping, Memory, MemoryCount, Spare, with_mapping};

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

/// Most bytes of log a guest may emit in one step; what exceeds it is dropped with a note.
const MAX_LOG_BYTES_PER_STEP: usize = 256 << 10;
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
    cpu_limit_hit: bool,
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
            cpu_limit_hit: false,
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
}

impl Exports {
    pub fn new(engine: &Engine, component: &wasmtime::component::Component) -> Result<Exports, LoadError> {
        let pre = engine.linker().instantiate_pre(component).map_err(|e| LoadError::Incompatible(format!("{e:#}")))?;
        let find = |interface: &'static str, function: &'static str| {
            let instance = component.get_export_index(None, interface).ok_or(LoadError::MissingExport(interface))?;
            component.get_export_index(Some(&instance), function).ok_or(LoadError::MissingExport(function))
        };
        const STATE: &str = "wasmop:internal/state";
        Ok(Exports {
            step: find("wasmop:controller/guest@0.1.0", "step")?,
            init: find(STATE, "init")?,
            global_count: find(STATE, "global-count")?,
            global_get: find(STATE, "global-get")?,
            global_set: find(STATE, "global-set")?,
            pre,
        })
    }
}

/// A live instance.
pub struct Guest {
    store: Store<Context>,
    memory: Memory,
    engine: Engine,
    step: TypedFunc<(), ()>,
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
    pub fn instantiate(
        engine: &Engine,
        exports: &Exports,
        limits: &Limits,
        registered: u32,
        mapping: Option<Mapping<'_>>,
        spare: Option<Spare>,
    ) -> Result<(Guest, Vec<u32>), InstantiateError> {
        let mut store = Store::new(engine.wasmtime(), Context::new(limits, registered));
        // Handles would be state outside of the snapshot; the world has none.
        store.set_max_component_handles(0);
        store.limiter(|context| context);
        store.epoch_deadline_callback(|mut cx| {
            let context = cx.data_mut();
            if thread_cpu_time().saturating_sub(context.cpu_started) < context.cpu_limit {
                return Ok(UpdateDeadline::Continue(1));
            }
            context.cpu_limit_hit = true;
            Err(wasmtime::Error::msg(format!("used more than {:?} of CPU in one step", context.cpu_limit)))
        });
        store.set_epoch_deadline(1);
        store.data_mut().cpu_started = thread_cpu_time();
        let (instance, memory, stale) =
            with_mapping(mapping, spare, || exports.pre.instantiate(&mut store).map_err(InstantiateError::from))?;
        let guest = Guest {
            step: instance.get_typed_func(&mut store, exports.step)?,
            init: instance.get_typed_func(&mut store, exports.init)?,
            global_count: instance.get_typed_func(&mut store, exports.global_count)?,
            global_get: instance.get_typed_func(&mut store, exports.global_get)?,
            global_set: instance.get_typed_func(&mut store, exports.global_set)?,
            store,
            memory,
            engine: engine.clone(),
        };
        Ok((guest, stale))
    }

    /// Runs the module's own initialisation, once in the life of an instance.
    pub fn init(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
        let init = self.init;
        self.run(input, init)
    }

    /// Runs one step.
    pub fn step(&mut self, input: &StepInput) -> Result<StepOutput, StepFailure> {
        let step = self.step;
        self.run(input, step)
    }

    fn run(&mut self, input: &StepInput, function: TypedFunc<(), ()>) -> Result<StepOutput, StepFailure> {
        let context = self.store.data_mut();
        context.now = input.now;
        context.monotonic = input.monotonic;
        context.rng = StdRng::from_seed(input.seed);
        context.inbox = input.events.iter().cloned().collect();
        context.output = StepOutput::default();
        (context.log_bytes, context.action_bytes, context.entered) = (0, 0, 0);
        (context.memory_limit_hit, context.cpu_limit_hit) = (false, false);
        context.cpu_started = thread_cpu_time();
        self.store.set_epoch_deadline(1);
        let result = {
            let _ticking = self.engine.ticking();
            function.call(&mut self.store, ())
        };
        let context = self.store.data_mut();
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
        let (count,) = self.global_count.call(&mut self.store, ())?;
        (0..count).map(|i| Ok(self.global_get.call(&mut self.store, (i,))?.0)).collect()
    }

    pub fn set_globals(&mut self, globals: &[u64]) -> Result<(), InstantiateError> {
        self.refuel();
        let (count,) = self.global_count.call(&mut self.store, ())?;
        if count as usize != globals.len() {
            return Err(InstantiateError::Wasm(format!("{} globals saved, the module has {count}", globals.len())));
        }
        for (i, bits) in globals.iter().enumerate() {
            self.global_set.call(&mut self.store, (i as u32, *bits))?;
        }
        Ok(())
    }

    /// Starts the CPU budget anew; calls outside a step must not trip over the last one's.
    fn refuel(&mut self) {
        self.store.data_mut().cpu_started = thread_cpu_time();
        self.store.set_epoch_deadline(1);
    }

    /// The memory and the store that guards it.
    pub fn memory(&mut self) -> (&Memory, &mut Store<Context>) {
        (&self.memory, &mut self.store)
    }

    pub fn memory_size(&self) -> usize {
        self.memory.size()
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
