//! One step of a guest as data: its input, its output and its failure. `wasmop-vm` runs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::startup::Startup;

/// The kind of an event: `event-kind` in the WIT world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// No more events in this step.
    Nothing,
    /// The first event of an instance.
    Start,
    /// Reconcile an object. `id`: task, `aux`: registration.
    Reconcile,
    /// Map a watched object to the objects to reconcile. `id`: task, `aux`: registration and watch.
    Map,
    /// A response begins. `id`: call, `aux`: HTTP status.
    Head,
    /// A chunk of the response body. `id`: call.
    Body,
    /// The response is complete. `id`: call.
    End,
    /// The call failed and may be retried. `id`: call.
    Failed,
    /// Stop working on a task. `id`: task.
    Cancel,
}

/// An event that a step delivers to the guest.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Task or call, depending on the kind.
    pub id: u64,
    /// Registration, watch or HTTP status, depending on the kind.
    pub aux: u32,
    /// The object's key, the object as JSON, headers or body, depending on the kind.
    pub payload: Bytes,
    /// The task that this event belongs to, 0 if none. The host blames this task if the step fails.
    pub task: u64,
}

impl Event {
    /// Bytes that this event occupies in the host: payload and bookkeeping.
    pub fn cost(&self) -> usize {
        self.payload.len() + size_of::<Event>()
    }
}

/// Everything that determines a step, apart from the state of the instance. A replay of the same input on the same
/// state yields the same state, bit for bit.
#[derive(Clone, Debug)]
pub struct StepInput {
    /// Wall clock, nanoseconds since the Unix epoch.
    pub now: u64,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic: u64,
    /// Seed of the random numbers that the guest draws in this step.
    pub seed: [u8; 32],
    /// Environment and arguments of the program, if it has any.
    pub startup: Option<Arc<Startup>>,
    /// The events to deliver, in order.
    pub events: Vec<Event>,
}

/// An action of a guest.
#[derive(Clone, Debug)]
pub enum Action {
    /// Registers a reconciler. `spec` is a `ControllerSpec` as JSON.
    Register {
        /// The spec as JSON.
        spec: String,
    },
    /// Sends a request.
    Call(Call),
    /// Abandons a call.
    DropCall {
        /// The call.
        id: u64,
    },
    /// Ends a reconcile, or reports that a map function failed.
    Done {
        /// The task that ended.
        task: u64,
        /// When to reconcile the object again.
        requeue_after: Option<Duration>,
        /// Why the task failed, if it did.
        error: Option<String>,
    },
    /// Answers a `map` event. `keys` has one key per line.
    Mapped {
        /// The `map` task.
        task: u64,
        /// Keys of the objects to reconcile, one a line.
        keys: String,
    },
}

/// A request of a guest.
#[derive(Clone, Debug)]
pub struct Call {
    /// The guest's number for this call.
    pub id: u64,
    /// The task that makes the request, 0 if none.
    pub task: u64,
    /// Empty for the API server, otherwise an external host: `https://api.example.com`.
    pub target: String,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Lines `name: value\n`.
    pub headers: String,
    /// The request body.
    pub body: Bytes,
}

impl Call {
    /// Bytes that the request occupies in the host.
    pub fn bytes(&self) -> usize {
        self.target.len() + self.method.len() + self.path.len() + self.headers.len() + self.body.len()
    }
}

/// A line the guest logged.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Severity.
    pub level: tracing::Level,
    /// The guest's logger, module or stream.
    pub target: String,
    /// The text.
    pub message: String,
    /// Structured fields as a JSON object, or empty.
    pub fields: String,
}

/// What a step emitted.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// Actions, in the order in which the guest emitted them.
    pub actions: Vec<Action>,
    /// Log lines, in order.
    pub logs: Vec<LogLine>,
    /// Time until the guest's next timer fires, measured from the step's clock.
    pub park: Option<Duration>,
    /// The memory limit denied a growth, and the step succeeded without it.
    pub refused_memory: bool,
}

