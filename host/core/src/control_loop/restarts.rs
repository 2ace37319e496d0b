//! Instances that start over from their base image: those that are lost, and those that make no progress.

use std::time::Duration;

use wasmop_package::Tier;

use super::parts::{Phase, SlotId};
use super::slot::Slot;
use super::{ControlLoop, Credit, Environment, HostEffect, SpanEvent};
use crate::controller::MAX_HELD_BYTES;
use crate::limits::liveness::{MemoryUse, Verdict, Why};
use crate::limits::problem::Problem;
use crate::registration_id::RegistrationId;
use crate::step::Lost;
use crate::work_queue::Key;

impl<C: Credit> Slot<C> {
    /// How full the memory of its instance is with so many bytes. `None` in the soft tier, and with 0.
    pub(super) fn memory_use(&self, used: u64) -> Option<MemoryUse> {
        let base = self.package.base_memory_bytes.filter(|_| used > 0)?;
        let refused = self.throttles.liveness.as_ref().is_some_and(|liveness| liveness.was_refused_memory());
        Some(MemoryUse::new(used, base, self.limits().memory_bytes, refused))
    }

    /// A reconcile did not end by itself, see [`Liveness::failed`](crate::limits::liveness::Liveness::failed).
    pub(super) fn note_failure(
        &mut self,
        object: Option<(RegistrationId, Key)>,
        memory: Option<MemoryUse>,
        now: Duration,
    ) {
        if let Some(object) = object {
            self.throttles.liveness.get_or_insert_default().failed(object, memory, now);
        }
    }

    /// What an owner is told of a lost instance: the kind of problem, if it is one, and the reason.
    fn explain(&self, lost: Lost) -> (Option<Problem>, String) {
        let limit = self.limits().memory_bytes;
        match lost {
            Lost::Snapshot(reason) => {
                tracing::warn!(controller = &*self.name, %reason, "snapshot rejected");
                (None, reason)
            }
            Lost::Start(reason) => (Some(Problem::CrashLoop), reason),
            Lost::NotUndone => {
                (Some(Problem::CrashLoop), "a step of a package of the soft tier can't be undone".into())
            }
            Lost::Overdrawn => (
                Some(Problem::CrashLoop),
                format!(
                    "it makes requests and does not take the answers: more than {} MiB wait in the host",
                    MAX_HELD_BYTES >> 20
                ),
            ),
            Lost::NoCulprit => {
                (Some(Problem::CrashLoop), "a step failed and no single reconcile could be blamed for it".into())
            }
            Lost::NothingSucceeds => {
                (Some(Problem::NothingSucceeds), "every reconcile fails, also those of other objects".into())
            }
            Lost::MemoryFull(used) => (
                Some(Problem::MemoryFull),
                format!(
                    "its memory is full: {used} bytes were in use before the steps that failed, and limits.memory is \
                     {limit}; look for what it never frees, or raise limits.memory"
                ),
            ),
            Lost::MemoryNearlyFull(used) => {
                let refused = self.throttles.liveness.as_ref().is_some_and(|liveness| liveness.was_refused_memory());
                let more = if refused { ", it was refused more" } else { "" };
                (
                    Some(Problem::MemoryNearlyFull),
                    format!(
                        "its memory is nearly full: {used} bytes are in use{more}, and limits.memory is {limit}; look \
                         for what it never frees, or raise limits.memory"
                    ),
                )
            }
        }
    }
}

