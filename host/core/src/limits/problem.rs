//! Problems of a controller that its owner is notified of, and how often.

use std::collections::HashMap;
use std::time::Duration;

use wasmop_package::manifest::Limits;

use crate::step::StepFault;

/// A limit that a controller reached without a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `cpu-share`: CPU time in proportion to wall time.
    CpuShare,
    /// `api-rate`: requests a second.
    RequestRate,
    /// `api-in-flight`: requests in flight.
    RequestsInFlight,
    /// `response`: bytes of a response.
    ResponseSize,
    /// `log-rate`: bytes of log a second.
    LogRate,
    /// `reconcile-timeout`: duration of a reconcile.
    ReconcileTimeout,
    /// `disk`: bytes of the snapshot.
    Disk,
}

impl Limit {
    /// All limits, in the order of the counters.
    pub const ALL: [Limit; 7] = [
        Limit::CpuShare,
        Limit::RequestRate,
        Limit::RequestsInFlight,
        Limit::ResponseSize,
        Limit::LogRate,
        Limit::ReconcileTimeout,
        Limit::Disk,
    ];

    /// The key under `[limits]` in wasmop.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::CpuShare => "cpu-share",
            Limit::RequestRate => "api-rate",
            Limit::RequestsInFlight => "api-in-flight",
            Limit::ResponseSize => "response",
            Limit::LogRate => "log-rate",
            Limit::ReconcileTimeout => "reconcile-timeout",
            Limit::Disk => "disk",
        }
    }
}

/// A problem that the host reports as a Kubernetes Event and a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// A step failed.
    Step(StepFault),
    /// A limit was reached.
    Limit(Limit),
    /// The guest misused the runtime interface.
    Misuse,
    /// A predicate failed, so the host let the change pass.
    Predicate,
    /// What a reconcile writes triggers the next reconcile of the same object, again and again.
    SelfTriggered,
    /// It and another controller overwrite each other's changes of an object.
    WriteStorm,
    /// The instance was lost and restarts with backoff.
    CrashLoop,
    /// Restarted because nothing succeeded any more.
    NothingSucceeds,
    /// Restarted because its memory was full.
    MemoryFull,
    /// Restarted while idle, before its memory was full.
    MemoryNearlyFull,
    /// The package cannot run.
    Install,
}

impl Problem {
    /// The `reason` of a Kubernetes Event.
    pub fn reason(self) -> &'static str {
        match self {
            Problem::Step(StepFault::Panic) => "StepPanicked",
            Problem::Step(StepFault::CpuLimit) => "StepCpuLimit",
            Problem::Step(StepFault::MemoryLimit) => "StepMemoryLimit",
            Problem::Step(StepFault::ActionLimit) => "StepActionLimit",
            Problem::Step(StepFault::Trap) => "StepTrapped",
            Problem::Limit(Limit::CpuShare) => "CpuShareUsedUp",
            Problem::Limit(Limit::RequestRate) => "RequestRateLimited",
            Problem::Limit(Limit::RequestsInFlight) => "RequestsInFlightLimited",
            Problem::Limit(Limit::ResponseSize) => "ResponseTooLarge",
            Problem::Limit(Limit::LogRate) => "LogLinesDropped",
            Problem::Limit(Limit::ReconcileTimeout) => "ReconcileTimedOut",
            Problem::Limit(Limit::Disk) => "SnapshotTooLarge",
            Problem::Misuse => "InterfaceMisused",
            Problem::Predicate => "PredicateFailed",
            Problem::SelfTriggered => "SelfTriggered",
            Problem::WriteStorm => "WriteStorm",
            Problem::CrashLoop => "CrashLoop",
            Problem::NothingSucceeds => "NothingSucceeds",
            Problem::MemoryFull => "MemoryFull",
            Problem::MemoryNearlyFull => "MemoryNearlyFull",
            Problem::Install => "InstallFailed",
        }
    }

    /// The key of the limit that was reached, under `[limits]` in wasmop.toml and in the host's configuration.
    pub fn limit_key(self) -> Option<&'static str> {
        match self {
            Problem::Step(StepFault::CpuLimit) => Some("cpu-per-step"),
            Problem::Step(StepFault::MemoryLimit) | Problem::MemoryFull | Problem::MemoryNearlyFull => Some("memory"),
            Problem::Limit(limit) => Some(limit.as_str()),
            Problem::Step(StepFault::Panic | StepFault::ActionLimit | StepFault::Trap)
            | Problem::Misuse
            | Problem::Predicate
            | Problem::SelfTriggered
            | Problem::WriteStorm
            | Problem::CrashLoop
            | Problem::NothingSucceeds
            | Problem::Install => None,
        }
    }

    /// The type of the controller's condition.
    pub fn condition(self) -> &'static str {
        match self {
            Problem::Step(_) => "StepFailing",
            Problem::Limit(_) => "Limited",
            Problem::Misuse => "InterfaceMisused",
            Problem::Predicate => "PredicateFailing",
            Problem::SelfTriggered => "SelfTriggered",
            Problem::WriteStorm => "WriteStorm",
            Problem::CrashLoop | Problem::NothingSucceeds => "CrashLooping",
            Problem::MemoryFull | Problem::MemoryNearlyFull => "MemoryFull",
            Problem::Install => "InstallFailed",
        }
    }

    /// The `action` of a Kubernetes Event: what the host did.
    pub fn action(self) -> &'static str {
        match self {
            Problem::Step(_) => "RollBack",
            Problem::Limit(Limit::CpuShare | Limit::RequestRate | Limit::RequestsInFlight) | Problem::WriteStorm => {
                "HoldBack"
            }
            Problem::Limit(Limit::ResponseSize) => "CutResponse",
            Problem::Limit(Limit::LogRate) => "DropLines",
            Problem::Limit(Limit::ReconcileTimeout) => "CancelReconcile",
            Problem::Limit(Limit::Disk) => "KeepInMemory",
            Problem::Misuse => "Ignore",
            Problem::Predicate => "LetPass",
            Problem::SelfTriggered => "Reconcile",
            Problem::CrashLoop | Problem::NothingSucceeds | Problem::MemoryFull | Problem::MemoryNearlyFull => {
                "Restart"
            }
            Problem::Install => "LeaveOut",
        }
    }
}

