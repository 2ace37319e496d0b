//! A trace replayed under a strategy: what it would have cost, compared with what it would have cost
//! somebody who knew the trace.
//!
//! Time passes only between events: a step takes none. Each controller is resident after its first
//! event, and what happens after its last one is not counted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::trace::{Event, Trace};
use crate::{Cause, Cycle, Decision, Policy, PolicyError, Predictor, Prices, Situation};

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Policy(Policy),
    /// Simple exponential smoothing, what the research prototype used: if the smoothed gap is beyond
    /// the break-even, suspend at once and resume when the gap is over; else stay.
    Smoothing,
    /// Knows the trace: suspends at once or not at all, and is back when the event comes.
    Optimum,
}

impl Strategy {
    /// Those worth comparing.
    pub fn all() -> Vec<Strategy> {
        let after = |seconds| Policy::After(Duration::from_secs(seconds));
        let policies = [Policy::Adaptive, Policy::Immediate, after(1), after(10), after(60), Policy::Never];
        policies.map(Strategy::Policy).into_iter().chain([Strategy::Smoothing, Strategy::Optimum]).collect()
    }
}

/// Weight of the newest gap in `Strategy::Smoothing`.
const SMOOTHING: f64 = 0.5;

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Policy(policy) => policy.fmt(f),
            Strategy::Smoothing => f.pad("smoothing"),
            Strategy::Optimum => f.pad("optimum"),
        }
    }
}

impl FromStr for Strategy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Strategy, PolicyError> {
        match text {
            "smoothing" => Ok(Strategy::Smoothing),
            "optimum" => Ok(Strategy::Optimum),
            _ => text.parse().map(Strategy::Policy),
        }
    }
}

/// What all controllers of a simulation are like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    pub prices: Prices,
    pub cycle: Cycle,
    pub resident_bytes: u64,
}

/// Some kinds of controllers and the disks they are suspended to. The first three are rounded from
/// what `cargo xtask bench resume` measures; the others are assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A Rust guest on a local disk: 2 MiB, 0.3 ms to suspend, 0.3 ms to resume, 64 KiB written.
    Rust,
    /// A Go guest on a local disk: 4 MiB, 2 ms, 0.6 ms, 512 KiB.
    Go,
    /// A Go guest with a heap it has changed much of: 8 MiB, 12 ms, 1.2 ms, 4 MiB.
    GoHeap,
    /// 32 MiB on an SD card: 100 ms, 8 ms, 1 MiB.
    SdCard,
    /// 64 MiB on cold storage: 200 ms, 200 ms, 16 MiB.
    Cold,
}

impl Profile {
    pub const ALL: [Profile; 5] = [Profile::Rust, Profile::Go, Profile::GoHeap, Profile::SdCard, Profile::Cold];

    pub fn name(self) -> &'static str {
        match self {
            Profile::Rust => "rust",
            Profile::Go => "go",
            Profile::GoHeap => "go-heap",
            Profile::SdCard => "sd-card",
            Profile::Cold => "cold",
        }
    }

    pub fn setup(self) -> Setup {
        let us = Duration::from_micros;
        let (suspend, resume, written_kib, resident_mib) = match self {
            Profile::Rust => (us(300), us(300), 64, 2),
            Profile::Go => (us(2000), us(600), 512, 4),
            Profile::GoHeap => (us(12_000), us(1200), 4 << 10, 8),
            Profile::SdCard => (us(100_000), us(8000), 1 << 10, 32),
            Profile::Cold => (us(200_000), us(200_000), 16 << 10, 64),
        };
        Setup {
            prices: Prices::default(),
            cycle: Cycle { suspend, resume, written_bytes: written_kib << 10 },
            resident_bytes: resident_mib << 20,
        }
    }
}

impl Setup {
    /// The gap from which on suspending is cheaper for somebody who knows it.
    pub fn break_even(&self) -> Duration {
        Duration::try_from_secs_f64(self.prices.cycle(&self.cycle, self.resident_bytes) / self.rent())
            .unwrap_or(Duration::MAX)
    }

    fn rent(&self) -> f64 {
        self.resident_bytes.max(1) as f64
    }

    /// What the optimum pays for a gap.
    fn optimum(&self, gap: Duration) -> f64 {
        let staying = gap.as_secs_f64() * self.rent();
        match gap < self.cycle.suspend + self.cycle.resume {
            true => staying,
            false => staying.min(self.prices.cycle(&self.cycle, self.resident_bytes)),
        }
    }
}

/// What a simulation came to, all controllers together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Time the trace is long.
    pub length: Duration,
    /// Time that instances were resident.
    resident: Duration,
    pub resumes: u64,
    /// Of these, those that an event had to wait for.
    pub on_demand_resumes: u64,
    /// Of the events that waited; there are `events` in all.
    waits: Vec<Duration>,
    events: u64,
    /// Byte-seconds.
    pub cost: f64,
    pub optimum: f64,
    resident_bytes: u64,
}

