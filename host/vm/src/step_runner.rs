//! Runs a batch of events as a step. If the step fails, it rolls the step back, cancels the task that is to blame, and
//! delivers the rest.
//!
//! ```text
//!  batch ──► step ──ok──► output
//!             │ failed
//!             ▼
//!          roll back ──► a task to blame?   ── yes ──► cancel it, deliver the rest
//!                        several events?    ── yes ──► deliver them one by one
//!                        neither, or 16 roll-backs ──► the instance is lost
//! ```
//!
//! To blame is the task that the guest last said it runs (`enter`), else the only task of the batch. A lost instance
//! starts again from its base image, and the host retries everything in flight with backoff.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmop_core::startup::Startup;
use wasmop_core::step::{Event, EventKind, Failure, Lost, StepFailure, StepFault, StepInput, StepReport};
use wasmop_snapshot::ControllerStore;

use crate::compiled_package::InstalledPackage;
use crate::instance::{Instance, Origin, StartError};
use crate::step_input::step_input;
use crate::thread_clock::thread_cpu_time;
use crate::wasi::WasiGrant;

/// Roll-backs of one batch after which the instance is lost.
const MAX_ROLLBACKS: usize = 16;

/// Where the instance of a job comes from.
pub enum InstanceSource {
    /// It is in memory.
    Resident(Box<Instance>),
    /// The job starts or resumes it.
    Start {
        /// What it starts from.
        origin: Origin,
        /// Its grant of WASI; `None`: nothing.
        wasi: Option<Arc<WasiGrant>>,
        /// Controllers that the package has registered before.
        registered: u32,
    },
}

/// Steps of one instance for one batch of events, to run on a worker.
pub struct StepJob {
    /// The instance.
    pub source: InstanceSource,
    /// The batch. `None`: resume the instance and run no step.
    pub events: Option<Vec<Event>>,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic: u64,
    /// Tasks that the guest is working on.
    pub tasks: Vec<u64>,
    /// Environment and arguments of the program.
    pub startup: Arc<Startup>,
}

/// The result of a [`StepJob`].
pub struct StepJobReport {
    /// The instance. `None`: it is lost and starts again from the base image.
    pub instance: Option<Box<Instance>>,
    /// When a worker began the job.
    pub begun: Instant,
    /// What the steps did.
    pub steps: StepReport,
}

impl StepJob {
    /// Runs the job on this thread.
    pub fn run(self, package: &InstalledPackage, store: &ControllerStore) -> StepJobReport {
        let before = thread_cpu_time();
        let mut report = self.run_all(package, store);
        report.steps.cpu = thread_cpu_time().saturating_sub(before);
        report
    }

    fn run_all(self, package: &InstalledPackage, store: &ControllerStore) -> StepJobReport {
        let started = Instant::now();
        let mut report = StepJobReport { instance: None, begun: started, steps: StepReport::default() };
        let mut instance = match self.source {
            InstanceSource::Resident(instance) => {
                // Its pages come back as the step touches them, so the resume itself takes no time.
                report.steps.resume = instance.is_suspended().then_some(Duration::ZERO);
                instance
            }
            InstanceSource::Start { origin, wasi, registered } => {
                let from_snapshot = matches!(origin, Origin::Snapshot(_));
                match Instance::start(package, store, wasi.as_deref(), &self.startup, origin, registered) {
                    Ok(instance) => {
                        report.steps.resume = Some(started.elapsed());
                        Box::new(instance)
                    }
                    Err(error @ (StartError::Snapshot(_) | StartError::Instantiate(_))) if from_snapshot => {
                        report.steps.lost = Some(Lost::Snapshot(error.to_string()));
                        return report;
                    }
                    Err(error) => {
                        report.steps.lost = Some(Lost::Start(error.to_string()));
                        return report;
                    }
                }
            }
        };
        let stepping = Instant::now();
        let input = |events| StepInput { startup: Some(self.startup.clone()), ..step_input(self.monotonic, events) };
        let mut pending = VecDeque::from_iter(self.events);
        while let Some(events) = pending.pop_front() {
            let (failure, events) = match instance.step(input(events)) {
                Ok(output) => {
                    report.steps.outputs.push(output);
                    continue;
                }
                Err(failed) => failed,
            };
            let mut running: BTreeSet<u64> = self.tasks.iter().copied().collect();
            running.extend(events.iter().map(|e| e.task).filter(|t| *t != 0));
            let culprit = blame(failure.cause, failure.entered, &running, &events);
            let split = culprit.is_none() && events.len() > 1;
            let full = match *instance {
                Instance::Full(full) => full,
                Instance::Soft(_) => {
                    let StepFailure { cause, reason, detail, logs, .. } = failure;
                    report.steps.failures.push(Failure {
                        cause,
                        reason,
                        detail,
                        logs,
                        culprit,
                        replayed_steps: 0,
                        memory_before: 0,
                    });
                    report.steps.lost = Some(Lost::NotUndone);
                    report.steps.step = stepping.elapsed();
                    return report;
                }
            };
            let (rolled_back, replayed_steps) = match full.rolled_back(package, store) {
                Ok((rolled_back, steps)) => (Some(Instance::Full(rolled_back)), steps),
                Err(error) => {
                    tracing::warn!(%error, "cannot roll back a failed step");
                    (None, 0)
                }
            };
            report.steps.failures.push(Failure {
                cause: failure.cause,
                reason: failure.reason,
                detail: failure.detail,
                logs: failure.logs,
                culprit,
                replayed_steps,
                memory_before: rolled_back.as_ref().map_or(0, Instance::memory_size),
            });
            let exhausted = report.steps.failures.len() >= MAX_ROLLBACKS;
            match rolled_back {
                Some(undone) if !exhausted && (culprit.is_some() || split) => {
                    instance = Box::new(undone);
                    if let Some(task) = culprit {
                        pending.push_front(without(events, task));
                    } else {
                        for event in events.into_iter().rev() {
                            pending.push_front(vec![event]);
                        }
                    }
                }
                _ => {
                    report.steps.lost = Some(Lost::NoCulprit);
                    report.steps.step = stepping.elapsed();
                    return report;
                }
            }
        }
        report.steps.step = stepping.elapsed();
        instance.measure();
        report.instance = Some(instance);
        report
    }
}

