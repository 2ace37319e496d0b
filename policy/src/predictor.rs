//! What is remembered of one controller, and what it decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ahead::{Ahead, Window};
use crate::cost::Measured;
use crate::history::{Before, History};
use crate::stopping::{self, Stopping, Terms};
use crate::{Cycle, Prices};

/// A timed resume starts so many typical resumes before it is needed.
const HEAD_START: f64 = 1.5;

/// The history of one controller: at most 200 bytes, all inline, also when serialised. It goes into the
/// controller's snapshot.
///
/// Times are those of the host's clock. None of them are saved: the gap in which a host ended is
/// never counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    history: History,
    ahead: Ahead,
    measured: Measured,
    /// The gap before the present one.
    before: Before,
    /// Since when nothing has been to do; set by the first decision after an event.
    #[serde(skip)]
    idle_since: Option<Duration>,
    /// Of the last decision, in seconds of the instance's memory: what a cycle costs, and what the
    /// wait for a resume does.
    #[serde(skip)]
    break_even: f32,
    #[serde(skip)]
    wait: f32,
    /// The last decision was made while answers were awaited.
    #[serde(skip)]
    awaiting: bool,
    /// It was resumed in the present gap, ahead of the event.
    #[serde(skip)]
    resumed_ahead: bool,
}

/// What made a controller run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A timer, requeue or backoff that the host had known of.
    Known,
    /// Anything else.
    Event,
}

/// An instance that has nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    pub now: Duration,
    /// What suspending it would free.
    pub resident_bytes: u64,
    /// When it certainly runs again: its earliest timer, requeue or backoff.
    pub known_next: Option<Duration>,
    /// Answers to its requests are outstanding, other than watches. They come in milliseconds, or
    /// nobody knows when, and say nothing about the controller's rhythm.
    pub awaiting_answers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Leave it resident, and decide again at `until` if it is still idle. `None`: it stays until an
    /// event.
    Stay { until: Option<Duration> },
    /// Suspend it; the next event resumes it.
    Suspend,
    /// Suspend it, and begin to resume it at this time if no event did so before.
    SuspendAndResumeAt(Duration),
}

impl Predictor {
    /// Of a controller nothing is known about: its first suspends and resumes are expected to be like
    /// those of the host's other controllers.
    pub fn expecting(cycle: &Cycle) -> Predictor {
        let mut predictor = Predictor::default();
        predictor.measured.suspended(cycle.suspend, cycle.written_bytes);
        predictor.measured.resumed(cycle.resume);
        predictor
    }

    /// Something is to be done, whether the instance is resident or not.
    pub fn on_event(&mut self, now: Duration, cause: Cause) {
        let Some(since) = self.idle_since.take() else { return };
        self.resumed_ahead = false;
        if self.awaiting {
            return;
        }
        let gap = now.saturating_sub(since).as_secs_f64();
        let break_even = f64::from(self.break_even);
        self.history.record(self.before, gap, cause == Cause::Event);
        self.before = if gap < break_even { Before::Short } else { Before::Long };
        if cause == Cause::Event && gap >= break_even {
            self.ahead.record(gap, f64::from(self.wait), break_even);
        }
    }

    /// A suspend has ended.
    pub fn on_suspended(&mut self, took: Duration, written_bytes: u64) {
        self.measured.suspended(took, written_bytes);
    }

    /// A resume has ended.
    pub fn on_resumed(&mut self, took: Duration) {
        self.measured.resumed(took);
        self.resumed_ahead = self.idle_since.is_some();
    }

    /// What suspending and resuming it once takes, as far as it was measured.
    pub fn typical_cycle(&self) -> Cycle {
        self.measured.typical()
    }

    /// How much dearer it is expected to be, in byte-seconds, to suspend the instance now instead of
    /// when it is best. 0 if now is best. What a memory budget goes by ([`crate::budget`]).
    pub fn expected_loss(&self, situation: &Situation, prices: &Prices) -> f64 {
        let rent = rent(situation);
        let stopping = self.stopping(situation, prices, self.idle(situation));
        (self.terms(situation, prices).suspending - stopping.value).max(0.0) * rent
    }

    /// Takes in a situation that is decided about; returns since when it is idle.
    pub(crate) fn observe(&mut self, situation: &Situation, prices: &Prices) -> Duration {
        let cycle = self.measured.typical();
        let rent = rent(situation);
        self.break_even = (prices.cycle(&cycle, situation.resident_bytes) / rent) as f32;
        self.wait = (prices.wait(cycle.resume) / rent) as f32;
        self.awaiting = situation.awaiting_answers;
        *self.idle_since.get_or_insert(situation.now)
    }

