//! The JSON of `/api/controllers`, for the page, `wasmop top` and scripts.
//!
//! Names say the unit: bytes or seconds. `timestamp_seconds` is Unix time. Fields may be added, but are never renamed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wasmop_core::status::counters::{IgnoredChange, ReconcileResult, total};
use wasmop_core::status::observed::{Controller, Observed};
use wasmop_core::status::state::State;
use wasmop_package::Tier;

/// The response of `/api/controllers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The host.
    pub host: HostStatus,
    /// All controllers, including failed ones.
    pub controllers: Vec<ControllerStatus>,
}

/// The status of the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostStatus {
    /// Version of wasmop.
    pub version: String,
    /// Time of this status.
    pub timestamp_seconds: f64,
    /// Time since the host started.
    pub uptime_seconds: f64,
    /// Reasons why the host is not ready; empty if it is.
    pub not_ready: Vec<String>,
    /// Controllers in memory and idle.
    pub resident: u64,
    /// Controllers suspended.
    pub suspended: u64,
    /// Controllers in a step.
    pub busy: u64,
    /// Controllers that another host may run.
    #[serde(default)]
    pub standby: u64,
    /// Controllers that cannot run.
    #[serde(default)]
    pub failed: u64,
    /// This host's name among several that share controllers.
    #[serde(default)]
    pub identity: Option<String>,
    /// Memory of all instances.
    pub resident_bytes: u64,
    /// Limit of that memory, if there is one.
    pub memory_budget_bytes: Option<u64>,
    /// Memory kept for the next resumes.
    pub spare_bytes: u64,
    /// Size of all snapshots.
    pub disk_bytes: u64,
    /// The process.
    pub process: ProcessStatus,
    /// All watches, ordered by resource.
    pub watches: Vec<WatchStatus>,
    /// Samples of the last hour, oldest first. Only requests take samples.
    pub memory_history: VecDeque<MemorySample>,
}

/// The status of the process, from `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Resident set size, shared pages included.
    pub resident_memory_bytes: u64,
    /// Virtual memory size.
    pub virtual_memory_bytes: u64,
    /// User and system CPU time.
    pub cpu_seconds: f64,
    /// Number of threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Limit of open file descriptors.
    pub max_fds: u64,
    /// Time when the process started.
    pub start_time_seconds: f64,
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySample {
    /// Time of the sample.
    pub timestamp_seconds: f64,
    /// Resident set size of the process.
    pub process_bytes: u64,
    /// Memory of all instances.
    pub resident_bytes: u64,
}

/// The status of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchStatus {
    /// Such as `websites.demo.wasmop.dev/v1`.
    pub resource: String,
    /// Objects in the watch.
    pub objects: u64,
    /// Lists started.
    pub lists: u64,
    /// Whether the list is complete.
    pub synced: bool,
    /// Why the watch waits, if it does.
    pub waiting: Option<String>,
    /// Whether the watch is derived from a wider one.
    #[serde(default)]
    pub follows: bool,
}

/// The status of a controller. Counters start with the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// Name of the controller.
    pub name: String,
    /// Tier of its package.
    pub tier: Tier,
    /// Where its instance is.
    pub state: State,
    /// Memory that suspending it frees.
    pub resident_bytes: u64,
    /// Size of its newest snapshot.
    pub disk_bytes: u64,
    /// Objects ready to be reconciled.
    pub queue_depth: u64,
    /// Objects that wait for a requeue or backoff.
    pub queue_delayed: u64,
    /// Reconciles in flight.
    pub active_reconciles: u64,
    /// Requests in flight.
    pub requests_in_flight: u64,
    /// Resumes from a snapshot.
    pub resumes: u64,
    /// Total time of resumes.
    pub resume_seconds: f64,
    /// Suspends to disk.
    pub suspends: u64,
    /// Bytes written for snapshots.
    pub written_bytes: u64,
    /// Steps run.
    pub steps: u64,
    /// Total time of steps.
    pub step_seconds: f64,
    /// Reconciles that ended.
    pub reconciles: u64,
    /// Reconciles that failed or were cancelled.
    pub reconcile_errors: u64,
    /// Changes that did not wake the controller.
    pub changes_ignored: u64,
    /// Times the instance was lost and restarted.
    pub restarts: u64,
    /// The last error, if there was one.
    pub last_error: Option<ErrorStatus>,
    /// Conditions that hold now.
    pub conditions: Vec<Condition>,
}

/// The last error of a controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// Time of the error.
    pub timestamp_seconds: f64,
    /// The object being reconciled; empty if there was none.
    pub object: String,
    /// The error.
    pub message: String,
}

