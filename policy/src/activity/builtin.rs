//! Synthetic activity traces. Each models a typical behavior of controllers.
//!
//! A seed generates the same trace on every machine.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use super::{ActivityTrace, Arrival};
use crate::random::Random;

/// A generator of an activity trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltinActivity {
    /// One controller whose objects change every 5.20 s with a standard deviation of 0.61 s, as measured for the
    /// Percona operator.
    Periodic,
    /// Controllers that requeue every 2, 10 and 60 s, each with an external change every few minutes.
    Requeue,
    /// Poisson processes with mean gaps of 0.5, 2, 10 and 60 s.
    Poisson,
    /// Bursts of about 20 changes with 30 to 90 s between bursts. Within a burst, changes are 20 ms apart on average,
    /// because kube-scheduler sends up to 50 requests per second.
    Bursts,
    /// Five days with a change every 2 s at noon and every 15 minutes at midnight.
    Diurnal,
    /// A change every 90 s on average, and a rollout of about 150 changes, 10 to 500 ms apart, every 15 minutes.
    DeployStorm,
}

impl BuiltinActivity {
    /// All generators.
    pub const ALL: [BuiltinActivity; 6] = [
        BuiltinActivity::Periodic,
        BuiltinActivity::Requeue,
        BuiltinActivity::Poisson,
        BuiltinActivity::Bursts,
        BuiltinActivity::Diurnal,
        BuiltinActivity::DeployStorm,
    ];

    /// Returns the name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            BuiltinActivity::Periodic => "periodic",
            BuiltinActivity::Requeue => "requeue",
            BuiltinActivity::Poisson => "poisson",
            BuiltinActivity::Bursts => "bursts",
            BuiltinActivity::Diurnal => "diurnal",
            BuiltinActivity::DeployStorm => "deploy-storm",
        }
    }

    /// The former name of [`BuiltinActivity::generate`].
    /// Generates the trace of a seed.
    pub fn generate(self, seed: u64) -> ActivityTrace {
        match self {
            BuiltinActivity::Periodic => periodic(5.20, 0.61, 5000, seed),
            BuiltinActivity::Requeue => requeue(&[2.0, 10.0, 60.0], 200.0, 6.0 * HOUR, seed),
            BuiltinActivity::Poisson => poisson(&[0.5, 2.0, 10.0, 60.0], 2000, seed),
            BuiltinActivity::Bursts => bursts(20.0, 0.02, 60.0, 12.0 * HOUR, seed),
            BuiltinActivity::Diurnal => diurnal(2.0, 900.0, seed),
            BuiltinActivity::DeployStorm => deploy_storm(90.0, 900.0, 150.0, 24.0 * HOUR, seed),
        }
    }
}

const HOUR: f64 = 3600.0;

/// `count` changes of one controller with normally distributed gaps, in seconds.
pub(crate) fn periodic(mean: f64, deviation: f64, count: usize, seed: u64) -> ActivityTrace {
    let mut random = Random::new(seed);
    one("periodic", unscheduled(count, || random.normal(mean, deviation).max(mean / 100.0)))
}

/// A controller for each requeue interval. Each has an external change every `outside` seconds on average.
pub(crate) fn requeue(intervals: &[f64], outside: f64, length: f64, seed: u64) -> ActivityTrace {
    let controllers = intervals.iter().enumerate().map(|(n, interval)| {
        let mut random = Random::new(seed.wrapping_add(n as u64));
        let mut events = Vec::new();
        let (mut at, mut change) = (0.0, random.exponential(outside));
        while at < length {
            // An external change replaces the pending requeue, and its reconcile requeues again.
            let due = at + interval + random.exponential(0.01);
            at = due.min(change);
            events.push(Arrival { due: Some(Duration::from_secs_f64(due)), ..arrival(at) });
            if at == change {
                change += random.exponential(outside);
            }
        }
        (format!("requeue-{interval}s"), events)
    });
    ActivityTrace { controllers: controllers.collect() }
}