impl Outcome {
    /// Bytes resident on average, of all controllers together.
    pub fn mean_resident_bytes(&self) -> f64 {
        let length = self.length.as_secs_f64();
        if length == 0.0 { 0.0 } else { self.resident.as_secs_f64() / length * self.resident_bytes as f64 }
    }

    /// How long 95 % of the events waited at most.
    pub fn p95_added_latency(&self) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort();
        let beyond = (self.events as f64 * 0.05).floor() as usize;
        waits.iter().rev().nth(beyond).copied().unwrap_or_default()
    }

    /// 1 is the optimum.
    pub fn cost_vs_optimum(&self) -> f64 {
        match (self.cost, self.optimum) {
            (0.0, 0.0) => 1.0,
            (cost, optimum) => cost / optimum,
        }
    }
}

/// Replays all controllers of a trace.
pub fn simulate(trace: &Trace, strategy: Strategy, setup: &Setup) -> Outcome {
    let mut outcome = Outcome { length: trace.length(), resident_bytes: setup.resident_bytes, ..Outcome::default() };
    for events in trace.controllers.values() {
        let mut replay = Replay { setup, decider: Decider::new(strategy, setup), outcome: &mut outcome };
        for pair in events.windows(2) {
            replay.gap(pair[0].at, pair[1]);
        }
    }
    outcome
}

struct Replay<'a> {
    setup: &'a Setup,
    decider: Decider,
    outcome: &'a mut Outcome,
}

impl Replay<'_> {
    /// From an event, after which the instance is idle and resident, to the next.
    fn gap(&mut self, begin: Duration, event: Event) {
        let optimum = self.setup.optimum(event.at - begin);
        self.outcome.optimum += optimum;
        self.outcome.events += 1;
        let Cycle { suspend, resume, written_bytes } = self.setup.cycle;
        let mut now = begin;
        loop {
            let until = match self.decider.decide(begin, now, event, self.setup) {
                Decision::Stay { until } => Err(until.unwrap_or(event.at).min(event.at)),
                Decision::Suspend => Ok(None),
                Decision::SuspendAndResumeAt(at) => Ok(Some(at)),
            };
            match until {
                Err(until) => {
                    self.stay(until.saturating_sub(now));
                    // A decision to stay until now would go on for ever.
                    now = until.max(now + Duration::from_nanos(1));
                    if now >= event.at {
                        break;
                    }
                }
                Ok(resume_at) => {
                    self.outcome.cost += self.setup.prices.cycle(&self.setup.cycle, self.setup.resident_bytes);
                    self.outcome.resident += suspend + resume;
                    self.outcome.resumes += 1;
                    self.decider.predictor.on_suspended(suspend, written_bytes);
                    let suspended = now + suspend;
                    let resume_begins = resume_at.unwrap_or(event.at).min(event.at).max(suspended);
                    let resumed = resume_begins + resume;
                    if resume_at.is_none_or(|at| at.max(suspended) > event.at) {
                        self.outcome.on_demand_resumes += 1;
                    }
                    if resumed >= event.at {
                        self.wait(resumed - event.at);
                        self.decider.event(begin, event);
                        self.decider.predictor.on_resumed(resume);
                        return;
                    }
                    self.decider.predictor.on_resumed(resume);
                    now = resumed;
                }
            }
        }
        self.decider.event(begin, event);
    }

    fn stay(&mut self, duration: Duration) {
        self.outcome.resident += duration;
        self.outcome.cost += duration.as_secs_f64() * self.setup.rent();
    }

    fn wait(&mut self, wait: Duration) {
        self.outcome.cost += self.setup.prices.wait(wait);
        self.outcome.waits.push(wait);
    }
}

struct Decider {
    strategy: Strategy,
    predictor: Predictor,
    /// Of `Strategy::Smoothing`, seconds.
    smoothed: Option<f64>,
}

impl Decider {
    fn new(strategy: Strategy, setup: &Setup) -> Decider {
        Decider { strategy, predictor: Predictor::expecting(&setup.cycle), smoothed: None }
    }