/// A condition, in the form of a Kubernetes condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Such as `SnapshotFailing`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A word in camel case for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Start of the condition.
    pub since_timestamp_seconds: f64,
}

/// The condition of a controller that cannot watch its resources.
pub const WATCH_FAILING: &str = "WatchFailing";
/// The condition of a controller whose snapshots cannot be written.
pub const SNAPSHOT_FAILING: &str = "SnapshotFailing";

impl HostStatus {
    /// The status of the host. `wall`: Unix time now.
    pub fn new(
        observed: &Observed,
        wall: f64,
        process: ProcessStatus,
        memory_history: VecDeque<MemorySample>,
    ) -> HostStatus {
        let count = |state| observed.controllers.iter().filter(|c| c.state == state).count() as u64;
        HostStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            timestamp_seconds: wall,
            uptime_seconds: observed.now.as_secs_f64(),
            not_ready: observed.not_ready(),
            resident: count(State::Resident),
            suspended: count(State::Suspended),
            busy: count(State::Busy),
            standby: count(State::Standby),
            failed: count(State::Failed),
            identity: observed.election.as_ref().map(|election| election.identity.to_string()),
            resident_bytes: observed.controllers.iter().map(|c| c.resident_bytes).sum(),
            memory_budget_bytes: observed.memory_budget,
            spare_bytes: observed.spare_bytes,
            disk_bytes: observed.controllers.iter().map(|c| c.counters.disk_bytes()).sum(),
            process,
            watches: observed.watches.iter().map(WatchStatus::from).collect(),
            memory_history,
        }
    }
}

impl From<&wasmop_core::watch::WatchStatus> for WatchStatus {
    fn from(watch: &wasmop_core::watch::WatchStatus) -> Self {
        WatchStatus {
            resource: watch.resource.clone(),
            objects: watch.objects as u64,
            lists: watch.lists,
            synced: watch.synced,
            waiting: watch.waiting.as_ref().map(|waiting| waiting.message.clone()),
            follows: watch.follows,
        }
    }
}

impl ControllerStatus {
    /// The status of a controller. `wall`: Unix time at `observed.now`.
    pub fn new(controller: &Controller, observed: &Observed, wall: f64) -> ControllerStatus {
        let counters = &controller.counters;
        let trouble = counters.trouble();
        let unix = |at: std::time::Duration| wall - observed.now.saturating_sub(at).as_secs_f64();
        let (resumes, resume_seconds) = counters.resumes();
        ControllerStatus {
            name: controller.name.to_string(),
            tier: controller.tier,
            state: controller.state,
            resident_bytes: controller.resident_bytes,
            disk_bytes: counters.disk_bytes(),
            queue_depth: controller.queue.depth as u64,
            queue_delayed: controller.queue.delayed as u64,
            active_reconciles: controller.active as u64,
            requests_in_flight: controller.requests as u64,
            resumes: total(resumes),
            resume_seconds,
            suspends: counters.suspends.into(),
            written_bytes: counters.written_bytes,
            steps: counters.steps.into(),
            step_seconds: counters.step_seconds(),
            reconciles: total(counters.reconciles().0),
            reconcile_errors: counters.reconciles_with(ReconcileResult::Error),
            changes_ignored: IgnoredChange::ALL.into_iter().map(|why| counters.changes_ignored(why)).sum(),
            restarts: trouble.map_or(0, |t| t.restarts.into()),
            last_error: trouble.and_then(|t| t.last_error.as_ref()).map(|last| ErrorStatus {
                timestamp_seconds: unix(last.at),
                object: last.object.to_string(),
                message: last.message.to_string(),
            }),
            conditions: {
                let condition = |kind: &str, reason: &str, message: &str, since| Condition {
                    kind: kind.into(),
                    reason: reason.into(),
                    message: message.into(),
                    since_timestamp_seconds: unix(since),
                };
                let unwatched = controller.unwatched.iter();
                let unwatched = unwatched.map(|u| condition(WATCH_FAILING, u.reason, &u.message, u.since));
                let failing = trouble.and_then(|t| t.failing.as_ref()).into_iter();
                let failing = failing.map(|f| condition(SNAPSHOT_FAILING, f.reason.as_str(), &f.message, f.since));
                let standing = trouble.into_iter().flat_map(|t| t.problems.standing(observed.now));
                let standing = standing.map(|standing| {
                    let problem = standing.problem;
                    condition(problem.condition(), problem.reason(), &standing.message, standing.since)
                });
                unwatched.chain(failing).chain(standing).collect()
            },
        }
    }
}
