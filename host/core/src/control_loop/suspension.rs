//! When an idle instance is suspended and comes back: its policy, the memory budget of the host, and what a worker
//! reports of it.

use std::io;
use std::time::Duration;

use wasmop_policy::budget::{Candidate, victims};
use wasmop_policy::{Decision, Policy, Predictor, Prices, Situation, Trigger};

use super::effect::Save;
use super::event::{Saved, Written};
use super::host_state::HostState;
use super::slot::{InstanceFacts, Phase, Slot, SlotId};
use super::{ControlLoop, Credit, Environment, HostEffect};
use crate::limits::disk_quota::OverQuota;
use crate::limits::problem::{Limit, Problem};

/// What an instance holds besides its pages: wasmtime's store and tables, measured.
const INSTANCE_BYTES: u64 = 96 << 10;
/// When the kernel says that memory is short, this share of what instances hold is given back.
const PRESSURE_SHARE: u64 = 2;
/// After a snapshot could not be written.
pub(super) const SAVE_RETRY: Duration = Duration::from_secs(10);

/// Why an instance is written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveReason {
    /// It has nothing to do.
    Idle,
    /// The same, and it is resumed when it is expected to have.
    IdleUntilExpected,
    /// The host's instances hold more than they may.
    Budget,
    /// The machine is short of memory.
    Pressure,
    /// Another host is to run it.
    Handover,
    /// The host ends.
    Shutdown,
    /// It stays, but its log of steps has become too long.
    LogFull,
}

impl SaveReason {
    /// Whether the instance leaves memory.
    pub fn suspends(self) -> bool {
        self != SaveReason::LogFull
    }

    /// As in spans and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            SaveReason::Idle => "idle",
            SaveReason::IdleUntilExpected => "idle-until-expected",
            SaveReason::Budget => "budget",
            SaveReason::Pressure => "pressure",
            SaveReason::Handover => "handover",
            SaveReason::Shutdown => "shutdown",
            SaveReason::LogFull => "log-full",
        }
    }
}

/// What a controller's suspend decisions are made from.
pub(super) struct Suspension {
    pub policy: Policy,
    pub predictor: Predictor,
    /// The last decision was made at a moment with nothing to do and no answer due.
    is_idle: bool,
    /// When it runs again for certain, as of the last decision.
    known_next: Option<Duration>,
    /// When it is resumed ahead of an event that is expected.
    resume_at: Option<Duration>,
    /// Bytes of the instance's own pages when it was last measured.
    pub anonymous_bytes: u64,
    /// No suspend before this: the last attempt failed.
    pub save_after: Duration,
}

impl Suspension {
    pub fn new(policy: Policy, predictor: Predictor) -> Suspension {
        Suspension {
            policy,
            predictor,
            is_idle: false,
            known_next: None,
            resume_at: None,
            anonymous_bytes: 0,
            save_after: Duration::ZERO,
        }
    }

    /// There is something to do. Returns what brought it about, if an idle gap ended with it.
    pub fn on_event(&mut self, now: Duration) -> Option<Trigger> {
        let is_known = self.known_next.take().is_some_and(|at| at <= now);
        let trigger = if is_known { Trigger::Scheduled } else { Trigger::Unscheduled };
        self.predictor.on_event(now, trigger);
        self.resume_at = None;
        std::mem::take(&mut self.is_idle).then_some(trigger)
    }
}

impl<C: Credit> Slot<C> {
    /// Bytes that suspending its instance gives back; 0 if there is none.
    pub fn resident_bytes(&self) -> u64 {
        let whole = self.suspension.anonymous_bytes + INSTANCE_BYTES;
        match &self.phase {
            Phase::Suspended { .. } => 0,
            Phase::Resident(instance) if instance.is_suspended => 0,
            Phase::Resident(_) | Phase::Busy => whole,
        }
    }

    /// Bytes that its instance holds and suspending it does not give back.
    pub fn kept_bytes(&self) -> u64 {
        match &self.phase {
            Phase::Resident(instance) if instance.is_soft => instance.table_bytes,
            _ => 0,
        }
    }

