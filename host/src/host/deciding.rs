//! When an idle instance is suspended: its policy, and the memory budget of the host.

use std::time::Duration;

use wasmop_policy::budget::{Candidate, victims};
use wasmop_policy::{Cause, Decision, Policy, Predictor, Prices, Situation};
use wasmop_vm::instance::Instance;

use super::suspending::Why;
use super::{Host, Phase, Slot};

/// What an instance holds besides its pages: wasmtime's store and tables, measured.
const INSTANCE_BYTES: u64 = 96 << 10;
/// When the kernel says that memory is short, this share of what instances hold is given back.
const PRESSURE_SHARE: u64 = 2;

/// What a slot remembers between decisions.
pub(super) struct Deciding {
    pub policy: Policy,
    pub predictor: Predictor,
    /// The last decision was made at a moment with nothing to do, and answers were not awaited then.
    idle: bool,
    /// When it runs again for certain, as of the last decision.
    known_next: Option<Duration>,
    /// When it is resumed ahead of an event that is expected.
    resume_at: Option<Duration>,
    /// Pages of the instance that nobody else has, bytes, when it was last looked.
    pub anonymous_bytes: u64,
}

impl Deciding {
    pub fn new(policy: Policy, predictor: Predictor) -> Deciding {
        Deciding { policy, predictor, idle: false, known_next: None, resume_at: None, anonymous_bytes: 0 }
    }

    /// Something is to be done. Returns how it came about, if an idle gap ended with it.
    pub fn on_event(&mut self, now: Duration) -> Option<Cause> {
        let known = self.known_next.take().is_some_and(|at| at <= now);
        let cause = if known { Cause::Known } else { Cause::Event };
        self.predictor.on_event(now, cause);
        self.resume_at = None;
        std::mem::take(&mut self.idle).then_some(cause)
    }
}

impl Slot {
    /// Bytes that suspending its instance gives back; 0 if there is none.
    pub(super) fn resident_bytes(&self) -> u64 {
        let whole = self.deciding.anonymous_bytes + INSTANCE_BYTES;
        match &self.phase {
            Phase::Suspended(_) => 0,
            Phase::Resident(instance) if instance.is_suspended() => 0,
            Phase::Resident(_) | Phase::Busy => whole,
        }
    }

    /// Bytes that its instance holds and suspending it does not give back.
    pub(super) fn kept_bytes(&self) -> u64 {
        match &self.phase {
            Phase::Resident(instance) if matches!(**instance, Instance::Soft(_)) => instance.table_bytes(),
            _ => 0,
        }
    }

    /// Resident and at home.
    fn is_suspendable(&self) -> bool {
        matches!(&self.phase, Phase::Resident(instance) if !instance.is_suspended())
    }

    /// What its policy says, of an instance that has nothing to do.
    fn decide(&mut self, now: Duration, prices: &Prices) -> (Situation, Decision) {
        let situation = Situation {
            now,
            resident_bytes: self.resident_bytes(),
            known_next: self.controller.next_wake(now),
            awaiting_answers: self.requests.values().any(|r| !r.stream) || !self.waiting.is_empty(),
        };
        let deciding = &mut self.deciding;
        deciding.known_next = situation.known_next;
        deciding.idle = !situation.awaiting_answers;
        deciding.resume_at = None;
        let decision = deciding.policy.decide(&mut deciding.predictor, &situation, prices);
        (situation, decision)
    }
}

impl Host {
    /// What becomes of an instance with nothing to do. Returns when to look again; `None` if it is being
    /// suspended.
    pub(super) fn decide(&mut self, index: u32) -> Option<Option<Duration>> {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let next = slot.controller.next_wake(now);
        if !slot.is_suspendable() {
            return Some(next.into_iter().chain(slot.deciding.resume_at).min());
        }
        let (_, decision) = slot.decide(now, &self.prices);
        let suspends = matches!(decision, Decision::Suspend | Decision::SuspendAndResumeAt(_));
        if suspends && self.begins_anew_while_idle(index) {
            return Some(Some(now));
        }
        let slot = &mut self.slots[index as usize];
        let until = match decision {
            Decision::Stay { until } => until,
            // The disk has refused it a moment ago.
            Decision::Suspend | Decision::SuspendAndResumeAt(_) if slot.save_after > now => Some(slot.save_after),
            Decision::Suspend => {
                self.save(index, Why::Idle);
                return None;
            }
            Decision::SuspendAndResumeAt(at) => {
                slot.deciding.resume_at = Some(at);
                self.save(index, Why::IdleUntilExpected);
                return None;
            }
        };
        Some(next.into_iter().chain(until).min())
    }

    /// Whether a suspended instance is to be resumed now although there is nothing to do yet.
    pub(super) fn is_expected(&mut self, index: u32) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        // One of the soft tier is there as soon as it is stepped.
        slot.deciding.resume_at.take_if(|at| *at <= now).is_some() && matches!(slot.phase, Phase::Suspended(_))
    }

    /// Suspends whom it costs least until the budget is kept. To be called when an instance has grown.
    pub(super) fn keep_budget(&mut self) {
        let Some(budget) = self.memory_budget else { return };
        let used: u64 = self.slots.iter().map(Slot::resident_bytes).sum();
        if used > budget {
            self.free(used - budget, Why::Budget);
        }
    }

    /// The kernel is short of memory.
    pub(super) fn on_pressure(&mut self) {
        self.engine.spares().clear();
        let used: u64 = self.slots.iter().map(Slot::resident_bytes).sum();
        let freed = self.free(used / PRESSURE_SHARE, Why::Pressure);
        if freed > 0 {
            tracing::info!(instances = freed, "memory is short on this machine: suspending what costs least");
        }
    }

    /// Returns how many instances are being suspended.
    fn free(&mut self, bytes: u64, why: Why) -> usize {
        let now = self.now();
        let mut candidates = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // One with something to do would be back at once.
            if !slot.is_suspendable() || slot.save_after > now || slot.controller.is_runnable(now) {
                continue;
            }
            let (situation, _) = slot.decide(now, &self.prices);
            candidates.push(Candidate {
                id: index as u32,
                resident_bytes: situation.resident_bytes,
                expected_loss: slot.deciding.predictor.expected_loss(&situation, &self.prices),
                reluctant: slot.deciding.policy == Policy::Never,
            });
        }
        let chosen = victims(&candidates, bytes).ids;
        for &index in &chosen {
            self.save(index, why);
        }
        chosen.len()
    }
}