impl<E: Environment> ControlLoop<E> {
    /// The instance is gone: starts over from the base image.
    pub(super) fn restart(&mut self, id: SlotId, lost: Lost) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let clock = slot.package.first_monotonic_ns;
        let is_failure = lost.is_failure();
        let undone = slot.controller.reset(is_failure, now, clock);
        let (problem, reason) = slot.explain(lost);
        if self.is_traced {
            let lost = SpanEvent::Lost { slot: id, reason: reason.clone() };
            self.effects.push(HostEffect::Span(lost));
        }
        slot.counters.restarted();
        slot.requests.waiting.clear();
        let is_by_verdict = matches!(problem, Some(Problem::NothingSucceeds | Problem::MemoryFull));
        if is_by_verdict {
            // Not the objects' fault: neither those in backoff nor those being reconciled have to wait.
            slot.controller.retry_now(now);
        }
        if let Some(liveness) = &mut slot.throttles.liveness {
            liveness.restarted(is_by_verdict, now);
        }
        let wait = slot.controller.held_until().map_or(Duration::ZERO, |t| t.saturating_sub(now));
        let (name, tier) = (slot.name.clone(), slot.package.tier);
        if self.may_log(id, reason.len()) {
            tracing::warn!(
                controller = &*name,
                %reason,
                wait_ms = wait.as_millis() as u64,
                "{}",
                match tier {
                    Tier::Full => "restarted from base image",
                    Tier::Soft => "restarted anew, its memory is lost",
                }
            );
        }
        for effect in undone {
            self.on_effect(id, effect);
        }
        self.subscriptions.drop_unused_specs();
        let slot = &mut self.slots[id];
        match problem {
            // The error before says why.
            Some(problem) if is_failure => {
                let last = slot.counters.last_error();
                let cause = last.map(|last| format!("; the last error: {last}")).unwrap_or_default();
                let wait = Duration::from_millis(wait.as_millis() as u64);
                self.report_problem(id, problem, None, &format!("begins anew in {wait:?}: {reason}{cause}"));
            }
            Some(problem) => self.report_problem(id, problem, None, &format!("began anew: {reason}")),
            None => slot.counters.error(now, "", &format!("began anew: {reason}")),
        }
    }

    /// To be called after failures: restarts an instance that makes no progress.
    pub(super) fn check_liveness(&mut self, id: SlotId) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let Phase::Resident(instance) = slot.phase else { return };
        let Some(liveness) = slot.throttles.liveness.as_mut() else { return };
        let mut verdict = liveness.judge(slot.controller.active(), now);
        if let Verdict::Check(objects) = verdict {
            let found = self.reconcile_others(id, objects);
            let liveness = &mut self.slots[id].throttles.liveness;
            verdict = liveness.as_mut().map_or(Verdict::GoOn, |liveness| liveness.checks_with(found));
        }
        match verdict {
            Verdict::GoOn | Verdict::Check(_) => {
                self.slots[id].throttles.liveness.take_if(|liveness| liveness.is_idle());
            }
            Verdict::Restart(why) => {
                let lost = match why {
                    Why::MemoryFull => Lost::MemoryFull(instance.memory_bytes),
                    Why::NothingSucceeds => Lost::NothingSucceeds,
                };
                self.give_up(id, lost);
            }
        }
    }

    /// Queues objects that have not failed, to see whether reconciles of them end. Returns how many.
    fn reconcile_others(&mut self, id: SlotId, most: usize) -> usize {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let Some(liveness) = &slot.throttles.liveness else { return 0 };
        let mut chosen = Vec::new();
        for (registration, watch) in &slot.watches.primaries {
            let registered = slot.controller.registration(*registration);
            let Some(queue) = registered.filter(|r| r.is_live()).map(|r| &r.queue) else { continue };
            let objects = self.environment.keys(*watch).into_iter().map(|key| (*registration, key));
            let others = objects.filter(|object| queue.failures(&object.1) == 0 && !liveness.is_suspect(object));
            chosen.extend(others.take(most - chosen.len()));
        }
        let found = chosen.len();
        for (registration, key) in chosen {
            slot.controller.enqueue(registration, key, now);
        }
        found
    }

    /// Whether an instance with nothing to do was restarted because its memory is nearly full.
    pub(super) fn restarts_while_idle(&mut self, id: SlotId) -> bool {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let used = slot.instance().map_or(0, |instance| instance.memory_bytes);
        let Some(memory) = slot.memory_use(used).filter(|memory| memory.is_nearly_full()) else { return false };
        let liveness = &mut slot.throttles.liveness;
        let restarts =
            slot.controller.is_idle() && liveness.get_or_insert_default().begins_anew_while_idle(memory, now);
        if restarts {
            self.give_up(id, Lost::MemoryNearlyFull(used));
        }
        restarts
    }

    /// Ends an instance that is not with a worker.
    fn give_up(&mut self, id: SlotId, lost: Lost) {
        self.discard(id);
        self.slots[id].suspension.anonymous_bytes = 0;
        self.restart(id, lost);
    }

    /// The next instance starts from the base image.
    pub(super) fn discard(&mut self, id: SlotId) {
        self.slots[id].phase = Phase::FRESH;
        self.effects.push(HostEffect::Discard { slot: id });
    }
}