    /// Resident and not with a worker.
    fn is_suspendable(&self) -> bool {
        matches!(&self.phase, Phase::Resident(instance) if !instance.is_suspended)
    }

    /// What its policy says of an instance that has nothing to do.
    fn decide(&mut self, now: Duration, prices: &Prices) -> (Situation, Decision) {
        let situation = Situation {
            now,
            resident_bytes: self.resident_bytes(),
            known_next: self.controller.next_wake(now),
            awaiting_answers: self.requests.awaits_answers(),
        };
        let suspension = &mut self.suspension;
        suspension.known_next = situation.known_next;
        suspension.is_idle = !situation.awaiting_answers;
        suspension.resume_at = None;
        let decision = suspension.policy.decide(&mut suspension.predictor, &situation, prices);
        (situation, decision)
    }
}

impl<E: Environment> ControlLoop<E> {
    /// What becomes of an instance with nothing to do. Returns when to look again; `None` if it is being suspended.
    pub(super) fn decide(&mut self, id: SlotId) -> Option<Option<Duration>> {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let next = slot.controller.next_wake(now);
        if !slot.is_suspendable() {
            return Some(next.into_iter().chain(slot.suspension.resume_at).min());
        }
        let (_, decision) = slot.decide(now, &self.prices);
        let suspends = matches!(decision, Decision::Suspend | Decision::SuspendAndResumeAt(_));
        if suspends && self.restarts_while_idle(id) {
            return Some(Some(now));
        }
        let slot = &mut self.slots[id];
        let until = match decision {
            Decision::Stay { until } => until,
            // The disk has refused it a moment ago.
            Decision::Suspend | Decision::SuspendAndResumeAt(_) if slot.suspension.save_after > now => {
                Some(slot.suspension.save_after)
            }
            Decision::Suspend => {
                self.save(id, SaveReason::Idle);
                return None;
            }
            Decision::SuspendAndResumeAt(at) => {
                slot.suspension.resume_at = Some(at);
                self.save(id, SaveReason::IdleUntilExpected);
                return None;
            }
        };
        Some(next.into_iter().chain(until).min())
    }

    /// Whether a suspended instance is to be resumed now although there is nothing to do yet.
    pub(super) fn is_expected(&mut self, id: SlotId) -> bool {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let is_due = slot.suspension.resume_at.take_if(|at| *at <= now).is_some();
        // An instance of the soft tier is there as soon as it is stepped.
        is_due && matches!(slot.phase, Phase::Suspended { .. })
    }

    /// Suspends the instances that cost least until the budget is kept. To be called when an instance has grown.
    pub(super) fn keep_budget(&mut self) {
        let Some(budget) = self.memory_budget else { return };
        let used = self.resident_bytes();
        if used > budget {
            self.free(used - budget, SaveReason::Budget);
        }
    }

    fn resident_bytes(&self) -> u64 {
        self.slots.iter().map(|(_, slot)| slot.resident_bytes()).sum()
    }

    /// The kernel is short of memory.
    pub(super) fn on_pressure(&mut self) {
        self.effects.push(HostEffect::ClearMemoryPool);
        let freed = self.free(self.resident_bytes() / PRESSURE_SHARE, SaveReason::Pressure);
        if freed > 0 {
            tracing::info!(instances = freed, "memory is short on this machine: suspending what costs least");
        }
    }

    /// Returns how many instances are being suspended.
    fn free(&mut self, bytes: u64, reason: SaveReason) -> usize {
        let now = self.now.host;
        let mut candidates = Vec::new();
        for (id, slot) in self.slots.iter_mut() {
            // An instance with something to do would be back at once.
            if !slot.is_suspendable() || slot.suspension.save_after > now || slot.controller.is_runnable(now) {
                continue;
            }
            let (situation, _) = slot.decide(now, &self.prices);
            candidates.push(Candidate {
                id: id.0,
                resident_bytes: situation.resident_bytes,
                expected_loss: slot.suspension.predictor.expected_loss(&situation, &self.prices),
                reluctant: slot.suspension.policy == Policy::Never,
            });
        }
        let chosen = victims(&candidates, bytes).ids;
        for &id in &chosen {
            self.save(SlotId(id), reason);
        }
        chosen.len()
    }

