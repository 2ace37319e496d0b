//! What a controller's suspend decisions are made from, and why an instance is written to disk.

use std::time::Duration;

use wasmop_policy::{Policy, Predictor, Trigger};

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
pub(in crate::control_loop) struct Suspension {
    pub policy: Policy,
    pub predictor: Predictor,
    /// The last decision was made at a moment with nothing to do and no answer due.
    pub is_idle: bool,
    /// When it runs again for certain, as of the last decision.
    pub known_next: Option<Duration>,
    /// When it is resumed ahead of an event that is expected.
    pub resume_at: Option<Duration>,
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