/// The task to blame for a failed step with `events`, if there is evidence.
///
/// Go switches goroutines at allocations, so when memory runs out, the hint may name a bystander. Then the batch counts
/// more than the hint, and events of several tasks are delivered one by one first.
fn blame(cause: StepFault, entered: u64, running: &BTreeSet<u64>, events: &[Event]) -> Option<u64> {
    let hinted = running.contains(&entered).then_some(entered);
    let mut tasks: Vec<u64> = events.iter().map(|e| e.task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let only = match tasks[..] {
        [task] if task != 0 => Some(task),
        _ => None,
    };
    match cause {
        StepFault::MemoryLimit if tasks.len() > 1 => None,
        StepFault::MemoryLimit => only.or(hinted),
        StepFault::Panic | StepFault::CpuLimit | StepFault::ActionLimit | StepFault::Trap => hinted.or(only),
    }
}

/// The batch without the events of `task`. If the guest has begun the task before, a `cancel` comes first.
fn without(events: Vec<Event>, task: u64) -> Vec<Event> {
    let begins_here = |e: &Event| e.task == task && matches!(e.kind, EventKind::Reconcile | EventKind::Map);
    let mut rest = Vec::with_capacity(events.len() + 1);
    if !events.iter().any(begins_here) {
        rest.push(Event { kind: EventKind::Cancel, id: task, aux: 0, payload: Default::default(), task });
    }
    rest.extend(events.into_iter().filter(|e| e.task != task));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, task: u64) -> Event {
        Event { kind, id: task * 10, aux: 0, payload: Default::default(), task }
    }

    #[test]
    fn the_entered_task_is_blamed_first() {
        let events = [event(EventKind::Reconcile, 1), event(EventKind::Head, 2)];
        let running = BTreeSet::from([1, 2, 3]);
        for (entered, expected) in [(3, Some(3)), (2, Some(2)), (0, None), (9, None)] {
            assert_eq!(blame(StepFault::Panic, entered, &running, &events), expected, "entered {entered}");
        }
        assert_eq!(blame(StepFault::Trap, 0, &running, &events[..1]), Some(1), "the only task in the batch");
        assert_eq!(blame(StepFault::Trap, 0, &running, &[event(EventKind::Start, 0)]), None);
        assert_eq!(blame(StepFault::Trap, 0, &running, &[]), None);
    }

    #[test]
    fn at_the_memory_limit_the_batch_is_split_before_the_hint_counts() {
        let events = [event(EventKind::Reconcile, 1), event(EventKind::Head, 2)];
        let running = BTreeSet::from([1, 2, 3]);
        assert_eq!(blame(StepFault::MemoryLimit, 1, &running, &events), None);
        assert_eq!(blame(StepFault::MemoryLimit, 3, &running, &events[..1]), Some(1));
        assert_eq!(blame(StepFault::MemoryLimit, 3, &running, &[]), Some(3), "a timer of its own");
    }

    #[test]
    fn a_new_task_is_dropped_and_an_older_one_is_cancelled() {
        let batch = || vec![event(EventKind::Reconcile, 1), event(EventKind::Head, 2), event(EventKind::End, 2)];
        let kinds = |events: Vec<Event>| events.iter().map(|e| (e.kind, e.id)).collect::<Vec<_>>();
        assert_eq!(kinds(without(batch(), 1)), [(EventKind::Head, 20), (EventKind::End, 20)]);
        assert_eq!(kinds(without(batch(), 2)), [(EventKind::Cancel, 2), (EventKind::Reconcile, 10)]);
    }
}
