//! Commits the output of a step: actions become effects, finished tasks return to the work queues.

use std::time::Duration;

use bytes::Bytes;

use super::account::Opened;
use super::{Controller, Effect, NO_DEADLINE, Outcome, RESTART_BACKOFF, Task};
use crate::excerpt::excerpt;
use crate::permissions::is_watch;
use crate::step::{Action, Call, Event, EventKind, StepOutput};
use crate::work_queue::Backoff;

/// Most cancelled tasks remembered until the guest learns of it.
const MAX_CANCELLED: usize = 256;
/// Backoff of an object that cost its controller the instance. Other objects get their turn first, and a new instance
/// waits as well.
const CULPRIT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), max: Duration::from_secs(600) };

impl Controller {
    /// Commits a step's output. `stepped_at`: the step's clock.
    pub fn commit(&mut self, output: StepOutput, stepped_at: Duration, now: Duration) -> Vec<Effect> {
        self.deadline = output.park.filter(|park| *park < NO_DEADLINE).map(|park| stepped_at + park);
        let mut effects = Vec::new();
        for action in output.actions {
            match action {
                Action::Register { spec } => effects.push(match self.registrations.register(&spec) {
                    Ok(registration) => Effect::Registered(registration),
                    Err(why) => Effect::Misbehaved(why),
                }),
                Action::Call(call) => self.call(call, &mut effects),
                Action::DropCall { id } => {
                    if self.account.close(id).is_some() {
                        self.account.drop_events(|e| e.id == id && is_answer(e.kind));
                        effects.push(Effect::DropCall(id));
                    }
                }
                Action::Done { task, requeue_after, error } => {
                    match self.remove_task(task) {
                        Some(done) if done.is_map() => effects.push(self.map_done(task, &done, error, now)),
                        Some(done) => effects.push(self.done(task, done, requeue_after, error, now)),
                        // The guest finished it before it learnt of the cancellation.
                        None if self.cancelled.remove(&task) => {}
                        None => effects.push(Effect::Misbehaved(format!("`done` for the unknown task {task}"))),
                    }
                    // The instance has worked at least as long as its last backoff.
                    if now.saturating_sub(self.begun) >= RESTART_BACKOFF.delay(self.crashes) {
                        self.crashes = 0;
                    }
                }
                Action::Mapped { task, keys } => match self.remove_task(task) {
                    Some(mapped) if mapped.is_map() => effects.push(self.mapped(&mapped, &keys)),
                    None if self.cancelled.remove(&task) => {}
                    other => {
                        effects.push(Effect::Misbehaved(format!("`mapped` for task {task}, which is no map task")));
                        if let Some(task_) = other {
                            self.insert_task(task, task_);
                        }
                    }
                },
            }
        }
        self.retire(&mut effects);
        effects
    }

    /// Retires registrations that this instance has not repeated, once its main function waits for nothing. Until then
    /// it may still register.
    fn retire(&mut self, effects: &mut Vec<Effect>) {
        if !self.started || self.registrations.len() == self.registrations.live().count() {
            return;
        }
        let main_waits = self.account.calls().values().any(|call| call.task == 0)
            || self.account.inbox().iter().any(|event| event.task == 0)
            // With a registration, the timer may belong to a reconcile.
            || self.deadline.is_some() && !self.has_registered();
        if !main_waits {
            effects.extend(self.registrations.retire().into_iter().map(Effect::Unregistered));
        }
    }

    fn call(&mut self, call: Call, effects: &mut Vec<Effect>) {
        let id = call.id;
        let is_watch = call.target.is_empty() && is_watch(&call.method, &call.path);
        match self.account.open(id, call.task, is_watch, call.bytes()) {
            Opened::Open => effects.push(Effect::Call(call)),
            Opened::Duplicate => effects.push(Effect::Misbehaved(format!("call {id}: this call id is in use"))),
            Opened::Full => {
                effects.push(Effect::Misbehaved(format!("call {id}: too many calls in flight")));
                let payload = Bytes::from_static(b"refused by the host: too many calls in flight");
                self.account.push(Event { kind: EventKind::Failed, id, aux: 0, payload, task: call.task });
            }
        }
    }

    fn done(
        &mut self,
        task: u64,
        done: Task,
        requeue_after: Option<Duration>,
        error: Option<String>,
        now: Duration,
    ) -> Effect {
        let took = done.took(now);
        let Task { registration, key, .. } = done;
        let Some(r) = self.registrations.get_mut(registration) else {
            return Effect::Misbehaved("task of an unknown registration".into());
        };
        let outcome = match (error, requeue_after) {
            (None, None) => {
                r.queue.forget(&key);
                Outcome::Ok
            }
            (None, Some(after)) => {
                r.queue.forget(&key);
                r.queue.add_at(key.clone(), now.saturating_add(after));
                Outcome::Requeue(after)
            }
            (Some(message), None) => {
                let retry_after = r.queue.retry(key.clone(), now);
                Outcome::Error { message: excerpt(&message), retry_after: Some(retry_after) }
            }
            (Some(message), Some(after)) if after >= NO_DEADLINE => {
                r.queue.forget(&key);
                Outcome::Error { message: excerpt(&message), retry_after: None }
            }
            (Some(message), Some(after)) => {
                r.queue.add_at(key.clone(), now.saturating_add(after));
                Outcome::Error { message: excerpt(&message), retry_after: Some(after) }
            }
        };
        r.queue.done(&key, now);
        Effect::Reconciled { task, registration, key, outcome, took }
    }

    /// Cancels a task because a step failed on it, and retries it with backoff. Instead of a `map` task, all objects of
    /// the registration are reconciled. `lost`: the instance was lost.
    pub fn cancelled(&mut self, task: u64, lost: bool, now: Duration) -> Option<Effect> {
        self.account.drop_events(|e| e.task == task);
        let cancelled = self.remove_task(task)?;
        let took = cancelled.took(now);
        self.cancelled.insert(task);
        if self.cancelled.len() > MAX_CANCELLED {
            self.cancelled.pop_first();
        }
        if cancelled.is_map() {
            self.map_failed(cancelled.registration, now);
            return None;
        }
        let Task { registration, key, .. } = cancelled;
        let r = self.registrations.get_mut(registration)?;
        let retry_after = match lost {
            // The new instance starts with backoff. Other objects come before the culprit, however many crashes there
            // were.
            true => {
                let begins_in = RESTART_BACKOFF.delay(self.crashes.saturating_add(1));
                begins_in + r.queue.retry_with(CULPRIT_BACKOFF, key.clone(), now.saturating_add(begins_in))
            }
            false => r.queue.retry(key.clone(), now),
        };
        r.queue.done(&key, now);
        let outcome = Outcome::Cancelled { retry_after };
        Some(Effect::Reconciled { task, registration, key, outcome, took })
    }
}

fn is_answer(kind: EventKind) -> bool {
    matches!(kind, EventKind::Head | EventKind::Body | EventKind::End | EventKind::Failed)
}
