//! Batches to workers, and what comes back into effects: requests, watches, lines in the log.

use std::time::Duration;

use wasmop_package::Tier;

use super::{Host, Message, Phase};
use crate::batch::{Batch, Lost, Report, Source};
use crate::code::CODE_LINGERS;
use crate::controller::{Effect, Outcome};
use crate::guest::emit_logs;
use crate::instance::Origin;
use crate::status::counters::ReconcileResult;

impl Host {
    /// Hands the instance and a batch to a worker; with `None` it is resumed and nothing more.
    pub(super) fn step(&mut self, index: u32, events: Option<Vec<crate::guest::Event>>, now: Duration) {
        let slot = &mut self.slots[index as usize];
        slot.return_credit();
        let registered = slot.controller.registered();
        let (source, suspended) = match std::mem::replace(&mut slot.phase, Phase::Busy) {
            Phase::Resident(instance) => {
                let suspended = instance.is_suspended();
                (Source::Resident(instance), suspended)
            }
            Phase::Suspended(origin) => {
                let suspended = matches!(origin, Origin::Snapshot(_));
                (Source::Start { origin, registered }, suspended)
            }
            Phase::Busy => return,
        };
        let count = events.as_ref().map_or(0, Vec::len);
        let batch =
            Batch { source, events, monotonic: slot.controller.clock(now), tasks: slot.controller.tasks().collect() };
        let (package, store, tx) = (slot.package.clone(), slot.store.clone(), self.tx.clone());
        self.code_check.get_or_insert_with(|| tokio::time::Instant::now() + CODE_LINGERS);
        self.schedule(index, None);
        self.pool.submit(move || {
            let report = batch.run(&package, &store);
            let _ = tx.send(Message::Stepped { slot: index, stepped_at: now, report, suspended, events: count });
        });
    }

