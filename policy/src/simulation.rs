//! Replays an activity trace under a strategy, and compares the cost with the offline optimum.
//!
//! Steps take no time. Each controller is resident after its first arrival. The time after its last arrival is not
//! counted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::activity::{ActivityTrace, Arrival};
use crate::{Cycle, Decision, Policy, PolicyError, Predictor, Prices, Situation, Trigger};

/// A way to decide when instances are suspended and resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// A suspend policy of the host.
    Policy(Policy),
    /// Simple exponential smoothing of the gaps.
    ///
    /// If the smoothed gap is longer than the break-even, the instance is suspended at once and resumed at the end of
    /// the smoothed gap. Otherwise it stays.
    Smoothing,
    /// Knows the trace. It suspends at once or not at all, and resumes just in time.
    Optimum,
}

impl Strategy {
    /// Returns the strategies to compare by default.
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

/// The properties of every instance in a simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstanceModel {
    /// The prices of resources.
    pub prices: Prices,
    /// The suspend and resume of an instance.
    pub cycle: Cycle,
    /// Bytes of memory of a resident instance.
    pub resident_bytes: u64,
}

/// Typical controllers and disks.
///
/// The values of the first three are rounded measurements of `cargo xtask bench resume`. The others are assumptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A Rust guest on a local disk: 2 MiB, 0.3 ms to suspend, 0.3 ms to resume, 64 KiB written.
    Rust,
    /// A Go guest on a local disk: 4 MiB, 2 ms, 0.6 ms, 512 KiB.
    Go,
    /// A Go guest that has modified much of its heap: 8 MiB, 12 ms, 1.2 ms, 4 MiB.
    GoHeap,
    /// 32 MiB on an SD card: 100 ms, 8 ms, 1 MiB.
    SdCard,
    /// 64 MiB on cold storage: 200 ms, 200 ms, 16 MiB.
    Cold,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 5] = [Profile::Rust, Profile::Go, Profile::GoHeap, Profile::SdCard, Profile::Cold];

    /// Returns the name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Rust => "rust",
            Profile::Go => "go",
            Profile::GoHeap => "go-heap",
            Profile::SdCard => "sd-card",
            Profile::Cold => "cold",
        }
    }

    /// Returns the model of this profile.
    pub fn setup(self) -> InstanceModel {
        let us = Duration::from_micros;
        let (suspend, resume, written_kib, resident_mib) = match self {
            Profile::Rust => (us(300), us(300), 64, 2),
            Profile::Go => (us(2000), us(600), 512, 4),
            Profile::GoHeap => (us(12_000), us(1200), 4 << 10, 8),
            Profile::SdCard => (us(100_000), us(8000), 1 << 10, 32),
            Profile::Cold => (us(200_000), us(200_000), 16 << 10, 64),
        };
        InstanceModel {
            prices: Prices::default(),
            cycle: Cycle { suspend, resume, written_bytes: written_kib << 10 },
            resident_bytes: resident_mib << 20,
        }
    }
}

impl InstanceModel {
    /// Returns the gap above which suspending is cheaper than staying if the gap is known in advance.
    pub fn break_even(&self) -> Duration {
        Duration::try_from_secs_f64(self.prices.cycle(&self.cycle, self.resident_bytes) / self.rent())
            .unwrap_or(Duration::MAX)
    }

    fn rent(&self) -> f64 {
        self.resident_bytes.max(1) as f64
    }

    /// Returns the optimum's cost of a gap.
    fn optimum(&self, gap: Duration) -> f64 {
        let staying = gap.as_secs_f64() * self.rent();
        match gap < self.cycle.suspend + self.cycle.resume {
            true => staying,
            false => staying.min(self.prices.cycle(&self.cycle, self.resident_bytes)),
        }
    }
}

/// The result of a simulation, summed over all controllers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulationOutcome {
    /// The length of the trace.
    pub length: Duration,
    /// Total resident time of the instances.
    resident: Duration,
    /// Number of resumes.
    pub resumes: u64,
    /// Number of resumes that an event caused, and had to wait for.
    pub on_demand_resumes: u64,
    /// The waits of those arrivals that had to wait.
    waits: Vec<Duration>,
    /// Number of all arrivals.
    arrivals: u64,
    /// The cost under the strategy, in byte-seconds.
    pub cost: f64,
    /// The cost of the offline optimum, in byte-seconds.
    pub optimum: f64,
    resident_bytes: u64,
}