    fn decide(&mut self, begin: Duration, now: Duration, next: Event, setup: &Setup) -> Decision {
        let stay = Decision::Stay { until: None };
        let gap = next.at - begin;
        match self.strategy {
            Strategy::Policy(policy) => {
                let situation = Situation {
                    now,
                    resident_bytes: setup.resident_bytes,
                    known_next: next.due,
                    awaiting_answers: false,
                };
                policy.decide(&mut self.predictor, &situation, &setup.prices)
            }
            Strategy::Smoothing => match self.smoothed {
                Some(smoothed) if now == begin && smoothed > setup.break_even().as_secs_f64() => {
                    Decision::SuspendAndResumeAt(begin + Duration::from_secs_f64(smoothed) - setup.cycle.resume)
                }
                _ => stay,
            },
            Strategy::Optimum => {
                let gap_is_long = gap > setup.break_even() && gap > setup.cycle.suspend + setup.cycle.resume;
                match now == begin && gap_is_long {
                    true => Decision::SuspendAndResumeAt(next.at - setup.cycle.resume),
                    false => stay,
                }
            }
        }
    }

    fn event(&mut self, begin: Duration, event: Event) {
        self.predictor.on_event(event.at, if event.is_known() { Cause::Known } else { Cause::Event });
        let gap = (event.at - begin).as_secs_f64();
        self.smoothed = Some(self.smoothed.map_or(gap, |smoothed| smoothed + SMOOTHING * (gap - smoothed)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::trace::Builtin;
    use crate::trace::builtin::{bursts, periodic, poisson, requeue};

    /// A resident second costs 1 and a cycle 10.
    fn simple() -> Setup {
        let prices =
            Prices { core_second: 0.0, written_byte: 1.0, waiting_second: 0.0, unnoticed_wait: Duration::ZERO };
        Setup {
            prices,
            cycle: Cycle { suspend: Duration::ZERO, resume: Duration::ZERO, written_bytes: 10 },
            resident_bytes: 1,
        }
    }

    /// Break-evens of 1, 3, 9, 7, 16, 22 and 4 s; where a resume takes 200 ms, being late costs as well.
    fn setups() -> Vec<(&'static str, Setup)> {
        let ms = Duration::from_millis;
        let mut setups: Vec<_> = Profile::ALL.map(|profile| (profile.name(), profile.setup())).into();
        for (name, suspend, resume, written_mib, resident_mib) in
            [("slow cpu", ms(8), ms(8), 1, 2), ("cold and large", ms(400), ms(200), 64, 512)]
        {
            let cycle = Cycle { suspend, resume, written_bytes: written_mib << 20 };
            setups.push((name, Setup { prices: Prices::default(), cycle, resident_bytes: resident_mib << 20 }));
        }
        setups
    }

    fn cost(trace: &Trace, policy: &str, setup: &Setup) -> f64 {
        simulate(trace, Strategy::Policy(policy.parse().expect("a policy")), setup).cost_vs_optimum()
    }

    fn best_fixed(trace: &Trace, setup: &Setup) -> f64 {
        let fixed = ["immediate", "after=1s", "after=10s", "after=60s", "never"];
        fixed.map(|policy| cost(trace, policy, setup)).into_iter().fold(f64::INFINITY, f64::min)
    }

    fn trace(text: &str) -> Trace {
        Trace::parse(text).expect("a trace")
    }

    #[test]
    fn a_short_trace_comes_to_what_it_does_by_hand() {
        // Gaps of 4, 20 and 6 s.
        let trace = trace("0,a\n4,a\n24,a\n30,a\n");
        for (strategy, cost, resumes, resident) in [
            ("never", 30.0, 0, 30.0),
            ("immediate", 30.0, 3, 0.0),
            ("after=5s", 4.0 + 15.0 + 15.0, 2, 14.0),
            ("after=10s", 4.0 + 20.0 + 6.0, 1, 20.0),
        ] {
            let outcome = simulate(&trace, Strategy::Policy(strategy.parse().expect("ok")), &simple());
            assert_eq!((outcome.cost, outcome.resumes, outcome.optimum), (cost, resumes, 20.0), "{strategy}");
            assert_eq!(outcome.mean_resident_bytes(), resident / 30.0, "{strategy}");
        }
        let optimum = simulate(&trace, Strategy::Optimum, &simple());
        assert_eq!((optimum.cost_vs_optimum(), optimum.resumes, optimum.on_demand_resumes), (1.0, 1, 0));
    }

    #[test]
    fn an_event_waits_for_what_is_left_of_the_suspend_and_for_the_resume() {
        let mut setup = simple();
        setup.cycle.suspend = Duration::from_secs(2);
        setup.cycle.resume = Duration::from_secs(3);
        let outcome = simulate(&trace("0,a\n1,a\n"), Strategy::Policy(Policy::Immediate), &setup);
        assert_eq!(outcome.p95_added_latency(), Duration::from_secs(4));
        let outcome = simulate(&trace("0,a\n10,a\n"), Strategy::Policy(Policy::Immediate), &setup);
        assert_eq!(outcome.p95_added_latency(), Duration::from_secs(3));
    }

    #[test]
    fn the_goals_hold_on_the_builtin_traces_for_every_kind_of_controller_and_disk() {
        for (name, setup) in setups() {
            for (builtin, goal) in [
                (Builtin::Periodic, 1.15),
                (Builtin::Requeue, 1.15),
                (Builtin::Bursts, 1.15),
                (Builtin::Poisson, 1.6),
                (Builtin::Diurnal, 1.6),
                (Builtin::DeployStorm, 1.6),
            ] {
                let trace = builtin.trace(1);
                let (adaptive, best) = (cost(&trace, "adaptive", &setup), best_fixed(&trace, &setup));
                let what = format!("{name}, {}: {adaptive:.3}, best fixed {best:.3}", builtin.name());
                assert!(adaptive <= goal && adaptive <= best * 1.05, "{what}");
            }
        }
    }

    #[test]
    fn it_is_near_the_best_fixed_timeout_whatever_the_rhythm_is_to_the_break_even() {
        for (name, setup) in setups() {
            let scale = setup.break_even().as_secs_f64();
            let mut traces = Vec::new();
            for mean in [0.1, 0.5, 0.8, 1.0, 1.25, 2.0, 10.0] {
                traces.push((format!("poisson {mean}"), 1.62, poisson(&[mean * scale], 4000, 1)));
                traces.push((format!("periodic {mean}"), 1.15, periodic(mean * scale, mean * scale * 0.1, 2000, 1)));
            }
            for interval in [0.5, 0.8, 1.25, 5.0] {
                let (interval, length) = (interval * scale, 2000.0 * interval * scale);
                traces.push((format!("requeue {interval}"), 1.15, requeue(&[interval], 20.0 * scale, length, 1)));
            }
            for (size, apart) in [(20.0, 0.01), (100.0, 0.03), (500.0, 0.02)] {
                let length = 200.0 * (size * apart + 20.0) * scale;
                let trace = bursts(size, apart * scale, 20.0 * scale, length, 1);
                traces.push((format!("bursts {size} {apart}"), 1.15, trace));
            }
            for (what, goal, trace) in traces {
                let (adaptive, best) = (cost(&trace, "adaptive", &setup), best_fixed(&trace, &setup));
                // Whoever is late pays for it, and only the optimum is never late.
                let late = 1.0
                    + setup.prices.wait(setup.cycle.resume) / setup.prices.cycle(&setup.cycle, setup.resident_bytes);
                let what = format!("{name}, {what}: {adaptive:.3}, best fixed {best:.3}");
                assert!(adaptive <= goal * late && adaptive <= best * 1.05, "{what}");
            }
        }
    }

    #[test]
    fn on_cold_storage_predictable_events_are_met_early() {
        let setup = Profile::Cold.setup();
        let trace = periodic(60.0, 0.3, 1000, 1);
        let adaptive = simulate(&trace, Strategy::Policy(Policy::Adaptive), &setup);
        let immediate = simulate(&trace, Strategy::Policy(Policy::Immediate), &setup);
        assert!(adaptive.cost < immediate.cost * 0.99, "{} {}", adaptive.cost, immediate.cost);
        assert!(adaptive.on_demand_resumes * 4 < immediate.on_demand_resumes, "{}", adaptive.on_demand_resumes);
        // What the host has scheduled itself it need not learn.
        let trace = requeue(&[60.0], 1e9, 60_000.0, 1);
        let adaptive = simulate(&trace, Strategy::Policy(Policy::Adaptive), &setup);
        assert!(adaptive.on_demand_resumes <= 1 && adaptive.resumes > 900, "{adaptive:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper_than_the_optimum(
            gaps in proptest::collection::vec((0u64..200_000, proptest::bool::ANY), 2..60),
            resume in 0u64..500, resident in 1u64..200,
        ) {
            let mut at = Duration::ZERO;
            let events = gaps.iter().map(|(gap, known)| {
                at += Duration::from_millis(*gap);
                Event { at, due: known.then_some(at) }
            });
            let trace = Trace { controllers: [("a".to_owned(), events.collect())].into() };
            let resume = Duration::from_millis(resume);
            let cycle = Cycle { suspend: resume, resume, written_bytes: 100 << 10 };
            let setup = Setup { prices: Prices::default(), cycle, resident_bytes: resident << 20 };
            for strategy in Strategy::all() {
                let outcome = simulate(&trace, strategy, &setup);
                prop_assert!(outcome.cost >= outcome.optimum * (1.0 - 1e-6), "{strategy}: {outcome:?}");
                prop_assert!(outcome.on_demand_resumes <= outcome.resumes);
                if strategy == Strategy::Optimum {
                    prop_assert!(outcome.cost <= outcome.optimum * (1.0 + 1e-6), "{outcome:?}");
                }
            }
        }
    }
}