    pub(super) fn on_stepped(
        &mut self,
        index: u32,
        stepped_at: Duration,
        report: Report,
        suspended: bool,
        events: usize,
    ) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let name = slot.name.clone();
        let Report { instance, lost, outputs, failures, resume, step } = report;
        let held = if resume.is_some() { 0 } else { slot.deciding.anonymous_bytes };
        slot.deciding.anonymous_bytes = instance.as_ref().map_or(0, |i| i.anonymous_bytes());
        let has_grown = slot.deciding.anonymous_bytes > held;
        if !(outputs.is_empty() && failures.is_empty()) {
            slot.counters.stepped(step);
            self.totals.steps.observe(step);
        }
        if let (Some(resume), true) = (resume, suspended) {
            slot.counters.resumed(resume);
            slot.deciding.predictor.on_resumed(resume);
            tracing::info!(
                controller = &*name,
                events,
                resume_us = resume.as_micros() as u64,
                step_us = step.as_micros() as u64,
                "resumed"
            );
        }
        let mut effects = Vec::new();
        for failure in failures {
            emit_logs(&name, &failure.logs);
            let object = failure.culprit.map(|task| slot.controller.object_of(task)).unwrap_or_default();
            tracing::warn!(
                controller = &*name,
                cause = failure.cause.as_str(),
                object = &*object,
                detail = %failure.detail,
                "step failed"
            );
            slot.counters.step_failed(failure.cause);
            slot.counters.error(now, &object, &format!("{}: {}", failure.cause.as_str(), failure.detail));
            if let Some(task) = failure.culprit {
                let undone = !matches!(lost, Some(Lost::NotUndone));
                if undone {
                    tracing::info!(
                        controller = &*name,
                        culprit = &*object,
                        replayed_steps = failure.replayed_steps,
                        "rolled back"
                    );
                }
                effects.extend(slot.controller.cancelled(task, !undone, now));
            }
        }
        let first_registration = slot.controller.registered();
        for output in outputs {
            emit_logs(&name, &output.logs);
            effects.extend(slot.controller.commit(output, stepped_at, now));
        }
        slot.phase = match instance {
            Some(instance) => Phase::Resident(instance),
            None => Phase::Suspended(Origin::Fresh),
        };
        let registrations = slot.controller.registered();
        if registrations > first_registration {
            tracing::info!(controller = &*name, registrations, from = "start", "controller ready");
        }
        for effect in effects {
            self.on_effect(index, effect);
        }
        if let Some(lost) = lost {
            self.restart(index, lost);
        }
        if has_grown {
            self.keep_budget();
        }
    }

    /// The instance is gone: begin again from the base image.
    pub(super) fn restart(&mut self, index: u32, lost: Lost) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let clock = slot.package.first_monotonic_ns();
        let failed = !matches!(lost, Lost::Snapshot(_));
        let calls = slot.controller.reset(failed, now, clock);
        let reason = match lost {
            Lost::Snapshot(reason) => {
                tracing::warn!(controller = &*slot.name, %reason, "snapshot rejected");
                reason
            }
            Lost::Start(reason) => reason,
            Lost::NotUndone => "a step of a package of the soft tier can't be undone".into(),
            Lost::NoCulprit => "a step failed and no single reconcile could be blamed for it".into(),
        };
        slot.counters.restarted();
        slot.counters.error(now, "", &format!("began anew: {reason}"));
        let wait = slot.controller.held_until().map_or(Duration::ZERO, |t| t.saturating_sub(now));
        tracing::warn!(
            controller = &*slot.name,
            %reason,
            wait_ms = wait.as_millis() as u64,
            "{}",
            match slot.package.tier() {
                Tier::Full => "restarted from base image",
                Tier::Soft => "restarted anew, its memory is lost",
            }
        );
        for call in calls {
            self.on_effect(index, Effect::DropCall(call));
        }
        // What it knew is lost: every object is to be seen again.
        for (watch, subscription) in self.subscriptions_of(index) {
            self.replay(watch, subscription);
        }
    }

    pub(super) fn on_effect(&mut self, index: u32, effect: Effect) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let controller = &*slot.name;
        match effect {
            Effect::Call(call) => self.request(index, call),
            Effect::DropCall(call) => {
                if let Some(request) = slot.requests.remove(&call) {
                    request.task.abort();
                }
            }
            Effect::Registered(registration) => self.watch(index, registration),
            Effect::Mapped { registration, keys } => {
                for key in keys {
                    self.enqueue_related(index, registration, key, false);
                }
            }
            Effect::Misbehaved(what) => tracing::warn!(controller, what, "the guest misused the runtime interface"),
            Effect::Reconciled { registration, key, outcome, took } => {
                let object = &*key;
                slot.counters.reconciled(result_of(&outcome), took);
                if let Outcome::Error { message, .. } = &outcome {
                    slot.counters.error(now, object, message);
                }
                let ms = |d: Duration| d.as_millis() as u64;
                match outcome {
                    Outcome::Ok => tracing::info!(controller, registration, object, outcome = "ok", "reconciled"),
                    Outcome::Requeue(after) => tracing::info!(
                        controller,
                        registration,
                        object,
                        outcome = "requeue",
                        after_ms = ms(after),
                        "reconciled"
                    ),
                    Outcome::Error { message, retry_after } => tracing::warn!(
                        controller,
                        registration,
                        object,
                        outcome = "error",
                        error = %message,
                        after_ms = ms(retry_after),
                        "reconciled"
                    ),
                    Outcome::Cancelled { retry_after } => tracing::warn!(
                        controller,
                        registration,
                        object,
                        outcome = "cancelled",
                        after_ms = ms(retry_after),
                        "reconciled"
                    ),
                }
            }
        }
    }
}

fn result_of(outcome: &Outcome) -> ReconcileResult {
    match outcome {
        Outcome::Ok => ReconcileResult::Success,
        Outcome::Requeue(_) => ReconcileResult::RequeueAfter,
        Outcome::Error { .. } | Outcome::Cancelled { .. } => ReconcileResult::Error,
    }
}