impl SimulationOutcome {
    /// Returns the time-averaged resident bytes of all instances.
    pub fn mean_resident_bytes(&self) -> f64 {
        let length = self.length.as_secs_f64();
        if length == 0.0 { 0.0 } else { self.resident.as_secs_f64() / length * self.resident_bytes as f64 }
    }

    /// Returns the 95th percentile of the arrivals' waits.
    pub fn p95_added_latency(&self) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort();
        let beyond = (self.arrivals as f64 * 0.05).floor() as usize;
        waits.iter().rev().nth(beyond).copied().unwrap_or_default()
    }

    /// Returns the cost relative to the offline optimum.
    pub fn cost_vs_optimum(&self) -> f64 {
        match (self.cost, self.optimum) {
            (0.0, 0.0) => 1.0,
            (cost, optimum) => cost / optimum,
        }
    }
}

/// Replays the activity of all controllers.
pub fn simulate(trace: &ActivityTrace, strategy: Strategy, setup: &InstanceModel) -> SimulationOutcome {
    let mut outcome = SimulationOutcome {
        length: trace.length(),
        resident_bytes: setup.resident_bytes,
        ..SimulationOutcome::default()
    };
    for arrivals in trace.controllers.values() {
        let mut replay = ControllerReplay { setup, decider: Decider::new(strategy, setup), outcome: &mut outcome };
        for pair in arrivals.windows(2) {
            replay.gap(pair[0].at, pair[1]);
        }
    }
    outcome
}

struct ControllerReplay<'a> {
    setup: &'a InstanceModel,
    decider: Decider,
    outcome: &'a mut SimulationOutcome,
}

