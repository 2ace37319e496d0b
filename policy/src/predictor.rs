//! The history of one controller, and the decisions based on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::CycleEstimate;
use crate::history::{History, PrecedingGap};
use crate::predictive_resume::{PredictiveResume, Window};
use crate::stopping::{self, Stopping, Terms};
use crate::{Cycle, Prices};

/// A timed resume starts this many typical resume durations before the instance is needed.
const HEAD_START: f64 = 1.5;

/// The history of one controller. The host stores it in the controller's snapshot.
///
/// It takes at most 200 bytes without heap allocations, both in memory and serialized. Times are readings of the host's
/// monotonic clock. They are not serialized, so a gap in which the host restarts is not recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    history: History,
    predictive_resume: PredictiveResume,
    cycle: CycleEstimate,
    /// The length of the previous gap.
    preceding: PrecedingGap,
    /// The start of the current gap. The first decision after an event sets it, and the next event clears it.
    #[serde(skip)]
    idle_since: Option<Duration>,
    /// The cost of a cycle at the last decision, in seconds of the instance's memory.
    #[serde(skip)]
    break_even: f32,
    /// The cost of waiting for a resume at the last decision, in seconds of the instance's memory.
    #[serde(skip)]
    wait: f32,
    /// Whether responses were outstanding at the last decision.
    #[serde(skip)]
    awaiting: bool,
    /// Whether the instance was resumed early in the current gap.
    #[serde(skip)]
    resumed_ahead: bool,
}

/// What ended a controller's idle time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A timer, requeue or backoff that the host knew in advance.
    Scheduled,
    /// Anything else, such as a change of a watched object.
    Unscheduled,
}

/// The state of an idle resident instance.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The current time of the host's monotonic clock.
    pub now: Duration,
    /// Bytes that a suspend would free.
    pub resident_bytes: u64,
    /// The instance's earliest timer, requeue or backoff, on the same clock as `now`.
    pub known_next: Option<Duration>,
    /// Whether responses to requests other than watches are outstanding.
    ///
    /// The arrival time of a response says nothing about the controller's rhythm.
    pub awaiting_answers: bool,
}

/// What to do with an idle resident instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep it resident.
    Stay {
        /// Decide again at this time if the instance is still idle. `None` means that it stays until the next event.
        until: Option<Duration>,
    },
    /// Suspend it. The next event resumes it.
    Suspend,
    /// Suspend it, and start to resume it at this time unless an event resumes it earlier.
    SuspendAndResumeAt(Duration),
}

impl Predictor {
    /// Creates a predictor without history that expects the first suspend and resume to take as long as `cycle`.
    ///
    /// The host passes the typical cycle of its other controllers.
    pub fn expecting(cycle: &Cycle) -> Predictor {
        let mut predictor = Predictor::default();
        predictor.cycle.suspended(cycle.suspend, cycle.written_bytes);
        predictor.cycle.resumed(cycle.resume);
        predictor
    }

    /// Records the arrival of work at `now`, whether the instance is resident or suspended.
    pub fn on_event(&mut self, now: Duration, trigger: Trigger) {
        let Some(since) = self.idle_since.take() else { return };
        self.resumed_ahead = false;
        if self.awaiting {
            return;
        }
        let gap = now.saturating_sub(since).as_secs_f64();
        let break_even = f64::from(self.break_even);
        self.history.record(self.preceding, gap, trigger == Trigger::Unscheduled);
        self.preceding = if gap < break_even { PrecedingGap::Short } else { PrecedingGap::Long };
        if trigger == Trigger::Unscheduled && gap >= break_even {
            self.predictive_resume.record(gap, f64::from(self.wait), break_even);
        }
    }

    /// Records a completed suspend.
    pub fn on_suspended(&mut self, took: Duration, written_bytes: u64) {
        self.cycle.suspended(took, written_bytes);
    }

    /// Records a completed resume.
    pub fn on_resumed(&mut self, took: Duration) {
        self.cycle.resumed(took);
        self.resumed_ahead = self.idle_since.is_some();
    }

    /// Returns the expected next suspend and resume, from the measurements so far.
    pub fn typical_cycle(&self) -> Cycle {
        self.cycle.typical()
    }

    /// Returns the expected additional cost, in byte-seconds, of suspending the instance now rather than at the best
    /// time. It is 0 if now is the best time.
    ///
    /// The memory budget compares instances by this value; see [`crate::budget`].
    pub fn expected_loss(&self, situation: &Situation, prices: &Prices) -> f64 {
        let rent = rent(situation);
        let stopping = self.stopping(situation, prices, self.idle(situation));
        (self.terms(situation, prices).suspending - stopping.value).max(0.0) * rent
    }

