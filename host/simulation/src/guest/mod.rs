//! Simulated guests: programs that obey the step protocol, whose whole state is a value.
//!
//! ```text
//! events ─► Guest::step ─► actions, park │ failure: the state is as before
//!             │
//!             └─ jobs: one state machine for each task (reconcile)
//! ```
//!
//! A guest also checks what the host owes it: each answer once, in order, to an open call, and no object twice at once.

pub mod program;
mod reconcile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use wasmop_core::step::{Action, Call, Event, EventKind, StepFailure, StepFault, StepOutput};

use self::program::{Program, Registration, targets};
use self::reconcile::Job;
use crate::cluster::Kind;
use crate::random::Random;

/// Linear memory of a fresh instance.
pub const BASE_MEMORY: u64 = 1 << 20;

/// In the `aux` of a `map` event: the object is gone.
const MAP_GONE: u32 = 1 << 15;

/// What a step depends on besides the guest's state.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The time of day, in nanoseconds.
    pub wall_ns: u64,
    /// The instance's clock, in nanoseconds.
    pub monotonic_ns: u64,
    /// For the mistakes that it makes.
    pub seed: u64,
    /// The last change in the cluster, for the invariants.
    pub moment: u64,
}

/// How a reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which of the program's registrations.
    pub registration: usize,
    /// The object.
    pub key: Arc<str>,
    /// The last change in the cluster when it began.
    pub moment: u64,
    /// It succeeded.
    pub is_ok: bool,
    /// It is to be reconciled again after this.
    pub requeue: Option<Duration>,
}

/// An open call, as the guest knows it.
#[derive(Clone, Debug, Default)]
struct OpenCall {
    task: u64,
    status: Option<u16>,
    body: Vec<u8>,
}

/// A guest: a program and its state.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What it does.
    pub program: Arc<Program>,
    has_started: bool,
    /// The program's registration by the index that the host knows.
    order: Vec<usize>,
    jobs: BTreeMap<u64, Job>,
    calls: BTreeMap<u64, OpenCall>,
    next_call: u64,
    /// Of the main function, on the instance's clock.
    next_beat: Option<u64>,
    /// What sources were mapped to, by watch and key.
    mapped: BTreeMap<(u32, Arc<str>), Vec<String>>,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Its last step ended when the clock showed this, and it asked to be stepped at that.
    pub parked: Option<(u64, u64)>,
}

/// What comes of a step.
#[derive(Debug, Default)]
pub struct Stepped {
    /// For the host.
    pub output: StepOutput,
    /// Reconciles that ended.
    pub finished: Vec<Finished>,
    /// What the host did wrong.
    pub complaints: Vec<String>,
}

/// A step under way.
struct Step<'a> {
    input: Input,
    random: Random,
    out: &'a mut Stepped,
}

/// Why a step does not return.
pub(crate) struct Trap {
    cause: StepFault,
    entered: u64,
}

impl Guest {
    /// A fresh instance.
    pub fn new(program: Arc<Program>) -> Guest {
        Guest {
            program,
            has_started: false,
            order: Vec::new(),
            jobs: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 1,
            next_beat: None,
            mapped: BTreeMap::new(),
            memory: BASE_MEMORY,
            parked: None,
        }
    }