impl ControllerReplay<'_> {
    /// Replays the gap between two arrivals. The instance is idle and resident at its start.
    fn gap(&mut self, begin: Duration, event: Arrival) {
        let optimum = self.setup.optimum(event.at - begin);
        self.outcome.optimum += optimum;
        self.outcome.arrivals += 1;
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
                    // Advance in any case: a decision to stay until now would repeat forever.
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

/// A strategy and its state.
struct Decider {
    strategy: Strategy,
    predictor: Predictor,
    /// The smoothed gap of `Strategy::Smoothing`, in seconds.
    smoothed: Option<f64>,
}

impl Decider {
    fn new(strategy: Strategy, setup: &InstanceModel) -> Decider {
        Decider { strategy, predictor: Predictor::expecting(&setup.cycle), smoothed: None }
    }

    fn decide(&mut self, begin: Duration, now: Duration, next: Arrival, setup: &InstanceModel) -> Decision {
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

    fn event(&mut self, begin: Duration, event: Arrival) {
        self.predictor.on_event(event.at, if event.is_known() { Trigger::Scheduled } else { Trigger::Unscheduled });
        let gap = (event.at - begin).as_secs_f64();
        self.smoothed = Some(self.smoothed.map_or(gap, |smoothed| smoothed + SMOOTHING * (gap - smoothed)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::activity::BuiltinActivity;
    use crate::activity::builtin::{bursts, periodic, poisson, requeue};

    /// A model in which a resident second costs 1 and a cycle costs 10.
    fn simple() -> InstanceModel {
        let prices =
            Prices { core_second: 0.0, written_byte: 1.0, waiting_second: 0.0, unnoticed_wait: Duration::ZERO };
        InstanceModel {
            prices,
            cycle: Cycle { suspend: Duration::ZERO, resume: Duration::ZERO, written_bytes: 10 },
            resident_bytes: 1,
        }
    }

    /// Models with break-evens of 1, 3, 9, 7, 16, 22 and 4 s. With resumes of 200 ms, a late resume has a cost too.
    fn setups() -> Vec<(&'static str, InstanceModel)> {
        let ms = Duration::from_millis;
        let mut setups: Vec<_> = Profile::ALL.map(|profile| (profile.name(), profile.setup())).into();
        for (name, suspend, resume, written_mib, resident_mib) in
            [("slow cpu", ms(8), ms(8), 1, 2), ("cold and large", ms(400), ms(200), 64, 512)]
        {
            let cycle = Cycle { suspend, resume, written_bytes: written_mib << 20 };
            setups.push((name, InstanceModel { prices: Prices::default(), cycle, resident_bytes: resident_mib << 20 }));
        }
        setups
    }

    fn cost(trace: &ActivityTrace, policy: &str, setup: &InstanceModel) -> f64 {
        simulate(trace, Strategy::Policy(policy.parse().expect("a policy")), setup).cost_vs_optimum()
    }

    fn best_fixed(trace: &ActivityTrace, setup: &InstanceModel) -> f64 {
        let fixed = ["immediate", "after=1s", "after=10s", "after=60s", "never"];
        fixed.map(|policy| cost(trace, policy, setup)).into_iter().fold(f64::INFINITY, f64::min)
    }

    fn trace(text: &str) -> ActivityTrace {
        ActivityTrace::parse(text).expect("a trace")
    }

    #[test]
    fn a_short_trace_costs_as_calculated_by_hand() {
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
    fn an_event_waits_for_the_rest_of_the_suspend_and_for_the_resume() {
        let mut setup = simple();
        setup.cycle.suspend = Duration::from_secs(2);
        setup.cycle.resume = Duration::from_secs(3);
        let outcome = simulate(&trace("0,a\n1,a\n"), Strategy::Policy(Policy::Immediate), &setup);
        assert_eq!(outcome.p95_added_latency(), Duration::from_secs(4));
        let outcome = simulate(&trace("0,a\n10,a\n"), Strategy::Policy(Policy::Immediate), &setup);
        assert_eq!(outcome.p95_added_latency(), Duration::from_secs(3));
    }

    #[test]
    fn adaptive_meets_its_goals_on_the_builtin_traces_with_every_model() {
        for (name, setup) in setups() {
            for (builtin, goal) in [
                (BuiltinActivity::Periodic, 1.15),
                (BuiltinActivity::Requeue, 1.15),
                (BuiltinActivity::Bursts, 1.15),
                (BuiltinActivity::Poisson, 1.6),
                (BuiltinActivity::Diurnal, 1.6),
                (BuiltinActivity::DeployStorm, 1.6),
            ] {
                let trace = builtin.generate(1);
                let (adaptive, best) = (cost(&trace, "adaptive", &setup), best_fixed(&trace, &setup));
                let what = format!("{name}, {}: {adaptive:.3}, best fixed {best:.3}", builtin.name());
                assert!(adaptive <= goal && adaptive <= best * 1.05, "{what}");
            }
        }
    }

    #[test]
    fn adaptive_is_near_the_best_fixed_timeout_at_any_ratio_of_gap_to_break_even() {
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
                // Only the optimum is never late.
                let late = 1.0
                    + setup.prices.wait(setup.cycle.resume) / setup.prices.cycle(&setup.cycle, setup.resident_bytes);
                let what = format!("{name}, {what}: {adaptive:.3}, best fixed {best:.3}");
                assert!(adaptive <= goal * late && adaptive <= best * 1.05, "{what}");
            }
        }
    }

    #[test]
    fn on_cold_storage_instances_are_resumed_early_for_predictable_events() {
        let setup = Profile::Cold.setup();
        let trace = periodic(60.0, 0.3, 1000, 1);
        let adaptive = simulate(&trace, Strategy::Policy(Policy::Adaptive), &setup);
        let immediate = simulate(&trace, Strategy::Policy(Policy::Immediate), &setup);
        assert!(adaptive.cost < immediate.cost * 0.99, "{} {}", adaptive.cost, immediate.cost);
        assert!(adaptive.on_demand_resumes * 4 < immediate.on_demand_resumes, "{}", adaptive.on_demand_resumes);
        // Scheduled events need no history.
        let trace = requeue(&[60.0], 1e9, 60_000.0, 1);
        let adaptive = simulate(&trace, Strategy::Policy(Policy::Adaptive), &setup);
        assert!(adaptive.on_demand_resumes <= 1 && adaptive.resumes > 900, "{adaptive:?}");
    }

    proptest! {
        #[test]
        fn no_strategy_is_cheaper_than_the_optimum(
            gaps in proptest::collection::vec((0u64..200_000, proptest::bool::ANY), 2..60),
            resume in 0u64..500, resident in 1u64..200,
        ) {
            let mut at = Duration::ZERO;
            let events = gaps.iter().map(|(gap, known)| {
                at += Duration::from_millis(*gap);
                Arrival { at, due: known.then_some(at) }
            });
            let trace = ActivityTrace { controllers: [("a".to_owned(), events.collect())].into() };
            let resume = Duration::from_millis(resume);
            let cycle = Cycle { suspend: resume, resume, written_bytes: 100 << 10 };
            let setup = InstanceModel { prices: Prices::default(), cycle, resident_bytes: resident << 20 };
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
