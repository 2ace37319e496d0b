//! Steps of an instance as a worker of a real host makes them: a step that fails is undone, its culprit is cancelled
//! alone, and the rest is delivered again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use wasmop_core::control_loop::InstanceFacts;
use wasmop_core::step::{Action, Event, EventKind, Failure, Lost, StepFault, StepReport};

use crate::guest::{Finished, Guest, Input, Stepped};

/// Attempts on one batch.
const MAX_ROLLBACKS: usize = 16;
/// Bytes of an instance besides its linear memory.
const TABLE_BYTES: u64 = 64 << 10;

/// A live instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its state.
    pub guest: Guest,
    /// Steps since it was written to disk.
    pub logged: u32,
    /// Its log of steps is full after so many.
    pub log_capacity: u32,
    /// It is of the soft tier.
    pub is_soft: bool,
    /// It is suspended within the process.
    pub is_suspended: bool,
}

impl Instance {
    /// What the loop has to know of it.
    pub fn facts(&self) -> InstanceFacts {
        InstanceFacts {
            anonymous_bytes: if self.is_suspended { 0 } else { self.guest.memory / 4 },
            table_bytes: if self.is_soft { TABLE_BYTES } else { 0 },
            memory_bytes: if self.is_soft { 0 } else { self.guest.memory },
            log_is_full: !self.is_soft && self.logged >= self.log_capacity,
            is_soft: self.is_soft,
            is_suspended: self.is_suspended,
        }
    }
}

/// What came of a batch.
pub struct Report {
    /// `None`: it is lost.
    pub instance: Option<Instance>,
    /// For the loop.
    pub steps: StepReport,
    /// Reconciles that ended.
    pub finished: Vec<Finished>,
    /// What the host did wrong.
    pub complaints: Vec<String>,
}

impl Report {
    /// The snapshot cannot be used.
    pub fn bad_snapshot() -> Report {
        let steps = StepReport { lost: Some(Lost::Snapshot("simulated".into())), ..StepReport::default() };
        Report { instance: None, steps, finished: Vec::new(), complaints: Vec::new() }
    }
}

/// Delivers a batch. `tasks`: those that the guest works on, as the host knows them.
pub fn run(
    mut instance: Instance,
    events: Option<Vec<Event>>,
    tasks: &[u64],
    input: Input,
    drops_done: bool,
) -> Report {
    let (finished, complaints) = Default::default();
    let mut report = Report { instance: None, steps: StepReport::default(), finished, complaints };
    if instance.is_soft && std::mem::take(&mut instance.is_suspended) {
        report.steps.resume = Some(Duration::ZERO);
    }
    for task in instance.guest.tasks().filter(|task| !tasks.contains(task)) {
        let is_cancelled = events.iter().flatten().any(|event| event.kind == EventKind::Cancel && event.id == task);
        if !is_cancelled {
            report.complaints.push(format!("the guest works on task {task}, of which the host does not know"));
        }
    }
    let mut pending = VecDeque::from_iter(events);
    let mut seed = input.seed;
    while let Some(events) = pending.pop_front() {
        let before = instance.guest.clone();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let failure = match instance.guest.step(Input { seed, ..input }, &events) {
            Ok(Stepped { mut output, finished, complaints }) => {
                if drops_done {
                    output.actions.retain(|action| !matches!(action, Action::Done { task, .. } if task % 7 == 3));
                }
                instance.logged += 1;
                report.steps.outputs.push(output);
                report.finished.extend(finished);
                report.complaints.extend(complaints);
                continue;
            }
            Err(failure) => failure,
        };
        let memory_before = if instance.is_soft { 0 } else { before.memory };
        instance.guest = before;
        let running: BTreeSet<u64> =
            tasks.iter().copied().chain(events.iter().map(|event| event.task).filter(|task| *task != 0)).collect();
        let culprit = blame(failure.cause, failure.entered, &running, &events);
        report.steps.failures.push(Failure {
            cause: failure.cause,
            reason: failure.reason,
            detail: failure.detail,
            logs: failure.logs,
            culprit,
            replayed_steps: instance.logged as usize,
            memory_before,
        });
        if instance.is_soft {
            report.steps.lost = Some(Lost::NotUndone);
            return report;
        }
        let splits = culprit.is_none() && events.len() > 1;
        if report.steps.failures.len() >= MAX_ROLLBACKS || culprit.is_none() && !splits {
            report.steps.lost = Some(Lost::NoCulprit);
            return report;
        }
        match culprit {
            Some(task) => pending.push_front(without(events, task)),
            None => events.into_iter().rev().for_each(|event| pending.push_front(vec![event])),
        }
    }
    report.instance = Some(instance);
    report
}

/// Whose fault it is that a step failed, if that can be said.
fn blame(cause: StepFault, entered: u64, running: &BTreeSet<u64>, events: &[Event]) -> Option<u64> {
    let hinted = running.contains(&entered).then_some(entered);
    let tasks: BTreeSet<u64> = events.iter().map(|event| event.task).collect();
    let only = tasks.first().copied().filter(|task| tasks.len() == 1 && *task != 0);
    match cause {
        StepFault::MemoryLimit if tasks.len() > 1 => None,
        StepFault::MemoryLimit => only.or(hinted),
        StepFault::Panic | StepFault::CpuLimit | StepFault::ActionLimit | StepFault::Trap => hinted.or(only),
    }
}

/// The batch without a task, which is cancelled if the guest has begun it.
fn without(events: Vec<Event>, task: u64) -> Vec<Event> {
    let begins = |event: &Event| event.task == task && matches!(event.kind, EventKind::Reconcile | EventKind::Map);
    let cancel = Event { kind: EventKind::Cancel, id: task, aux: 0, payload: Default::default(), task };
    let first = (!events.iter().any(begins)).then_some(cancel);
    first.into_iter().chain(events.into_iter().filter(|event| event.task != task)).collect()
}