/// A controller for each mean gap in seconds, with `count` changes.
pub(crate) fn poisson(means: &[f64], count: usize, seed: u64) -> ActivityTrace {
    let controllers = means.iter().enumerate().map(|(n, mean)| {
        let mut random = Random::new(seed.wrapping_add(n as u64));
        (format!("poisson-{mean}s"), unscheduled(count, || random.exponential(*mean)))
    });
    ActivityTrace { controllers: controllers.collect() }
}

/// Bursts of `size` changes, `apart` seconds apart, with `pause` seconds between bursts, all on average.
///
/// Gaps within a burst are exponentially distributed, and pauses uniformly between 0.5 and 1.5 times `pause`.
pub(crate) fn bursts(size: f64, apart: f64, pause: f64, length: f64, seed: u64) -> ActivityTrace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < length {
        events.push(arrival(at));
        at += match random.unit() < 1.0 / size {
            true => pause * (0.5 + random.unit()),
            false => random.exponential(apart),
        };
    }
    one("bursts", events)
}

/// Five days with a rate that follows a sine. `noon` and `midnight` are the mean gaps at these times, in seconds.
fn diurnal(noon: f64, midnight: f64, seed: u64) -> ActivityTrace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < 120.0 * HOUR {
        // Thinning (Lewis, Shedler 1979): generate changes at the rate of noon and keep a share of them.
        at += random.exponential(noon);
        let day = (1.0 - (TAU * at / (24.0 * HOUR)).cos()) / 2.0;
        let share = noon / midnight + (1.0 - noon / midnight) * day.powi(3);
        if random.unit() < share {
            events.push(arrival(at));
        }
    }
    one("diurnal", events)
}

/// A change every `quiet` seconds, and a rollout of about `size` changes every `between` seconds, on average.
fn deploy_storm(quiet: f64, between: f64, size: f64, length: f64, seed: u64) -> ActivityTrace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < length {
        at += random.exponential(quiet);
        events.push(arrival(at));
        if random.unit() < quiet / between {
            let changes = size * (0.5 + random.unit());
            for _ in 0..changes as usize {
                // Between 10 and 500 ms, uniform in the logarithm.
                at += 0.01 * 50f64.powf(random.unit());
                events.push(arrival(at));
            }
        }
    }
    one("deploy-storm", events)
}

fn unscheduled(count: usize, mut gap: impl FnMut() -> f64) -> Vec<Arrival> {
    let mut at = 0.0;
    let mut next = || {
        at += gap();
        arrival(at)
    };
    (0..count).map(|_| next()).collect()
}

fn arrival(at: f64) -> Arrival {
    Arrival { at: Duration::from_secs_f64(at), due: None }
}

fn one(name: &str, events: Vec<Arrival>) -> ActivityTrace {
    ActivityTrace { controllers: BTreeMap::from([(name.to_owned(), events)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(trace: &ActivityTrace) -> Vec<f64> {
        let events = trace.controllers.values().next().expect("one");
        events.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
    }

    #[test]
    fn the_periodic_trace_has_the_documented_mean_and_deviation() {
        let gaps = gaps(&BuiltinActivity::Periodic.generate(1));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 5.20).abs() < 0.03 && (variance.sqrt() - 0.61).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn a_seed_determines_the_trace_and_arrivals_are_sorted() {
        for builtin in BuiltinActivity::ALL {
            let trace = builtin.generate(7);
            assert_eq!(trace, builtin.generate(7));
            assert_ne!(trace, builtin.generate(8));
            for events in trace.controllers.values() {
                assert!(events.len() > 100 && events.is_sorted_by_key(|event| event.at), "{}", builtin.name());
            }
        }
    }

    #[test]
    fn requeues_are_known_in_advance_and_external_changes_are_not() {
        let trace = BuiltinActivity::Requeue.generate(1);
        let events = &trace.controllers["requeue-10s"];
        let known = events.iter().filter(|event| event.is_known()).count();
        assert!(known > events.len() * 9 / 10 && known < events.len());
    }
}