    /// Records the situation of a decision. Returns the start of the idle time.
    pub(crate) fn observe(&mut self, situation: &Situation, prices: &Prices) -> Duration {
        let cycle = self.cycle.typical();
        let rent = rent(situation);
        self.break_even = (prices.cycle(&cycle, situation.resident_bytes) / rent) as f32;
        self.wait = (prices.wait(cycle.resume) / rent) as f32;
        self.awaiting = situation.awaiting_answers;
        *self.idle_since.get_or_insert(situation.now)
    }

    /// Returns whether the next known event comes before a suspend and a resume could complete.
    pub(crate) fn is_due_during_a_cycle(&self, situation: &Situation) -> bool {
        let cycle = self.cycle.typical();
        situation.known_next.is_some_and(|at| at <= situation.now.saturating_add(cycle.suspend + cycle.resume))
    }

    /// Decides for [`crate::Policy::Adaptive`].
    pub(crate) fn adapt(&self, situation: &Situation, prices: &Prices) -> Decision {
        let idle = self.idle(situation);
        let suspend = self.suspend(situation, idle);
        if self.resumed_ahead {
            // Stay while the event that the resume was for is still expected.
            let predicted = self.window(situation).map(|window| after(situation.now, window.to - idle));
            let known = situation.known_next.filter(|at| self.is_near(situation, *at));
            return match predicted.max(known).filter(|until| *until > situation.now) {
                Some(until) => Decision::Stay { until: Some(until) },
                None => suspend,
            };
        }
        let stopping = self.stopping(situation, prices, idle);
        match after(situation.now, stopping.suspend_at - idle) {
            at if at <= situation.now => suspend,
            at => Decision::Stay { until: Some(at) },
        }
    }

    /// Returns a decision to suspend, with a resume time if an early resume pays.
    fn suspend(&self, situation: &Situation, idle: f64) -> Decision {
        let known = situation.known_next.filter(|_| self.resumes_early_for_known_events());
        let known = known.map(|at| at.saturating_sub(self.head_start()));
        let predicted = self.window(situation).filter(|_| !self.resumed_ahead);
        let predicted = predicted.map(|w| after(situation.now, w.from - idle).saturating_sub(self.head_start()));
        let soonest = situation.now.saturating_add(self.cycle.typical().suspend);
        match known.into_iter().chain(predicted).filter(|at| *at > soonest).min() {
            Some(at) => Decision::SuspendAndResumeAt(at),
            None => Decision::Suspend,
        }
    }

    fn stopping(&self, situation: &Situation, prices: &Prices, idle: f64) -> Stopping {
        let terms = self.terms(situation, prices);
        let empty = History::default();
        let history = if situation.awaiting_answers { &empty } else { &self.history };
        stopping::best(history, self.preceding, Terms { elapsed: idle, ..terms })
    }

    fn terms(&self, situation: &Situation, prices: &Prices) -> Terms {
        let (cycle, rent) = (self.cycle.typical(), rent(situation));
        let break_even = prices.cycle(&cycle, situation.resident_bytes) / rent;
        let wait = prices.wait(cycle.resume) / rent;
        let idle = self.idle(situation);
        let known = situation.known_next.map(|at| idle + at.saturating_sub(situation.now).as_secs_f64());
        let early = self.head_start().as_secs_f64() - cycle.resume.as_secs_f64();
        let waiting = match (known, self.window(situation).filter(|_| !self.resumed_ahead)) {
            (Some(_), _) => wait.min(early),
            (None, Some(window)) => (wait - window.saves).max(0.0),
            (None, None) => wait,
        };
        Terms { elapsed: idle, break_even, suspending: break_even + waiting, known }
    }

    fn idle(&self, situation: &Situation) -> f64 {
        self.idle_since.map_or(0.0, |since| situation.now.saturating_sub(since).as_secs_f64())
    }

    fn window(&self, situation: &Situation) -> Option<Window> {
        self.predictive_resume.window(f64::from(self.wait)).filter(|_| !situation.awaiting_answers)
    }

    fn head_start(&self) -> Duration {
        self.cycle.typical().resume.mul_f64(HEAD_START)
    }

