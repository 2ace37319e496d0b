//! The host functions of the world: they hand a step's input to the guest, and collect the actions that it emits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sys::StartupStrings;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Action, Call, Event, EventKind, LogLine, StepFault, StepInput, StepOutput};
use wasmop_package::manifest::Limits;
use wasmtime::ResourceLimiter;

use crate::log_limit::MAX_LOG_BYTES_PER_STEP;
use crate::thread_clock::thread_cpu_time;
use crate::wasi::Wasi;
use crate::world::wasmop::controller::{runtime, sys};

/// Most actions of one step. No step's input has events for more ([`wasmop_core::controller::MAX_STEP_BYTES`]), and the
/// host's loop takes some milliseconds to handle them.
const MAX_ACTIONS_PER_STEP: usize = 16_384;
/// Most bytes of the actions of one step. The API server accepts 3 MiB in one request.
const MAX_ACTION_BYTES_PER_STEP: usize = 16 << 20;

/// Bytes of a table entry: a pointer.
const TABLE_ENTRY_BYTES: usize = size_of::<usize>();

/// The data of an instance's store: input, output and limits of the current step.
///
/// [`StepContext::begin`] sets everything that belongs to a step; [`StepContext::finish`] takes its output.
pub(crate) struct StepContext {
    /// Wall clock, nanoseconds since the Unix epoch.
    now: u64,
    /// The instance's monotonic clock, nanoseconds.
    monotonic: u64,
    rng: StdRng,
    /// Events that the guest has not taken yet.
    inbox: VecDeque<Event>,
    /// Payload of the last event taken, until the guest reads it.
    current: Bytes,
    output: StepOutput,
    /// Bytes logged, those dropped included.
    log_bytes: usize,
    action_bytes: usize,
    /// Controllers that the instance has registered, ever.
    registered: u32,
    startup: Option<Arc<Startup>>,
    /// The strings that the guest last asked for in this step: which, how many, and their bytes.
    startup_strings: Option<(StartupStrings, u32, Vec<u8>)>,
    /// The task that the guest last said it runs; 0: none.
    entered: u64,
    /// Limit of memory and tables together, bytes.
    max_memory: usize,
    memory_bytes: usize,
    table_bytes: usize,
    memory_limit_hit: bool,
    action_limit_hit: bool,
    cpu_limit: Duration,
    /// The thread's CPU clock at the beginning of the step.
    cpu_started: Duration,
    /// Time that the step has waited. It counts as CPU time, because the step holds its thread.
    waited: Duration,
    cpu_limit_hit: bool,
    /// Only in the soft tier.
    wasi: Option<Box<Wasi>>,
}

impl StepContext {
    /// `fixed_bytes`: what the instance holds besides memory and tables. `registered`: controllers that it has registered
    /// in earlier processes.
    pub fn new(limits: &Limits, fixed_bytes: u64, registered: u32) -> StepContext {
        let max_memory = limits.memory_bytes.saturating_sub(fixed_bytes);
        StepContext {
            now: 0,
            monotonic: 0,
            rng: StdRng::from_seed([0; 32]),
            inbox: VecDeque::new(),
            current: Bytes::new(),
            output: StepOutput::default(),
            log_bytes: 0,
            action_bytes: 0,
            registered,
            startup: None,
            startup_strings: None,
            entered: 0,
            max_memory: usize::try_from(max_memory).unwrap_or(usize::MAX),
            memory_bytes: 0,
            table_bytes: 0,
            memory_limit_hit: false,
            action_limit_hit: false,
            cpu_limit: Duration::from_nanos(limits.cpu_per_step_ns),
            cpu_started: Duration::ZERO,
            waited: Duration::ZERO,
            cpu_limit_hit: false,
            wasi: None,
        }
    }

