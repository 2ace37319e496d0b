//! The JSON of `/api/controllers`, for the page, `wasmop top` and scripts.
//!
//! Names say the unit: bytes or seconds. `timestamp_seconds` is Unix time. Fields may be added, but are never renamed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wasmop_core::status::counters::{Avoided, ReconcileResult, total};
use wasmop_core::status::observed::{Controller, Observed};
use wasmop_core::status::state::State;
use wasmop_package::Tier;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    pub host: HostStatus,
    pub controllers: Vec<ControllerStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostStatus {
    pub version: String,
    /// When this was read.
    pub timestamp_seconds: f64,
    pub uptime_seconds: f64,
    /// Why it is not ready; empty if it is.
    pub not_ready: Vec<String>,
    /// Controllers by state.
    pub resident: u64,
    pub suspended: u64,
    pub busy: u64,
    #[serde(default)]
    pub standby: u64,
    #[serde(default)]
    pub failed: u64,
    /// This host's name among several that share controllers.
    #[serde(default)]
    pub identity: Option<String>,
    /// What instances hold together.
    pub resident_bytes: u64,
    /// What they may hold, if that is limited.
    pub memory_budget_bytes: Option<u64>,
    /// Memories kept for the next resumes.
    pub spare_bytes: u64,
    pub disk_bytes: u64,
    pub process: ProcessStatus,
    pub watches: Vec<WatchStatus>,
    /// Of the last hour, oldest first, as far as anybody asked.
    pub memory_history: VecDeque<MemorySample>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub resident_memory_bytes: u64,
    pub virtual_memory_bytes: u64,
    pub cpu_seconds: f64,
    pub threads: u64,
    pub open_fds: u64,
    pub max_fds: u64,
    pub start_time_seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySample {
    pub timestamp_seconds: f64,
    /// Of the process.
    pub process_bytes: u64,
    /// Of instances.
    pub resident_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchStatus {
    pub resource: String,
    pub objects: u64,
    pub lists: u64,
    pub synced: bool,
    /// What it waits for, if it cannot be had.
    pub waiting: Option<String>,
    /// It has its objects from a wider watch, not from the API server.
    #[serde(default)]
    pub follows: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControllerStatus {
    pub name: String,
    pub tier: Tier,
    pub state: State,
    pub resident_bytes: u64,
    pub disk_bytes: u64,
    pub queue_depth: u64,
    pub queue_delayed: u64,
    pub active_reconciles: u64,
    pub requests_in_flight: u64,
    // Since the host started, from here on.
    pub resumes: u64,
    pub resume_seconds: f64,
    pub suspends: u64,
    pub written_bytes: u64,
    pub steps: u64,
    pub step_seconds: f64,
    pub reconciles: u64,
    pub reconcile_errors: u64,
    pub wakes_avoided: u64,
    pub restarts: u64,
    pub last_error: Option<ErrorStatus>,
    /// Those that hold now.
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorStatus {
    pub timestamp_seconds: f64,
    /// What was being reconciled; empty if it was nothing in particular.
    pub object: String,
    pub message: String,
}

/// As the conditions of a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub since_timestamp_seconds: f64,
}

/// The condition of a controller that cannot watch what it needs.
pub const WATCH_FAILING: &str = "WatchFailing";
/// The condition of a controller whose snapshots cannot be written.
pub const SNAPSHOT_FAILING: &str = "SnapshotFailing";

impl HostStatus {
    /// `wall`: Unix time now.
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
    /// `wall`: Unix time at `observed.now`.
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
            wakes_avoided: Avoided::ALL.into_iter().map(|why| counters.wakes_avoided(why)).sum(),
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
