//! Batches to workers, and what comes back into effects: requests, watches, lines in the log.

use std::time::{Duration, Instant};

use wasmop_core::controller::{Effect, Outcome};
use wasmop_core::crash_log;
use wasmop_core::excerpt::excerpt;
use wasmop_core::limits::problem::Problem;
use wasmop_core::status::counters::ReconcileResult;
use wasmop_core::step::{Cause, Failure, LogLine, Lost, StepReport};
use wasmop_vm::compiled_package::CODE_LINGERS;
use wasmop_vm::instance::Origin;
use wasmop_vm::step_runner::{Batch, Report, Source};

use super::{Host, Message, Phase};
use crate::traces::Stepped;

impl Host {
    /// Hands the instance and a batch to a worker; with `None` it is resumed and nothing more.
    pub(super) fn step(&mut self, index: u32, events: Option<Vec<wasmop_core::step::Event>>, now: Duration) {
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
                (Source::Start { origin, wasi: slot.wasi.clone(), registered }, suspended)
            }
            Phase::Busy => return,
        };
        let count = events.as_ref().map_or(0, Vec::len);
        let snapshot = match &source {
            Source::Start { origin, .. } => origin.snapshot().map(|snapshot| snapshot.disk_bytes),
            Source::Resident(_) => None,
        };
        self.trace_step(index, events.as_deref(), snapshot);
        let slot = &mut self.slots[index as usize];
        let batch = Batch {
            source,
            events,
            monotonic: slot.controller.clock(now),
            tasks: slot.controller.tasks().collect(),
            startup: slot.startup.clone(),
        };
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
        let begun = Instant::now();
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let name = slot.name.clone();
        if let Some(traces) = &mut self.traces {
            traces.stepped(
                index,
                &Stepped {
                    begun: report.begun,
                    resume: report.steps.resume.filter(|_| suspended),
                    step: report.steps.step,
                    cpu: report.steps.cpu,
                    events,
                    rolled_back: report.steps.failures.len(),
                    cause: report.steps.failures.last().map(|failure| failure.cause.as_str()),
                },
            );
        }
        let Report { instance, begun: _, steps } = report;
        let StepReport { lost, outputs, failures, resume, step, cpu } = steps;
        let held = if resume.is_some() { 0 } else { slot.deciding.anonymous_bytes };
        slot.deciding.anonymous_bytes = instance.as_ref().map_or(0, |i| i.anonymous_bytes());
        let has_grown = slot.deciding.anonymous_bytes > held;
        if !(outputs.is_empty() && failures.is_empty()) {
            slot.counters.stepped(cpu);
            self.totals.steps.observe(step);
        }
        if let (Some(resume), true) = (resume, suspended) {
            slot.counters.resumed(resume);
            slot.deciding.predictor.on_resumed(resume);
            if self.may_log(index, 0) {
                tracing::info!(
                    controller = &*name,
                    events,
                    resume_us = resume.as_micros() as u64,
                    step_us = step.as_micros() as u64,
                    "resumed"
                );
            }
        }
        let mut effects = Vec::new();
        let mut is_over_log_limit = false;
        for mut failure in failures {
            failure.logs = crash_log::gather(failure.logs);
            let slot = &mut self.slots[index as usize];
            is_over_log_limit |= slot.write_logs(&failure.logs, self.guest_log_level, now);
            let culprit = failure.culprit.and_then(|task| slot.controller.task_object(task));
            let object = culprit.as_ref().map(|(_, key)| key.clone()).unwrap_or_default();
            slot.counters.step_failed(failure.cause);
            let memory = slot.memory_use(failure.memory_before).filter(|_| failure.cause == Cause::MemoryLimit);
            let blamed = failure.culprit.and_then(|task| slot.controller.blamed(task));
            slot.failed(blamed, memory, now);
            let detail = excerpt(&failure.detail);
            if self.may_log(index, object.len() + detail.len()) {
                tracing::warn!(
                    controller = &*name,
                    cause = failure.cause.as_str(),
                    object = &*object,
                    detail,
                    "step failed"
                );
            }
            let message = why(&failure);
            self.tell(index, Problem::Step(failure.cause), culprit, &message);
            if let Some(task) = failure.culprit {
                if let Some(traces) = &mut self.traces {
                    traces.blame(index, task, failure.cause.as_str(), &message);
                }
                let undone = !matches!(lost, Some(Lost::NotUndone));
                if undone && self.may_log(index, object.len()) {
                    tracing::info!(
                        controller = &*name,
                        culprit = &*object,
                        replayed_steps = failure.replayed_steps,
                        "rolled back"
                    );
                }
                effects.extend(self.slots[index as usize].controller.cancelled(task, !undone, now));
            }
        }
        let slot = &mut self.slots[index as usize];
        let first_registration = slot.controller.registered();
        for output in outputs {
            is_over_log_limit |= slot.write_logs(&output.logs, self.guest_log_level, now);
            if output.refused_memory {
                slot.liveness.get_or_insert_default().refused_memory();
            }
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
        let mut misuses = Vec::new();
        for effect in effects {
            match effect {
                Effect::Misbehaved(what) => misuses.push(what),
                effect => self.on_effect(index, effect),
            }
        }
        if is_over_log_limit {
            self.tell_log_limit(index);
        }
        self.on_misuses(index, &misuses);
        let slot = &mut self.slots[index as usize];
        let overdrawn = slot.controller.is_overdrawn().then(|| {
            slot.phase = Phase::Suspended(Origin::Fresh);
            Lost::Overdrawn
        });
        match lost.or(overdrawn) {
            Some(lost) => self.restart(index, lost),
            None => self.check_liveness(index),
        }
        if has_grown {
            self.keep_budget();
        }
        let slot = &mut self.slots[index as usize];
        // What it makes the loop do is its doing, too.
        slot.pace.used(slot.package.limits(), cpu + begun.elapsed(), now);
    }

    /// A step said what makes no sense.
    fn on_misuses(&mut self, index: u32, misuses: &[String]) {
        let Some(what) = misuses.first() else { return };
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        slot.pace.misused(now);
        let name = slot.name.clone();
        let more = misuses.len() - 1;
        if self.may_log(index, what.len()) {
            tracing::warn!(controller = &*name, what, more, "the guest misused the runtime interface");
        }
        let more = if more > 0 { format!(" (and {more} more in this step)") } else { String::new() };
        self.tell(index, Problem::Misuse, None, &format!("misused the runtime interface: {what}{more}"));
    }

    pub(super) fn on_effect(&mut self, index: u32, effect: Effect) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        match effect {
            Effect::Call(mut call) => {
                if !self.answer_from_cache(index, &mut call) {
                    self.limit_request(index, call);
                }
            }
            Effect::DropCall(call) => {
                slot.waiting.forget(call);
                if let Some(request) = slot.requests.remove(&call) {
                    slot.request_failed(call);
                    request.task.abort();
                }
            }
            Effect::Registered(registration) => self.watch(index, registration),
            Effect::Unregistered(registration) => self.unwatch(index, registration),
            Effect::Mapped { registration, keys } => {
                if let Some(triggers) = &mut self.slots[index as usize].self_triggers {
                    // Whose change the guest was asked about is not known any more.
                    keys.iter().for_each(|key| triggers.interrupted(&(registration, key.clone())));
                }
                if let Some(liveness) = &mut self.slots[index as usize].liveness {
                    liveness.mapped(registration);
                }
                let nonsense = self.enqueue_mapped(index, registration, keys);
                if nonsense > 0 {
                    let what = format!("a map function returned {nonsense} names that are no keys");
                    self.on_misuses(index, &[what]);
                }
            }
            Effect::MapFailed { registration, message, retry_after } => {
                if let Some(liveness) = &mut slot.liveness {
                    liveness.mapped(registration);
                }
                slot.counters.error(now, "", &format!("map function: {message}"));
                if self.may_log(index, message.len()) {
                    tracing::warn!(
                        controller = &*self.slots[index as usize].name,
                        registration = registration.0,
                        error = %message,
                        after_ms = retry_after.as_millis() as u64,
                        "map function failed; all objects are reconciled"
                    );
                }
            }
            Effect::Misbehaved(what) => self.on_misuses(index, &[what]),
            Effect::Reconciled { task, registration, key, outcome, took } => {
                if let Some(traces) = &mut self.traces {
                    traces.end(index, task, &outcome);
                }
                if let Some(liveness) = slot.liveness.as_mut().filter(|_| !matches!(outcome, Outcome::Cancelled { .. }))
                {
                    liveness.ended(&(registration, key.clone()));
                }
                if let (Outcome::Error { .. } | Outcome::Cancelled { .. }, Some(triggers)) =
                    (&outcome, &mut slot.self_triggers)
                {
                    triggers.interrupted(&(registration, key.clone()));
                }
                let (object, registration) = (&*key, registration.0);
                slot.counters.reconciled(result_of(&outcome), took);
                if let Outcome::Error { message, .. } = &outcome {
                    slot.counters.error(now, object, message);
                }
                let said = if let Outcome::Error { message, .. } = &outcome { message.len() } else { 0 };
                if !self.may_log(index, object.len() + said) {
                    return;
                }
                let controller = &*self.slots[index as usize].name;
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

/// Why a step failed, in a line. What a panic was is in what it logged last.
fn why(failure: &Failure) -> String {
    let is_told = |line: &&LogLine| line.level == tracing::Level::ERROR || line.target == "stderr";
    let told = failure.logs.iter().rev().find(is_told).filter(|_| failure.cause == Cause::Panic);
    let reason = told.map_or(&*failure.reason, |line| line.message.trim());
    format!("{}: {}", failure.cause.as_str(), excerpt(reason))
}

fn result_of(outcome: &Outcome) -> ReconcileResult {
    match outcome {
        Outcome::Ok => ReconcileResult::Success,
        Outcome::Requeue(_) => ReconcileResult::RequeueAfter,
        Outcome::Error { .. } | Outcome::Cancelled { .. } => ReconcileResult::Error,
    }
}
