//! Delivers a batch of events to an instance, and when a step fails, undoes it, finds the culprit,
//! cancels that task alone and delivers the rest.
//!
//! The culprit is the task the guest last said it runs (`enter`); failing that, the only task in
//! the batch; failing that, events are delivered one at a time until one fails by itself. With no
//! culprit the instance is lost: it starts again from its base image, and everything in flight is
//! tried again with backoff.

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

/// Attempts on one batch before the instance is given up: each costs a roll-back.
const MAX_ROLLBACKS: usize = 16;

/// Where the instance of a job comes from.
pub enum Source {
    Resident(Box<Instance>),
    /// `wasi`: what of it is granted, `None` for nothing.
    Start {
        origin: Origin,
        wasi: Option<Arc<WasiGrant>>,
        registered: u32,
    },
}

pub struct Batch {
    pub source: Source,
    /// `None`: no step at all, only a resume.
    pub events: Option<Vec<Event>>,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic: u64,
    /// Tasks the guest is working on.
    pub tasks: Vec<u64>,
    /// What the program was started with.
    pub startup: Arc<Startup>,
}

/// What became of a batch.
pub struct Report {
    /// `None`: lost, start again from the base image.
    pub instance: Option<Box<Instance>>,
    /// When the worker began with it.
    pub begun: Instant,
    /// What the steps did.
    pub steps: StepReport,
}

impl Batch {
    pub fn run(self, package: &InstalledPackage, store: &ControllerStore) -> Report {
        let before = thread_cpu_time();
        let mut report = self.run_all(package, store);
        report.steps.cpu = thread_cpu_time().saturating_sub(before);
        report
    }

    fn run_all(self, package: &InstalledPackage, store: &ControllerStore) -> Report {
        let started = Instant::now();
        let mut report = Report { instance: None, begun: started, steps: StepReport::default() };
        let mut instance = match self.source {
            Source::Resident(instance) => {
                // Its pages come back as the step touches them.
                report.steps.resume = instance.is_suspended().then_some(Duration::ZERO);
                instance
            }
            Source::Start { origin, wasi, registered } => {
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
                    tracing::warn!(%error, "cannot undo a failed step");
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

/// Whose fault it is that a step with `events` failed, if that can be said.
///
/// Go switches goroutines at allocations, so there the hint may name a bystander when memory runs
/// out: then whose event it was counts more, and with events of several tasks they are split first.
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

/// The batch with a task cancelled: without its events, and, if the guest has begun it already,
/// with a `cancel` in front.
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
    fn the_task_that_said_it_runs_is_blamed_first() {
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
    fn when_memory_runs_out_the_batch_is_split_before_a_hint_is_believed() {
        let events = [event(EventKind::Reconcile, 1), event(EventKind::Head, 2)];
        let running = BTreeSet::from([1, 2, 3]);
        assert_eq!(blame(StepFault::MemoryLimit, 1, &running, &events), None);
        assert_eq!(blame(StepFault::MemoryLimit, 3, &running, &events[..1]), Some(1));
        assert_eq!(blame(StepFault::MemoryLimit, 3, &running, &[]), Some(3), "a timer of its own");
    }

    #[test]
    fn a_task_that_begins_in_the_batch_is_left_out_and_an_older_one_is_cancelled() {
        let batch = || vec![event(EventKind::Reconcile, 1), event(EventKind::Head, 2), event(EventKind::End, 2)];
        let kinds = |events: Vec<Event>| events.iter().map(|e| (e.kind, e.id)).collect::<Vec<_>>();
        assert_eq!(kinds(without(batch(), 1)), [(EventKind::Head, 20), (EventKind::End, 20)]);
        assert_eq!(kinds(without(batch(), 2)), [(EventKind::Cancel, 2), (EventKind::Reconcile, 10)]);
    }
}