    /// It runs again before a suspend and a resume are over.
    pub(crate) fn is_due_during_a_cycle(&self, situation: &Situation) -> bool {
        let cycle = self.measured.typical();
        situation.known_next.is_some_and(|at| at <= situation.now.saturating_add(cycle.suspend + cycle.resume))
    }

    /// The decision of [`crate::Policy::Adaptive`].
    pub(crate) fn adapt(&self, situation: &Situation, prices: &Prices) -> Decision {
        let idle = self.idle(situation);
        let suspend = self.suspend(situation, idle);
        if self.resumed_ahead {
            // What it was resumed for comes now, or it was in vain.
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

    /// How to suspend it: with a time to resume it, if that pays.
    fn suspend(&self, situation: &Situation, idle: f64) -> Decision {
        let known = situation.known_next.filter(|_| self.pays_to_meet_what_is_known());
        let known = known.map(|at| at.saturating_sub(self.head_start()));
        let predicted = self.window(situation).filter(|_| !self.resumed_ahead);
        let predicted = predicted.map(|w| after(situation.now, w.from - idle).saturating_sub(self.head_start()));
        let soonest = situation.now.saturating_add(self.measured.typical().suspend);
        match known.into_iter().chain(predicted).filter(|at| *at > soonest).min() {
            Some(at) => Decision::SuspendAndResumeAt(at),
            None => Decision::Suspend,
        }
    }

    fn stopping(&self, situation: &Situation, prices: &Prices, idle: f64) -> Stopping {
        let terms = self.terms(situation, prices);
        let nothing_known = History::default();
        let history = if situation.awaiting_answers { &nothing_known } else { &self.history };
        stopping::best(history, self.before, Terms { elapsed: idle, ..terms })
    }

    fn terms(&self, situation: &Situation, prices: &Prices) -> Terms {
        let (cycle, rent) = (self.measured.typical(), rent(situation));
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
        self.ahead.window(f64::from(self.wait)).filter(|_| !situation.awaiting_answers)
    }

    fn head_start(&self) -> Duration {
        self.measured.typical().resume.mul_f64(HEAD_START)
    }

    /// Being there in time for an event whose time is known costs the head start and saves the wait.
    fn pays_to_meet_what_is_known(&self) -> bool {
        let resume = self.measured.typical().resume.as_secs_f64();
        f64::from(self.wait) > resume * (HEAD_START - 1.0)
    }

    fn is_near(&self, situation: &Situation, at: Duration) -> bool {
        at.saturating_sub(situation.now) <= self.head_start()
    }
}

/// What one second of the instance's memory costs, byte-seconds.
fn rent(situation: &Situation) -> f64 {
    situation.resident_bytes.max(1) as f64
}

/// So many seconds later, which may be negative.
fn after(now: Duration, seconds: f64) -> Duration {
    // Rounded up, so that deciding again at that time doesn't come a little too early.
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

    /// Goes through a gap that an event ends, resident or not.
    fn gap(predictor: &mut Predictor, now: &mut Duration, length: Duration, resident_bytes: u64) {
        decide(predictor, &idle(*now, resident_bytes));
        *now += length;
        predictor.on_event(*now, Cause::Event);
    }

    /// 64 MiB on a disk where a resume takes 200 ms.
    fn on_cold_storage() -> (Predictor, u64) {
        let cycle = Cycle { suspend: ms(200), resume: ms(200), written_bytes: 16 << 20 };
        (Predictor::expecting(&cycle), 64 << 20)
    }

    #[test]
    fn it_is_small_in_memory_and_in_a_snapshot() {
        assert!(size_of::<Predictor>() <= 200, "{}", size_of::<Predictor>());
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..1000).for_each(|n| gap(&mut predictor, &mut now, ms(n * 37 % 100_000), bytes));
        let saved = postcard::to_stdvec(&predictor).expect("saves");
        assert!(saved.len() <= 200, "{}", saved.len());
    }

    #[test]
    fn what_was_learnt_survives_a_restart_and_the_gap_in_between_is_not_counted() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        decide(&mut predictor, &idle(now, SMALL));
        let saved = postcard::to_stdvec(&predictor).expect("saves");
        let mut restored: Predictor = postcard::from_bytes(&saved).expect("restores");
        let learnt = restored.clone();
        // The new host's clock begins anew.
        restored.on_event(ms(3), Cause::Event);
        assert_eq!(restored, learnt);
        assert_eq!(decide(&mut restored, &idle(ms(4), SMALL)), Decision::Suspend);
    }