    /// Begins a step: sets its input, resets its output and limits.
    pub fn begin(&mut self, input: &StepInput) {
        self.now = input.now;
        self.monotonic = input.monotonic;
        self.rng = StdRng::from_seed(input.seed);
        self.inbox = input.events.iter().cloned().collect();
        self.startup.clone_from(&input.startup);
        self.startup_strings = None;
        self.output = StepOutput::default();
        (self.log_bytes, self.action_bytes, self.entered) = (0, 0, 0);
        (self.memory_limit_hit, self.cpu_limit_hit, self.action_limit_hit) = (false, false, false);
        self.restart_cpu_time();
    }

    /// Takes the output of the step that has ended, with a note if lines were dropped.
    pub fn finish(&mut self) -> StepOutput {
        self.take_streams();
        let mut output = std::mem::take(&mut self.output);
        if self.log_bytes > MAX_LOG_BYTES_PER_STEP {
            output.logs.push(LogLine {
                level: tracing::Level::WARN,
                target: "wasmop".into(),
                message: format!("more than {MAX_LOG_BYTES_PER_STEP} bytes logged in one step; the rest was dropped"),
                fields: String::new(),
            });
        }
        output.refused_memory = self.memory_limit_hit;
        self.inbox.clear();
        self.current = Bytes::new();
        output
    }

    /// The task that the guest last said it runs in this step; 0: none.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// Why `trap` ended the step.
    pub fn cause(&self, trap: &wasmtime::Error) -> StepFault {
        if self.cpu_limit_hit {
            StepFault::CpuLimit
        } else if self.memory_limit_hit {
            StepFault::MemoryLimit
        } else if self.action_limit_hit {
            StepFault::ActionLimit
        } else if matches!(trap.downcast_ref(), Some(wasmtime::Trap::UnreachableCodeReached)) {
            StepFault::Panic
        } else {
            StepFault::Trap
        }
    }

    /// Sets the CPU limit of a step, and returns the one before.
    pub fn replace_cpu_limit(&mut self, limit: Duration) -> Duration {
        std::mem::replace(&mut self.cpu_limit, limit)
    }

    /// The CPU limit of a step.
    pub fn cpu_limit(&self) -> Duration {
        self.cpu_limit
    }

    /// Takes the lines logged so far.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        self.take_streams();
        std::mem::take(&mut self.output.logs)
    }

    /// Starts the CPU budget again.
    pub fn restart_cpu_time(&mut self) {
        (self.cpu_started, self.waited) = (thread_cpu_time(), Duration::ZERO);
    }

    /// CPU time that the step may still use.
    pub fn cpu_left(&self) -> Duration {
        self.cpu_limit.saturating_sub(thread_cpu_time().saturating_sub(self.cpu_started) + self.waited)
    }

    /// Counts time that the step has waited.
    pub fn spend(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// The error that ends a step at its CPU limit. `did`: what it did for too long.
    pub fn cpu_limit_reached(&mut self, did: &str) -> wasmtime::Error {
        self.cpu_limit_hit = true;
        wasmtime::Error::msg(format!("{did} more than {:?} in one step", self.cpu_limit))
    }

    /// Bytes of the instance's tables.
    pub fn table_bytes(&self) -> usize {
        self.table_bytes
    }

    /// Sets the WASI state, before the guest can call a function that uses it. Packages of the full tier import none.
    pub fn set_wasi(&mut self, wasi: Wasi) {
        self.wasi = Some(Box::new(wasi));
    }

    /// The WASI state.
    ///
    /// # Panics
    /// If [`StepContext::set_wasi`] was not called.
    pub fn wasi(&mut self) -> &mut Wasi {
        self.wasi.as_mut().expect("instances that import WASI are given it before they run")
    }

    /// Moves the content of WASI's standard streams to the log, so that it comes before what is logged next.
    fn take_streams(&mut self) {
        if let Some(wasi) = &mut self.wasi {
            self.log_bytes += wasi.take_lines(&mut self.output.logs);
        }
    }

    fn startup_strings(&mut self, which: StartupStrings) -> (u32, &[u8]) {
        if self.startup_strings.as_ref().is_none_or(|(last, ..)| *last != which) {
            let (count, bytes) = match (&self.startup, which) {
                (None, _) => (0, Vec::new()),
                (Some(startup), StartupStrings::Arguments) => startup.argument_strings(),
                (Some(startup), StartupStrings::Environment) => startup.environment_strings(),
            };
            self.startup_strings = Some((which, count, bytes));
        }
        self.startup_strings.as_ref().map_or((0, &[]), |(_, count, bytes)| (*count, bytes))
    }

    /// Adds an action that holds `bytes` in the host. Fails at a limit, which ends the step.
    fn act(&mut self, bytes: usize, action: Action) -> wasmtime::Result<()> {
        self.action_bytes += bytes;
        if self.output.actions.len() >= MAX_ACTIONS_PER_STEP || self.action_bytes > MAX_ACTION_BYTES_PER_STEP {
            self.action_limit_hit = true;
            return Err(wasmtime::Error::msg(format!(
                "the step emitted more than {MAX_ACTIONS_PER_STEP} actions or {MAX_ACTION_BYTES_PER_STEP} bytes"
            )));
        }
        self.output.actions.push(action);
        Ok(())
    }
}

