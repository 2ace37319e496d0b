//! Instances that begin anew from their base image: those that are lost, and those that get nowhere.

use std::time::Duration;

use wasmop_core::controller::MAX_HELD_BYTES;
use wasmop_core::limits::liveness::{MemoryUse, Verdict, Why};
use wasmop_core::limits::problem::Problem;
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::step::Lost;
use wasmop_core::work_queue::Key;
use wasmop_package::Tier;
use wasmop_vm::instance::{Instance, Origin};

use super::{Host, Phase, Slot};

impl Slot {
    /// How full the memory of its instance is with so many bytes. `None` in the soft tier, and with 0.
    pub(super) fn memory_use(&self, used: u64) -> Option<MemoryUse> {
        let base = self.package.image().filter(|_| used > 0)?.size();
        let refused = self.liveness.as_ref().is_some_and(|liveness| liveness.was_refused_memory());
        Some(MemoryUse::new(used, base, self.package.limits().memory_bytes, refused))
    }

    /// A reconcile did not end by itself, see [`Liveness::failed`](wasmop_core::limits::liveness::Liveness::failed).
    pub(super) fn failed(&mut self, object: Option<(RegistrationId, Key)>, memory: Option<MemoryUse>, now: Duration) {
        if let Some(object) = object {
            self.liveness.get_or_insert_default().failed(object, memory, now);
        }
    }
}

impl Host {
    /// The instance is gone: begin again from the base image.
    pub(super) fn restart(&mut self, index: u32, lost: Lost) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let clock = slot.package.first_monotonic_ns();
        let is_failure = lost.is_failure();
        let undone = slot.controller.reset(is_failure, now, clock);
        let limit = slot.package.limits().memory_bytes;
        let (problem, reason) = match lost {
            Lost::Snapshot(reason) => {
                tracing::warn!(controller = &*slot.name, %reason, "snapshot rejected");
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
                let refused = slot.liveness.as_ref().is_some_and(|liveness| liveness.was_refused_memory());
                let more = if refused { ", it was refused more" } else { "" };
                (
                    Some(Problem::MemoryNearlyFull),
                    format!(
                        "its memory is nearly full: {used} bytes are in use{more}, and limits.memory is {limit}; look for \
                         what it never frees, or raise limits.memory"
                    ),
                )
            }
        };
        if let Some(traces) = &mut self.traces {
            traces.lost(index, &reason);
        }
        slot.counters.restarted();
        slot.waiting.clear();
        let by_verdict = matches!(problem, Some(Problem::NothingSucceeds | Problem::MemoryFull));
        if by_verdict {
            // Not the objects' fault: they need not wait for their next try, nor do those that were being reconciled.
            slot.controller.retry_now(now);
        }
        if let Some(liveness) = &mut slot.liveness {
            liveness.restarted(by_verdict, now);
        }
        let wait = slot.controller.held_until().map_or(Duration::ZERO, |t| t.saturating_sub(now));
        let (name, tier) = (slot.name.clone(), slot.package.tier());
        if self.may_log(index, reason.len()) {
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
            self.on_effect(index, effect);
        }
        // Specs of registrations that were given up.
        self.specs.retain(|spec| std::sync::Arc::strong_count(spec) > 1);
        let slot = &mut self.slots[index as usize];
        match problem {
            // What came before says why.
            Some(problem) if is_failure => {
                let last = slot.counters.last_error();
                let cause = last.map(|last| format!("; the last error: {last}")).unwrap_or_default();
                let wait = Duration::from_millis(wait.as_millis() as u64);
                self.tell(index, problem, None, &format!("begins anew in {wait:?}: {reason}{cause}"));
            }
            Some(problem) => self.tell(index, problem, None, &format!("began anew: {reason}")),
            None => slot.counters.error(now, "", &format!("began anew: {reason}")),
        }
    }

    /// To be called after failures: has an instance that gets nowhere begin anew.
    pub(super) fn check_liveness(&mut self, index: u32) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let Some(liveness) = slot.liveness.as_mut().filter(|_| matches!(slot.phase, Phase::Resident(_))) else {
            return;
        };
        let mut verdict = liveness.judge(slot.controller.active(), now);
        if let Verdict::Check(objects) = verdict {
            let found = self.reconcile_others(index, objects);
            let liveness = &mut self.slots[index as usize].liveness;
            verdict = liveness.as_mut().map_or(Verdict::GoOn, |liveness| liveness.checks_with(found));
        }
        let slot = &mut self.slots[index as usize];
        match verdict {
            Verdict::GoOn | Verdict::Check(_) => {
                slot.liveness.take_if(|liveness| liveness.is_idle());
            }
            Verdict::Restart(why) => {
                let used = slot.live().map_or(0, Instance::memory_size);
                let lost = match why {
                    Why::MemoryFull => Lost::MemoryFull(used),
                    Why::NothingSucceeds => Lost::NothingSucceeds,
                };
                self.give_up(index, lost);
            }
        }
    }

    /// Queues objects that have not failed, to see whether reconciles of them end. Returns how many.
    fn reconcile_others(&mut self, index: u32, most: usize) -> usize {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let Some(liveness) = &slot.liveness else { return 0 };
        let mut chosen = Vec::new();
        for (registration, watch) in &slot.primaries {
            let Some(Some(queue)) =
                slot.controller.registration(*registration).map(|r| r.is_live().then_some(&r.queue))
            else {
                continue;
            };
            let objects = self.hub.keys(*watch).into_iter().map(|key| (*registration, key));
            let others = objects.filter(|object| queue.failures(&object.1) == 0 && !liveness.is_suspect(object));
            chosen.extend(others.take(most - chosen.len()));
        }
        let found = chosen.len();
        for (registration, key) in chosen {
            slot.controller.enqueue(registration, key, now);
        }
        found
    }

    /// Whether an instance with nothing to do has begun anew, because its memory is nearly full.
    pub(super) fn begins_anew_while_idle(&mut self, index: u32) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let used = slot.live().map_or(0, Instance::memory_size);
        let Some(memory) = slot.memory_use(used).filter(|memory| memory.is_nearly_full()) else { return false };
        let begins =
            slot.controller.is_idle() && slot.liveness.get_or_insert_default().begins_anew_while_idle(memory, now);
        if begins {
            self.give_up(index, Lost::MemoryNearlyFull(used));
        }
        begins
    }

    /// Ends an instance that is at home.
    fn give_up(&mut self, index: u32, lost: Lost) {
        let slot = &mut self.slots[index as usize];
        let instance = std::mem::replace(&mut slot.phase, Phase::Suspended(Origin::Fresh));
        // Unmapping a large memory takes a while.
        self.pool.submit(move || drop(instance));
        self.slots[index as usize].deciding.anonymous_bytes = 0;
        self.restart(index, lost);
    }
}