    /// It waits for nothing: no reconcile is under way, and no answer is due.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.calls.values().all(|call| call.task == 0)
    }

    /// Tasks that it is working on.
    pub fn tasks(&self) -> impl Iterator<Item = u64> + '_ {
        self.jobs.keys().copied()
    }

    /// Open calls, streams included.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// Which of the program's registrations the host means by an `aux`.
    pub fn registration_of(&self, aux: u32) -> Option<usize> {
        self.order.get(aux as usize).copied()
    }

    /// Delivers events.
    ///
    /// # Errors
    /// The step failed. The guest is then in no state to go on: the caller has another one, from before.
    pub fn step(&mut self, input: Input, events: &[Event]) -> Result<Stepped, StepFailure> {
        let mut out = Stepped::default();
        let mut step = Step { input, random: Random::new(input.seed), out: &mut out };
        let mut run = || -> Result<(), Trap> {
            for event in events {
                self.on_event(event, &mut step)?;
            }
            self.on_time(&mut step)
        };
        if let Err(Trap { cause, entered }) = run() {
            let text = || "simulated".to_owned();
            return Err(StepFailure { cause, reason: text(), detail: text(), entered, logs: Vec::new() });
        }
        let wake = self.jobs.values().filter_map(Job::wakes_at).chain(self.next_beat).min();
        self.parked = wake.map(|at| (input.monotonic_ns, at));
        out.output.park = wake.map(|at| Duration::from_nanos(at.saturating_sub(input.monotonic_ns)));
        Ok(out)
    }

    fn on_event(&mut self, event: &Event, step: &mut Step<'_>) -> Result<(), Trap> {
        match event.kind {
            EventKind::Nothing => {}
            EventKind::Start => self.start(step)?,
            EventKind::Reconcile => self.begin(event, step)?,
            EventKind::Map => self.map(event, step),
            EventKind::Cancel => {
                self.jobs.remove(&event.id);
                for call in self.calls.extract_if(.., |_, call| call.task == event.id) {
                    step.out.output.actions.push(Action::DropCall { id: call.0 });
                }
            }
            EventKind::Head | EventKind::Body | EventKind::End | EventKind::Failed => self.answer(event, step)?,
        }
        Ok(())
    }

    fn start(&mut self, step: &mut Step<'_>) -> Result<(), Trap> {
        if std::mem::replace(&mut self.has_started, true) {
            step.out.complaints.push("an instance was started twice".into());
        }
        if self.program.fails_to_start && step.random.percent(50) {
            return Err(Trap { cause: StepFault::Panic, entered: 0 });
        }
        self.order = self.program.order(step.input.wall_ns / 1_000_000);
        for registration in &self.order {
            let spec = self.program.registrations[*registration].text.clone();
            step.out.output.actions.push(Action::Register { spec });
        }
        self.next_beat = self.program.beat.map(|beat| step.input.monotonic_ns + beat.as_nanos() as u64);
        Ok(())
    }

    fn begin(&mut self, event: &Event, step: &mut Step<'_>) -> Result<(), Trap> {
        let key: Arc<str> = String::from_utf8_lossy(&event.payload).into();
        let Some(&registration) = self.order.get(event.aux as usize) else {
            step.out.complaints.push(format!("a reconcile of the unknown registration {}", event.aux));
            return Ok(());
        };
        if self.jobs.values().any(|job| job.registration == registration && job.key == key) {
            step.out.complaints.push(format!("{key} is reconciled twice at once"));
        }
        if self.jobs.contains_key(&event.id) {
            step.out.complaints.push(format!("task {} was given twice", event.id));
        }
        self.jobs.insert(event.id, Job::new(registration, key, step.input.moment));
        self.advance(event.id, None, step)
    }

    /// As the SDKs do: what an object was mapped to before counts as well, and is all there is to say of an object that
    /// is gone and comes without content.
    fn map(&mut self, event: &Event, step: &mut Step<'_>) {
        let (watch, is_gone) = (event.aux & !MAP_GONE, event.aux & MAP_GONE != 0);
        let object: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
        let meta = &object["metadata"];
        let key = crate::cluster::join(meta["namespace"].as_str(), meta["name"].as_str().unwrap_or_default());
        let named = targets(&object["data"]["targets"], &key);
        let before = match is_gone {
            true => self.mapped.remove(&(watch, key)),
            false => self.mapped.insert((watch, key), named.clone()),
        };
        let keys: Vec<String> = named.into_iter().chain(before.unwrap_or_default()).collect();
        step.out.output.actions.push(Action::Mapped { task: event.id, keys: keys.join("\n") });
    }

    fn answer(&mut self, event: &Event, step: &mut Step<'_>) -> Result<(), Trap> {
        let Some(call) = self.calls.get_mut(&event.id) else {
            step.out.complaints.push(format!("{:?} for call {}, which is not open", event.kind, event.id));
            return Ok(());
        };
        let in_order = match event.kind {
            EventKind::Head => call.status.replace(event.aux as u16).is_none(),
            EventKind::Body => {
                call.body.extend_from_slice(&event.payload);
                call.status.is_some()
            }
            EventKind::End => call.status.is_some(),
            _ => true,
        };
        if !in_order {
            step.out.complaints.push(format!("{:?} for call {} out of order", event.kind, event.id));
        }
        if !matches!(event.kind, EventKind::End | EventKind::Failed) {
            return Ok(());
        }
        let Some(OpenCall { task, status, body }) = self.calls.remove(&event.id) else { return Ok(()) };
        let answer = if event.kind == EventKind::End { status.map(|status| (status, body)) } else { None };
        if self.jobs.contains_key(&task) { self.advance(task, Some(answer), step) } else { Ok(()) }
    }

    /// Timers that are due.
    fn on_time(&mut self, step: &mut Step<'_>) -> Result<(), Trap> {
        let now = step.input.monotonic_ns;
        let due: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.wakes_at().is_some_and(|at| at <= now))
            .map(|(task, _)| *task)
            .collect();
        for task in due {
            self.advance(task, None, step)?;
        }
        if let (Some(at), Some(beat)) = (self.next_beat, self.program.beat)
            && at <= now
        {
            self.next_beat = Some(now + beat.as_nanos() as u64);
            self.call(step, 0, "GET", Kind::ConfigMap.path(Some("a")), String::new());
        }
        Ok(())
    }

    fn call(&mut self, step: &mut Step<'_>, task: u64, method: &str, path: String, body: String) {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.insert(id, OpenCall { task, ..OpenCall::default() });
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        step.out.output.actions.push(Action::Call(Call {
            id,
            task,
            target: String::new(),
            method: method.into(),
            path,
            headers: format!("accept: application/json\ncontent-type: {content_type}\n"),
            body: Bytes::from(body),
        }));
    }

    fn registration(&self, index: usize) -> &Registration {
        &self.program.registrations[index]
    }
}

