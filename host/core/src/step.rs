//! A step of a guest as data: what it is given, what it emits, and how it fails. `wasmop-vm` runs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::startup::Startup;

/// What an event tells the guest: the `event-kind` of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// No more events in this step.
    Nothing,
    /// First event in the life of an instance.
    Start,
    /// Reconcile an object. `id`: task, `aux`: registration.
    Reconcile,
    /// Which objects does this watched object belong to? `id`: task, `aux`: registration and watch.
    Map,
    /// A response begins. `id`: call, `aux`: HTTP status.
    Head,
    /// A piece of a response's body. `id`: call.
    Body,
    /// The response is complete. `id`: call.
    End,
    /// The call failed and may be retried. `id`: call.
    Failed,
    /// Stop working on a task. `id`: task.
    Cancel,
}

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
    /// What the program was started with; `None`: nothing.
    pub startup: Option<Arc<Startup>>,
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

impl Call {
    /// Bytes that the request holds in the host.
    pub fn bytes(&self) -> usize {
        self.target.len() + self.method.len() + self.path.len() + self.headers.len() + self.body.len()
    }
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
    /// It asked for more memory than it may have, and did without.
    pub refused_memory: bool,
}

/// Why a step did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepFault {
    Panic,
    CpuLimit,
    MemoryLimit,
    /// It asked for more at once than a step may.
    ActionLimit,
    Trap,
}

impl StepFault {
    /// All of them, in the order in which they are counted.
    pub const ALL: [StepFault; 5] =
        [StepFault::Panic, StepFault::CpuLimit, StepFault::MemoryLimit, StepFault::ActionLimit, StepFault::Trap];

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

#[derive(Debug)]
pub struct StepFailure {
    pub cause: StepFault,
    /// What went wrong, in a line.
    pub reason: String,
    /// The trap with its wasm backtrace.
    pub detail: String,
    /// The task that last said it runs, 0 if none did.
    pub entered: u64,
    pub logs: Vec<LogLine>,
}

/// Writes guest log lines to the host's log.
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

    /// Writes it to the host's log.
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

/// A step that failed and was undone.
#[derive(Debug)]
pub struct Failure {
    pub cause: StepFault,
    pub reason: String,
    pub detail: String,
    pub logs: Vec<LogLine>,
    /// The task that was cancelled for it.
    pub culprit: Option<u64>,
    pub replayed_steps: usize,
    /// Size of the linear memory before the step, bytes; 0 if that is not known.
    pub memory_before: u64,
}

/// What became of a batch of steps, without the instance.
#[derive(Debug, Default)]
pub struct StepReport {
    /// Committed steps, in order.
    pub outputs: Vec<StepOutput>,
    /// Steps that failed and were undone, in order.
    pub failures: Vec<Failure>,
    /// Why the instance was lost, or could not be started.
    pub lost: Option<Lost>,
    /// Time to resume or start, if the instance wasn't resident.
    pub resume: Option<Duration>,
    /// Time of the steps.
    pub step: Duration,
    /// CPU time of all of that.
    pub cpu: Duration,
}

/// Why an instance is gone.
#[derive(Debug)]
pub enum Lost {
    /// The snapshot could not be used.
    Snapshot(String),
    /// The package could not be instantiated at all.
    Start(String),
    /// A step failed and no task could be blamed.
    NoCulprit,
    /// A step failed and can't be undone: the package is of the soft tier.
    NotUndone,
    /// It makes requests faster than it takes their answers, refusals included.
    Overdrawn,
    /// It was given up: nothing it did succeeded any more.
    NothingSucceeds,
    /// It was given up: steps failed for want of memory, of which so many bytes were in use before.
    MemoryFull(u64),
    /// It was given up while it had nothing to do: so many bytes of its memory were in use.
    MemoryNearlyFull(u64),
}

impl Lost {
    /// It was lost by a failure, so that the next one is to wait.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Lost::Snapshot(_) | Lost::MemoryNearlyFull(_))
    }
}