/// How to raise a limit. `limits`: the controller's; `cap`: the most that its host allows.
pub fn how_to_raise(key: &str, limits: &Limits, cap: &Limits) -> Option<String> {
    let value = limits.in_file(key)?;
    Some(match cap.in_file(key) {
        Some(cap) if cap == value => {
            format!(
                "the limit is `{key} = {value}` under [limits] in the host's configuration file: raise it there and restart the host"
            )
        }
        _ => format!(
            "the limit is `{key} = {value}`: raise `{key}` under [limits] in wasmop.toml and build the package again"
        ),
    })
}

/// Least time between two Events of the same controller and problem.
const INTERVAL: Duration = Duration::from_secs(60);

/// When each problem was last reported. Has an entry only for problems that occurred.
#[derive(Default)]
pub struct ProblemReports(HashMap<(u32, Problem), Last>);

struct Last {
    at: Duration,
    /// Occurrences since, not reported.
    since: u32,
}

impl ProblemReports {
    /// Records an occurrence. If it is to be reported, returns the number of occurrences left out since the last
    /// report.
    pub fn happened(&mut self, controller: u32, problem: Problem, now: Duration) -> Option<u32> {
        let mut times = 0;
        if let Some(last) = self.0.get_mut(&(controller, problem)) {
            if now.saturating_sub(last.at) < INTERVAL {
                last.since = last.since.saturating_add(1);
                return None;
            }
            times = last.since;
        }
        self.0.insert((controller, problem), Last { at: now, since: 0 });
        Some(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: Problem = Problem::Step(StepFault::Panic);

    #[test]
    fn each_problem_of_each_controller_is_reported_once_a_minute_with_its_count() {
        let mut reports = ProblemReports::default();
        for (at, controller, problem, expected) in [
            (0, 1, PANIC, Some(0)),
            (1, 1, PANIC, None),
            (1, 2, PANIC, Some(0)),
            (1, 1, Problem::CrashLoop, Some(0)),
            (59, 1, PANIC, None),
            (60, 1, PANIC, Some(2)),
            (61, 1, PANIC, None),
            (120, 1, PANIC, Some(1)),
            (500, 1, PANIC, Some(0)),
        ] {
            let found = reports.happened(controller, problem, Duration::from_secs(at));
            assert_eq!(found, expected, "{controller} {problem:?} at {at} s");
        }
    }

    #[test]
    fn every_limit_is_named_with_the_file_that_sets_it() {
        let mut all = vec![Problem::Step(StepFault::CpuLimit), Problem::Step(StepFault::MemoryLimit)];
        all.extend(Limit::ALL.map(Problem::Limit));
        for problem in all {
            let key = problem.limit_key().unwrap();
            let value = Limits::USUAL.in_file(key).unwrap();
            let own = how_to_raise(key, &Limits::USUAL, &Limits::NONE).unwrap();
            assert!(own.contains(&format!("`{key} = {value}`")) && own.contains("wasmop.toml"), "{own}");
            let capped = how_to_raise(key, &Limits::USUAL, &Limits::USUAL).unwrap();
            assert!(
                capped.contains(&format!("`{key} = {value}`")) && capped.contains("configuration file"),
                "{capped}"
            );
        }
        assert_eq!(PANIC.limit_key(), None);
        assert_eq!(how_to_raise("memory", &Limits::NONE, &Limits::NONE), None);
    }

    #[test]
    fn every_problem_has_a_reason_that_kubernetes_accepts() {
        let mut all = vec![
            Problem::Misuse,
            Problem::Predicate,
            Problem::SelfTriggered,
            Problem::WriteStorm,
            Problem::CrashLoop,
            Problem::NothingSucceeds,
            Problem::MemoryFull,
            Problem::MemoryNearlyFull,
            Problem::Install,
        ];
        all.extend(StepFault::ALL.map(Problem::Step));
        all.extend(Limit::ALL.map(Problem::Limit));
        let reasons: std::collections::BTreeSet<_> = all.iter().map(|problem| problem.reason()).collect();
        assert_eq!(reasons.len(), all.len());
        let is_camel = |text: &str| text.starts_with(char::is_uppercase) && text.chars().all(char::is_alphanumeric);
        assert!(all.iter().all(|p| is_camel(p.reason()) && is_camel(p.action())));
    }
}