#[cfg(test)]
mod tests {
    use wasmop_package::Tier;
    use wasmop_package::manifest::Limits;

    use super::*;

    #[test]
    fn an_object_that_is_gone_is_mapped_to_what_it_was_mapped_to_before() {
        let program = Program {
            name: "c".into(),
            tier: Tier::Full,
            limits: Limits::USUAL,
            registrations: Vec::new(),
            shuffles: false,
            fails_to_start: false,
            beat: None,
            is_good: true,
        };
        let mut guest = Guest::new(Arc::new(program));
        let source = r#"{"metadata":{"namespace":"a","name":"s"},"data":{"targets":"TARGET"}}"#;
        let partial = r#"{"kind":"PartialObjectMetadata","metadata":{"namespace":"a","name":"s"}}"#.to_owned();
        for (aux, payload, expected) in [
            (2, source.replace("TARGET", "x"), "a/x"),
            (2, source.replace("TARGET", "y"), "a/y\na/x"),
            (3, source.replace("TARGET", "z"), "a/z"),
            (2 | MAP_GONE, partial.clone(), "a/y"),
            (2 | MAP_GONE, partial, ""),
            (3 | MAP_GONE, source.replace("TARGET", "x"), "a/x\na/z"),
        ] {
            let event = Event { kind: EventKind::Map, id: 1, aux, payload: payload.into(), task: 1 };
            let input = Input { wall_ns: 0, monotonic_ns: 0, seed: 0, moment: 0 };
            let Ok(Stepped { output, .. }) = guest.step(input, &[event]) else { panic!("it fails") };
            let [Action::Mapped { keys, .. }] = &output.actions[..] else { panic!("{:?}", output.actions) };
            assert_eq!(keys, expected, "{aux}");
        }
    }
}