impl ResourceLimiter for StepContext {
    fn memory_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired.saturating_add(self.table_bytes) <= self.max_memory;
        self.memory_limit_hit |= !allowed;
        if allowed {
            self.memory_bytes = desired;
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(TABLE_ENTRY_BYTES);
        let table_bytes = self.table_bytes.saturating_add(more);
        let allowed = table_bytes.saturating_add(self.memory_bytes) <= self.max_memory;
        self.memory_limit_hit |= !allowed;
        if allowed {
            self.table_bytes = table_bytes;
        }
        Ok(allowed)
    }
}

impl sys::Host for StepContext {
    fn log(&mut self, level: sys::Level, target: String, message: String, fields: String) -> wasmtime::Result<()> {
        self.take_streams();
        self.log_bytes += target.len() + message.len() + fields.len() + size_of::<LogLine>();
        if self.log_bytes > MAX_LOG_BYTES_PER_STEP {
            return Ok(());
        }
        // Guests write standard streams in pieces. Go's runtime prints a crash word by word.
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

    fn startup_size(&mut self, strings: StartupStrings) -> wasmtime::Result<u64> {
        let (count, bytes) = self.startup_strings(strings);
        // Far below 4 GiB: `manifest::MAX_STARTUP_BYTES`.
        Ok(u64::from(count) << 32 | bytes.len() as u64)
    }

    fn startup_bytes(&mut self, strings: StartupStrings, offset: u32) -> wasmtime::Result<u64> {
        let (_, bytes) = self.startup_strings(strings);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let mut word = [0; 8];
        let len = rest.len().min(word.len());
        word[..len].copy_from_slice(&rest[..len]);
        Ok(u64::from_le_bytes(word))
    }
}

/// The world's name of an event kind.
fn kind(kind: EventKind) -> runtime::EventKind {
    match kind {
        EventKind::Nothing => runtime::EventKind::Nothing,
        EventKind::Start => runtime::EventKind::Start,
        EventKind::Reconcile => runtime::EventKind::Reconcile,
        EventKind::Map => runtime::EventKind::Map,
        EventKind::Head => runtime::EventKind::Head,
        EventKind::Body => runtime::EventKind::Body,
        EventKind::End => runtime::EventKind::End,
        EventKind::Failed => runtime::EventKind::Failed,
        EventKind::Cancel => runtime::EventKind::Cancel,
    }
}

impl runtime::Host for StepContext {
    fn next(&mut self) -> wasmtime::Result<runtime::Event> {
        Ok(match self.inbox.pop_front() {
            None => {
                self.current = Bytes::new();
                runtime::Event { kind: runtime::EventKind::Nothing, id: 0, aux: 0, len: 0 }
            }
            Some(event) => {
                self.current = event.payload;
                // `MAX_STEP_BYTES` bounds payloads far below 4 GiB.
                runtime::Event { kind: kind(event.kind), id: event.id, aux: event.aux, len: self.current.len() as u32 }
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