    /// Orders the instance to be written to disk, and dropped if the reason suspends it.
    pub(super) fn save(&mut self, id: SlotId, reason: SaveReason) {
        let now = self.now.host;
        let (places, watches) = self.places(id);
        let slot = &mut self.slots[id];
        let Phase::Resident(InstanceFacts { is_soft, .. }) = slot.phase else { return };
        if is_soft && self.is_shutting_down {
            tracing::info!(controller = &*slot.name, tier = "soft", "ended: its memory is not kept over a restart");
            return self.discard(id);
        }
        slot.phase = Phase::Busy;
        let effect = if is_soft {
            HostEffect::SuspendSoftly { slot: id, reason }
        } else {
            HostEffect::Save(Box::new(Save {
                slot: id,
                reason,
                monotonic_ns: slot.controller.clock(now),
                state: HostState {
                    controller: slot.controller.save(now),
                    predictor: slot.suspension.predictor.clone(),
                    places,
                    startup: slot.startup.fingerprint(),
                },
                watches,
                registered: slot.controller.registered(),
            }))
        };
        self.schedule(id, None);
        self.effects.push(effect);
    }

    /// A worker has written an instance to disk, or failed to.
    pub(super) fn on_saved(&mut self, saved: Saved) {
        let Saved { slot: id, reason: _, instance, result, took } = saved;
        let slot = &mut self.slots[id];
        let is_soft = slot.package.tier == wasmop_package::Tier::Soft;
        if let Some(instance) = instance {
            slot.phase = Phase::Resident(instance);
        }
        let Written { dirty_bytes, written_bytes, disk_bytes } = match result {
            Ok(written) => written,
            Err(error) => return self.on_save_failed(id, &error, is_soft),
        };
        let is_suspended = instance.is_none_or(|instance| instance.is_suspended);
        slot.counters.saved(is_suspended, written_bytes, disk_bytes);
        self.totals.suspends.observe(took);
        if instance.is_none() {
            slot.phase = Phase::Suspended { snapshot_bytes: Some(disk_bytes) };
        }
        if !is_suspended {
            return;
        }
        slot.shrink();
        slot.suspension.predictor.on_suspended(took, written_bytes);
        if !self.may_log(id, 0) {
            return;
        }
        let slot = &self.slots[id];
        let (controller, took_us) = (&*slot.name, took.as_micros() as u64);
        let in_flight = slot.controller.calls_in_flight() as u64;
        if is_soft {
            tracing::info!(
                controller,
                tier = "soft",
                disk_bytes,
                dirty_bytes,
                written_bytes,
                took_us,
                in_flight,
                "suspended"
            );
        } else {
            tracing::info!(
                controller,
                ram_bytes = slot.ram_bytes(),
                disk_bytes,
                dirty_bytes,
                written_bytes,
                took_us,
                in_flight,
                "suspended"
            );
        }
    }

    fn on_save_failed(&mut self, id: SlotId, error: &io::Error, is_soft: bool) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let what = if is_soft { "memory could not be written to disk" } else { "snapshot could not be written" };
        tracing::warn!(
            controller = &*slot.name,
            %error,
            "the {what}: the controller stays in memory, trying again later"
        );
        slot.suspension.save_after = now + SAVE_RETRY;
        slot.counters.save_failed(now, error);
        if error.get_ref().is_some_and(|inner| inner.is::<OverQuota>()) {
            slot.counters.limit_hit(Limit::Disk);
            self.report_problem(id, Problem::Limit(Limit::Disk), None, &error.to_string());
        }
    }

    /// A snapshot has been made durable, or that failed.
    pub(super) fn on_synced(&mut self, id: SlotId, result: &io::Result<()>) {
        let slot = &mut self.slots[id];
        slot.counters.settled(self.now.host, result);
        if let Err(error) = result {
            tracing::warn!(
                controller = &*slot.name,
                %error,
                "a snapshot could not be put on disk: a crash of the machine would lose it"
            );
        }
    }
}
