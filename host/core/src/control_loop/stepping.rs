//! Batches of events to workers, and what comes back into requests, watches and lines of log.

use std::time::Duration;

use wasmop_package::manifest::Mode;

use super::effect::{ReconcileBegun, Step};
use super::event::Stepped;
use super::parts::{Phase, SlotId};
use super::{ControlLoop, Environment, HostEffect, SpanEvent};
use crate::controller::{Effect, Outcome};
use crate::crash_log;
use crate::excerpt::excerpt;
use crate::limits::problem::Problem;
use crate::status::counters::ReconcileResult;
use crate::step::{Event, EventKind, Failure, LogLine, Lost, StepFault};

impl<E: Environment> ControlLoop<E> {
    /// Orders a step with these events; with `None` the instance is resumed and nothing more.
    pub(super) fn step(&mut self, id: SlotId, events: Option<Vec<Event>>) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        slot.return_credit();
        slot.phase = Phase::Busy;
        if let Some(events) = &events {
            for event in events.iter().filter(|event| event.kind == EventKind::Reconcile) {
                self.span_begin(id, event.task, false);
            }
        }
        let slot = &mut self.slots[id];
        let step = Step {
            slot: id,
            events,
            at: now,
            monotonic_ns: slot.controller.clock(now),
            tasks: slot.controller.tasks().collect(),
            registered: slot.controller.registered(),
        };
        self.schedule(id, None);
        self.effects.push(HostEffect::Step(Box::new(step)));
    }

    /// A worker is back.
    pub(super) fn on_stepped(&mut self, stepped: Stepped) {
        let Stepped { slot: id, stepped_at, was_suspended, events, instance, report } = stepped;
        // A step that ended after the lease was lost does not count.
        if !self.slots[id].leadership.holds(self.now.boot) {
            return self.discard(id);
        }
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let resume = report.resume;
        let held = if resume.is_some() { 0 } else { slot.suspension.anonymous_bytes };
        slot.suspension.anonymous_bytes = instance.map_or(0, |instance| instance.anonymous_bytes);
        let has_grown = slot.suspension.anonymous_bytes > held;
        if !(report.outputs.is_empty() && report.failures.is_empty()) {
            slot.counters.stepped(report.cpu);
            self.totals.steps.observe(report.step);
        }
        if let (Some(resume), true) = (resume, was_suspended) {
            slot.counters.resumed(resume);
            slot.suspension.predictor.on_resumed(resume);
            if self.may_log(id, 0) {
                tracing::info!(
                    controller = &*self.slots[id].name,
                    events,
                    resume_us = resume.as_micros() as u64,
                    step_us = report.step.as_micros() as u64,
                    "resumed"
                );
            }
        }
        let mut effects = Vec::new();
        let mut is_over_log_limit = false;
        for failure in report.failures {
            effects.extend(self.on_step_failure(id, failure, report.lost.as_ref(), &mut is_over_log_limit));
        }
        let slot = &mut self.slots[id];
        let registered_before = slot.controller.registered();
        for output in report.outputs {
            is_over_log_limit |= slot.write_logs(&output.logs, self.guest_log_level, now);
            if output.refused_memory {
                slot.throttles.liveness.get_or_insert_default().refused_memory();
            }
            effects.extend(slot.controller.commit(output, stepped_at, now));
        }
        slot.phase = instance.map_or(Phase::FRESH, Phase::Resident);
        let registrations = slot.controller.registered();
        // A guest-driven package registers nothing; its main function runs.
        let has_begun = resume.is_some() && !was_suspended && instance.is_some() && report.lost.is_none();
        if registrations > registered_before || slot.package.mode == Mode::GuestDriven && has_begun {
            tracing::info!(controller = &*slot.name, registrations, from = "start", "controller ready");
        }
        let mut misuses = Vec::new();
        for effect in effects {
            match effect {
                Effect::Misbehaved(what) => misuses.push(what),
                effect => self.on_effect(id, effect),
            }
        }
        if is_over_log_limit {
            self.report_log_limit(id);
        }
        self.on_misuses(id, &misuses);
        let overdrawn = self.slots[id].controller.is_overdrawn().then(|| {
            self.discard(id);
            Lost::Overdrawn
        });
        match report.lost.or(overdrawn) {
            Some(lost) => self.restart(id, lost),
            None => self.check_liveness(id),
        }
        // One that is given up waits for the answers that are due, and makes no further requests.
        if self.slots[id].leadership.is_active() {
            self.end_overdue(id);
            self.send_waiting(id);
        }
        if has_grown {
            self.keep_budget();
        }
        let slot = &mut self.slots[id];
        slot.throttles.cpu_share.used(&slot.package.limits, report.cpu, now);
    }

    /// A step failed and was undone, if it could be. Returns what follows for its culprit.
    fn on_step_failure(
        &mut self,
        id: SlotId,
        mut failure: Failure,
        lost: Option<&Lost>,
        is_over_log_limit: &mut bool,
    ) -> Option<Effect> {
        let now = self.now.host;
        failure.logs = crash_log::gather(failure.logs);
        let slot = &mut self.slots[id];
        let name = slot.name.clone();
        *is_over_log_limit |= slot.write_logs(&failure.logs, self.guest_log_level, now);
        let culprit = failure.culprit.and_then(|task| slot.controller.task_object(task));
        let object = culprit.as_ref().map(|(_, key)| key.clone()).unwrap_or_default();
        slot.counters.step_failed(failure.cause);
        let memory = slot.memory_use(failure.memory_before).filter(|_| failure.cause == StepFault::MemoryLimit);
        let blamed = failure.culprit.and_then(|task| slot.controller.blamed(task));
        slot.note_failure(blamed, memory, now);
        let detail = excerpt(&failure.detail);
        if self.may_log(id, object.len() + detail.len()) {
            tracing::warn!(
                controller = &*name,
                cause = failure.cause.as_str(),
                object = &*object,
                detail,
                "step failed"
            );
        }
        let message = describe(&failure);
        self.report_problem(id, Problem::Step(failure.cause), culprit, &message);
        let task = failure.culprit?;
        if self.is_traced {
            let blame = SpanEvent::Blame { slot: id, task, cause: failure.cause.as_str(), message };
            self.effects.push(HostEffect::Span(blame));
        }
        let is_undone = !matches!(lost, Some(Lost::NotUndone));
        if is_undone && self.may_log(id, object.len()) {
            tracing::info!(
                controller = &*name,
                culprit = &*object,
                replayed_steps = failure.replayed_steps,
                "rolled back"
            );
        }
        self.slots[id].controller.cancelled(task, !is_undone, now)
    }

    /// A step said something that makes no sense.
    fn on_misuses(&mut self, id: SlotId, misuses: &[String]) {
        let Some(what) = misuses.first() else { return };
        let slot = &mut self.slots[id];
        slot.throttles.cpu_share.misused(self.now.host);
        let name = slot.name.clone();
        let more = misuses.len() - 1;
        if self.may_log(id, what.len()) {
            tracing::warn!(controller = &*name, what, more, "the guest misused the runtime interface");
        }
        let more = if more > 0 { format!(" (and {more} more in this step)") } else { String::new() };
        self.report_problem(id, Problem::Misuse, None, &format!("misused the runtime interface: {what}{more}"));
    }

    /// Carries out what follows from a step of a controller.
    pub(super) fn on_effect(&mut self, id: SlotId, effect: Effect) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        match effect {
            Effect::Call(call) => self.on_call(id, call),
            Effect::DropCall(call) => self.on_dropped_call(id, call),
            Effect::Registered(registration) => self.watch(id, registration),
            Effect::Unregistered(registration) => self.unwatch(id, Some(registration)),
            Effect::Mapped { registration, keys } => {
                if let Some(triggers) = &mut slot.requests.self_triggers {
                    // Which change the guest was asked about is no longer known.
                    keys.iter().for_each(|key| triggers.interrupted(&(registration, key.clone())));
                }
                if let Some(liveness) = &mut slot.throttles.liveness {
                    liveness.mapped(registration);
                }
                let malformed = self.enqueue_mapped(id, registration, keys);
                if malformed > 0 {
                    self.on_misuses(id, &[format!("a map function returned {malformed} names that are no keys")]);
                }
            }
            Effect::MapFailed { registration, message, retry_after } => {
                if let Some(liveness) = &mut slot.throttles.liveness {
                    liveness.mapped(registration);
                }
                slot.counters.error(now, "", &format!("map function: {message}"));
                if self.may_log(id, message.len()) {
                    tracing::warn!(
                        controller = &*self.slots[id].name,
                        registration = registration.0,
                        error = %message,
                        after_ms = retry_after.as_millis() as u64,
                        "map function failed; all objects are reconciled"
                    );
                }
            }
            Effect::Misbehaved(what) => self.on_misuses(id, &[what]),
            Effect::Reconciled { task, registration, key, outcome, took } => {
                if self.is_traced {
                    let end = SpanEvent::End { slot: id, task, outcome: outcome.clone() };
                    self.effects.push(HostEffect::Span(end));
                }
                let object = (registration, key);
                if let Some(liveness) =
                    slot.throttles.liveness.as_mut().filter(|_| !matches!(outcome, Outcome::Cancelled { .. }))
                {
                    liveness.ended(&object);
                }
                if let (Outcome::Error { .. } | Outcome::Cancelled { .. }, Some(triggers)) =
                    (&outcome, &mut slot.requests.self_triggers)
                {
                    triggers.interrupted(&object);
                }
                slot.counters.reconciled(result_of(&outcome), took);
                if let Outcome::Error { message, .. } = &outcome {
                    slot.counters.error(now, &object.1, message);
                }
                self.log_reconciled(id, object.0.0, &object.1, outcome);
            }
        }
    }

    fn log_reconciled(&mut self, id: SlotId, registration: u32, object: &str, outcome: Outcome) {
        let said = if let Outcome::Error { message, .. } = &outcome { message.len() } else { 0 };
        if !self.may_log(id, object.len() + said) {
            return;
        }
        let controller = &*self.slots[id].name;
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
                after_ms = retry_after.map(ms),
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

    /// Reconciles that continue where an earlier host stopped.
    pub(super) fn span_continued(&mut self, id: SlotId) {
        let tasks: Vec<u64> = self.slots[id].controller.tasks().collect();
        for task in tasks {
            self.span_begin(id, task, true);
        }
    }

    fn span_begin(&mut self, id: SlotId, task: u64, is_continued: bool) {
        if !self.is_traced {
            return;
        }
        let Some((reconcile, registration)) = self.slots[id].controller.reconcile(task) else { return };
        let begun = ReconcileBegun {
            slot: id,
            task,
            registration: registration.spec.clone(),
            object: reconcile.key.clone(),
            at: reconcile.since,
            attempt: registration.queue.failures(&reconcile.key).saturating_add(1),
            waited: (!is_continued).then_some(reconcile.waited),
        };
        self.effects.push(HostEffect::Span(SpanEvent::Begin(Box::new(begun))));
    }
}

/// Why a step failed, in a line. What a panic was is in the last thing it logged.
fn describe(failure: &Failure) -> String {
    let is_panic_line = |line: &&LogLine| line.level == tracing::Level::ERROR || line.target == "stderr";
    let line = failure.logs.iter().rev().find(is_panic_line).filter(|_| failure.cause == StepFault::Panic);
    let reason = line.map_or(&*failure.reason, |line| line.message.trim());
    format!("{}: {}", failure.cause.as_str(), excerpt(reason))
}

fn result_of(outcome: &Outcome) -> ReconcileResult {
    match outcome {
        Outcome::Ok => ReconcileResult::Success,
        Outcome::Requeue(_) => ReconcileResult::RequeueAfter,
        Outcome::Error { .. } | Outcome::Cancelled { .. } => ReconcileResult::Error,
    }
}