/// How a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepFault {
    /// The guest panicked or exited with an error.
    Panic,
    /// The step used more CPU time than `limits.cpu-per-step`.
    CpuLimit,
    /// The guest needed more memory than `limits.memory`.
    MemoryLimit,
    /// The step emitted more actions than one step may.
    ActionLimit,
    /// Any other WebAssembly trap.
    Trap,
}

impl StepFault {
    /// All faults, in the order of the counters.
    pub const ALL: [StepFault; 5] =
        [StepFault::Panic, StepFault::CpuLimit, StepFault::MemoryLimit, StepFault::ActionLimit, StepFault::Trap];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            StepFault::Panic => "panic",
            StepFault::CpuLimit => "cpu-limit",
            StepFault::MemoryLimit => "memory-limit",
            StepFault::ActionLimit => "action-limit",
            StepFault::Trap => "trap",
        }
    }
}

/// A step that did not return.
#[derive(Debug)]
pub struct StepFailure {
    /// How it failed.
    pub cause: StepFault,
    /// One line for people.
    pub reason: String,
    /// The trap with its wasm backtrace.
    pub detail: String,
    /// The task that the guest last entered, 0 if none.
    pub entered: u64,
    /// Lines that the guest logged before the failure.
    pub logs: Vec<LogLine>,
}

/// Writes the guest's log lines to the host's log.
pub fn emit_logs(controller: &Arc<str>, logs: &[LogLine]) {
    for line in logs {
        line.emit(controller);
    }
}

impl LogLine {
    /// Bytes of text.
    pub fn bytes(&self) -> usize {
        self.target.len() + self.message.len() + self.fields.len()
    }

    /// Writes the line to the host's log.
    pub fn emit(&self, controller: &str) {
        let (source, fields, message) = (self.target.as_str(), self.fields.as_str(), self.message.trim_end());
        match self.level {
            tracing::Level::ERROR => tracing::error!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "guest", controller, source, fields, "{message}"),
            tracing::Level::DEBUG => tracing::debug!(target: "guest", controller, source, fields, "{message}"),
            _ => tracing::trace!(target: "guest", controller, source, fields, "{message}"),
        }
    }
}

/// A failed step that the host rolled back.
#[derive(Debug)]
pub struct Failure {
    /// How it failed.
    pub cause: StepFault,
    /// One line for people.
    pub reason: String,
    /// The trap with its wasm backtrace.
    pub detail: String,
    /// Lines that the guest logged before the failure.
    pub logs: Vec<LogLine>,
    /// The task that the host cancelled, if one was to blame.
    pub culprit: Option<u64>,
    /// Steps replayed to restore the state before the failed step.
    pub replayed_steps: usize,
    /// Size of the linear memory before the step, in bytes; 0 if unknown.
    pub memory_before: u64,
}

/// The result of a batch of steps, without the instance.
#[derive(Debug, Default)]
pub struct StepReport {
    /// Outputs of the committed steps, in order.
    pub outputs: Vec<StepOutput>,
    /// Steps that the host rolled back, in order.
    pub failures: Vec<Failure>,
    /// Why the instance was lost or could not start.
    pub lost: Option<Lost>,
    /// Time to resume or start the instance, if it was not resident.
    pub resume: Option<Duration>,
    /// Wall time of the steps.
    pub step: Duration,
    /// CPU time of steps and resume together.
    pub cpu: Duration,
}

/// Why an instance was lost.
#[derive(Debug)]
pub enum Lost {
    /// The snapshot is unusable.
    Snapshot(String),
    /// The package could not be instantiated.
    Start(String),
    /// A step failed and no task was to blame.
    NoCulprit,
    /// A step failed and cannot be rolled back, because the package is of the soft tier.
    NotUndone,
    /// The guest makes requests faster than it takes the answers, refusals included.
    Overdrawn,
    /// Restarted because nothing succeeded any more.
    NothingSucceeds,
    /// Restarted because steps ran out of memory. Bytes in use before the last of them.
    MemoryFull(u64),
    /// Restarted while idle because memory was nearly full. Bytes in use.
    MemoryNearlyFull(u64),
}

impl Lost {
    /// Whether a failure lost the instance, so that the next one starts with backoff.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Lost::Snapshot(_) | Lost::MemoryNearlyFull(_))
    }
}