    #[test]
    fn an_unknown_controller_is_suspended_at_the_break_even() {
        let mut predictor = Predictor::default();
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(SECOND, SMALL)) else {
            panic!("it stays at first");
        };
        assert!((ms(1600)..ms(2400)).contains(&until), "{until:?}");
        assert_eq!(decide(&mut predictor, &idle(until, SMALL)), Decision::Suspend);
    }

    #[test]
    fn one_that_rests_for_long_is_soon_suspended_at_once() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..3).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        assert_eq!(decide(&mut predictor, &idle(now, SMALL)), Decision::Suspend);
    }

    #[test]
    fn one_whose_memory_is_dear_to_get_back_stays_for_the_same_rhythm() {
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), bytes));
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(now, bytes)) else {
            panic!("it stays");
        };
        assert!(until > now + ms(5200), "{until:?}");
    }

    #[test]
    fn in_a_burst_it_stays_for_the_next_event_and_not_for_long() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        for n in 0..400 {
            gap(&mut predictor, &mut now, if n % 20 == 18 { ms(60_000) } else { ms(20) }, SMALL);
        }
        for _ in 0..5 {
            let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(now, SMALL)) else {
                panic!("it stays");
            };
            assert!(until > now + ms(20) && until < now + ms(100), "{:?}", until - now);
            gap(&mut predictor, &mut now, ms(20), SMALL);
        }
    }

    #[test]
    fn a_known_time_is_met_without_having_been_learnt() {
        let mut predictor = Predictor::default();
        let at = |now, known| Situation { known_next: Some(known), ..idle(now, SMALL) };
        assert_eq!(decide(&mut predictor, &at(SECOND, ms(1500))), Decision::Stay { until: Some(ms(1500)) });
        predictor.on_event(ms(1500), Cause::Known);
        // A resume on a fast disk makes nobody wait.
        let mut now = 2 * SECOND;
        (0..3).for_each(|_| gap(&mut predictor, &mut now, 60 * SECOND, SMALL));
        assert_eq!(decide(&mut predictor, &at(now, 600 * SECOND)), Decision::Suspend);

        let (mut predictor, bytes) = on_cold_storage();
        let due = 601 * SECOND;
        let situation = Situation { known_next: Some(due), ..idle(SECOND, bytes) };
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &situation) else {
            panic!("something else may come first");
        };
        assert!(until < 30 * SECOND, "{until:?}");
        let situation = Situation { now: until, ..situation };
        let Decision::SuspendAndResumeAt(at) = decide(&mut predictor, &situation) else {
            panic!("it is resumed early");
        };
        assert!((ms(299)..ms(301)).contains(&(due - at)), "{at:?}");
        predictor.on_resumed(ms(200));
        let situation = Situation { now: due - ms(100), ..situation };
        assert_eq!(decide(&mut predictor, &situation), Decision::Stay { until: Some(due) });
    }

    #[test]
    fn on_cold_storage_a_regular_event_is_met_early_and_given_up_when_it_stays_away() {
        let (mut predictor, bytes) = on_cold_storage();
        let mut now = Duration::ZERO;
        (0..100).for_each(|n| gap(&mut predictor, &mut now, ms(59_900 + n % 3 * 100), bytes));
        let Decision::SuspendAndResumeAt(at) = decide(&mut predictor, &idle(now, bytes)) else {
            panic!("it is resumed early");
        };
        assert!(at > now + ms(59_000) && at < now + ms(59_800), "{:?}", at - now);
        predictor.on_resumed(ms(200));
        let Decision::Stay { until: Some(until) } = decide(&mut predictor, &idle(at + ms(200), bytes)) else {
            panic!("it waits for the event");
        };
        assert!(until > now + ms(60_100) && until < now + ms(61_000), "{:?}", until - now);
        assert_eq!(decide(&mut predictor, &idle(until, bytes)), Decision::Suspend);
    }

    #[test]
    fn waiting_for_an_answer_is_no_rhythm() {
        let mut predictor = Predictor::default();
        let mut now = Duration::ZERO;
        (0..30).for_each(|_| gap(&mut predictor, &mut now, ms(5200), SMALL));
        let awaiting = Situation { awaiting_answers: true, ..idle(now, SMALL) };
        assert!(matches!(decide(&mut predictor, &awaiting), Decision::Stay { .. }));
        let before = predictor.clone();
        predictor.on_event(now + ms(3), Cause::Event);
        assert_eq!(predictor.history, before.history);
    }

    #[test]
    fn the_loss_is_small_for_one_that_rests_and_great_for_one_that_is_needed_soon() {
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
    fn fixed_policies_do_what_they_say() {
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
    fn nothing_is_suspended_that_runs_again_before_it_is_written() {
        let mut predictor = Predictor::default();
        let soon = SECOND + Duration::from_micros(500);
        let situation = Situation { known_next: Some(soon), ..idle(SECOND, SMALL) };
        let decision = Policy::Immediate.decide(&mut predictor, &situation, &Prices::default());
        assert_eq!(decision, Decision::Stay { until: Some(soon) });
    }
}