    /// An early resume for a known event costs the head start and saves the wait.
    fn resumes_early_for_known_events(&self) -> bool {
        let resume = self.cycle.typical().resume.as_secs_f64();
        f64::from(self.wait) > resume * (HEAD_START - 1.0)
    }

    fn is_near(&self, situation: &Situation, at: Duration) -> bool {
        at.saturating_sub(situation.now) <= self.head_start()
    }
}

/// Returns the cost of one second of the instance's memory, in byte-seconds.
fn rent(situation: &Situation) -> f64 {
    situation.resident_bytes.max(1) as f64
}

/// Adds seconds to a time. Negative seconds count as 0.
fn after(now: Duration, seconds: f64) -> Duration {
    // Round up, so that the next decision does not come slightly too early.
    now.saturating_add(Duration::from_nanos((seconds * 1e9).ceil().clamp(0.0, 1e19) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    const SECOND: Duration = Duration::from_secs(1);
    const SMALL: u64 = 2 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn idle(now: Duration, resident_bytes: u64) -> Situation {
        Situation { now, resident_bytes, known_next: None, awaiting_answers: false }
    }

    fn decide(predictor: &mut Predictor, situation: &Situation) -> Decision {
        Policy::Adaptive.decide(predictor, situation, &Prices::default())
    }

    /// Goes through a gap that an unscheduled event ends.
    fn gap(predictor: &mut Predictor, now: &mut Duration, length: Duration, resident_bytes: u64) {
        decide(predictor, &idle(*now, resident_bytes));
        *now += length;
        predictor.on_event(*now, Trigger::Unscheduled);
    }

    /// A controller of 64 MiB on a disk from which a resume takes 200 ms.
    fn on_cold_storage() -> (Predictor, u64) {
        let cycle = Cycle { suspend: ms(200), resume: ms(200), written_bytes: 16 << 20 };
        (Predictor::expecting(&cycle), 64 << 20)
    }

    #[test]
    fn it_takes_at_most_200_bytes_in_memory_and_serialized() {
        assert!(size_of::<Predictor>() <= 200, "{}", size_of::<Predictor>());
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..1000).for_each(|n| gap(&mut predictor, &mut now, ms(n * 37 % 100_000), bytes));
        let saved = postcard::to_stdvec(&predictor).expect("saves");
        assert!(saved.len() <= 200, "{}", saved.len());
    }

    #[test]
    fn history_survives_a_restart_and_the_interrupted_gap_is_not_recorded() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        decide(&mut predictor, &idle(now, SMALL));
        let saved = postcard::to_stdvec(&predictor).expect("saves");
        let mut restored: Predictor = postcard::from_bytes(&saved).expect("restores");
        let before = restored.clone();
        // The new host's clock starts at zero.
        restored.on_event(ms(3), Trigger::Unscheduled);
        assert_eq!(restored, before);
        assert_eq!(decide(&mut restored, &idle(ms(4), SMALL)), Decision::Suspend);
    }

    #[test]
    fn without_history_the_instance_is_suspended_at_the_break_even() {
        let mut predictor = Predictor::default();
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(SECOND, SMALL)) else {
            panic!("expected Stay");
        };
        assert!((ms(1600)..ms(2400)).contains(&until), "{until:?}");
        assert_eq!(decide(&mut predictor, &idle(until, SMALL)), Decision::Suspend);
    }

    #[test]
    fn after_a_few_long_gaps_the_instance_is_suspended_at_once() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..3).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        assert_eq!(decide(&mut predictor, &idle(now, SMALL)), Decision::Suspend);
    }

    #[test]
    fn with_an_expensive_resume_the_instance_stays_through_the_same_gaps() {
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), bytes));
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(now, bytes)) else {
            panic!("expected Stay");
        };
        assert!(until > now + ms(5200), "{until:?}");
    }

    #[test]
    fn in_a_burst_the_instance_stays_for_the_next_event_only() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        for n in 0..400 {
            gap(&mut predictor, &mut now, if n % 20 == 18 { ms(60_000) } else { ms(20) }, SMALL);
        }
        for _ in 0..5 {
            let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(now, SMALL)) else {
                panic!("expected Stay");
            };
            assert!(until > now + ms(20) && until < now + ms(100), "{:?}", until - now);
            gap(&mut predictor, &mut now, ms(20), SMALL);
        }
    }

    #[test]
    fn a_known_event_needs_no_history() {
        let mut predictor = Predictor::default();
        let at = |now, known| Situation { known_next: Some(known), ..idle(now, SMALL) };
        assert_eq!(decide(&mut predictor, &at(SECOND, ms(1500))), Decision::Stay { until: Some(ms(1500)) });
        predictor.on_event(ms(1500), Trigger::Scheduled);
        // On a fast disk, the wait for a resume costs nothing.
        let mut now = 2 * SECOND;
        (0..3).for_each(|_| gap(&mut predictor, &mut now, 60 * SECOND, SMALL));
        assert_eq!(decide(&mut predictor, &at(now, 600 * SECOND)), Decision::Suspend);

        let (mut predictor, bytes) = on_cold_storage();
        let due = 601 * SECOND;
        let situation = Situation { known_next: Some(due), ..idle(SECOND, bytes) };
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &situation) else {
            panic!("expected Stay");
        };
        assert!(until < 30 * SECOND, "{until:?}");
        let situation = Situation { now: until, ..situation };
        let Decision::SuspendAndResumeAt(at) = decide(&mut predictor, &situation) else {
            panic!("expected SuspendAndResumeAt");
        };
        assert!((ms(299)..ms(301)).contains(&(due - at)), "{at:?}");
        predictor.on_resumed(ms(200));
        let situation = Situation { now: due - ms(100), ..situation };
        assert_eq!(decide(&mut predictor, &situation), Decision::Stay { until: Some(due) });
    }

    #[test]
    fn on_cold_storage_the_instance_is_resumed_early_for_regular_events_and_suspended_if_they_stay_away() {
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..100).for_each(|n| gap(&mut predictor, &mut now, ms(59_900 + n % 3 * 100), bytes));
        let Decision::SuspendAndResumeAt(at) = decide(&mut predictor, &idle(now, bytes)) else {
            panic!("expected SuspendAndResumeAt");
        };
        assert!(at > now + ms(59_000) && at < now + ms(59_800), "{:?}", at - now);
        predictor.on_resumed(ms(200));
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(at + ms(200), bytes)) else {
            panic!("expected Stay");
        };
        assert!(until > now + ms(60_100) && until < now + ms(61_000), "{:?}", until - now);
        assert_eq!(decide(&mut predictor, &idle(until, bytes)), Decision::Suspend);
    }

    #[test]
    fn gaps_with_outstanding_responses_are_not_recorded() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        let awaiting = Situation { awaiting_answers: true, ..idle(now, SMALL) };
        assert!(matches!(decide(&mut predictor, &awaiting), Decision::Stay { .. }));
        let before = predictor.clone();
        predictor.on_event(now + ms(3), Trigger::Unscheduled);
        assert_eq!(predictor.history, before.history);
    }

    #[test]
    fn the_expected_loss_decreases_with_the_expected_gap() {
        let prices = Prices::default();
        let loss_after = |length: Duration| {
            let (mut predictor, bytes) = on_cold_storage();
            let mut now = Duration::ZERO;
            (0..50).for_each(|_| gap(&mut predictor, &mut now, length, bytes));
            let situation = idle(now, bytes);
            decide(&mut predictor, &situation);
            predictor.expected_loss(&situation, &prices)
        };
        let losses = [ms(100), ms(5000), ms(12_000), ms(60_000)].map(loss_after);
        assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
        assert_eq!(losses[3], 0.0);
    }

    #[test]
    fn fixed_policies_ignore_the_history() {
        let prices = Prices::default();
        let mut predictor = Predictor::default();
        let mut decide = |policy: Policy, now| policy.decide(&mut predictor, &idle(now, SMALL), &prices);
        assert_eq!(decide(Policy::Immediate, SECOND), Decision::Suspend);
        assert_eq!(decide(Policy::Never, SECOND), Decision::Stay { until: None });
        let after = Policy::After(SECOND);
        assert_eq!(decide(after, SECOND), Decision::Stay { until: Some(2 * SECOND) });
        assert_eq!(decide(after, ms(1500)), Decision::Stay { until: Some(2 * SECOND) });
        assert_eq!(decide(after, 2 * SECOND), Decision::Suspend);
    }

    #[test]
    fn an_instance_that_is_due_during_a_cycle_stays() {
        let mut predictor = Predictor::default();
        let soon = SECOND + Duration::from_micros(500);
        let situation = Situation { known_next: Some(soon), ..idle(SECOND, SMALL) };
        let decision = Policy::Immediate.decide(&mut predictor, &situation, &Prices::default());
        assert_eq!(decision, Decision::Stay { until: Some(soon) });
    }
}
