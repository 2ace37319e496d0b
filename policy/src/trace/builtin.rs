//! Traces made up from what controllers are known to do. The same for a seed on every machine.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use super::{Event, Trace};
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// One controller whose objects change every 5.20 s, with a standard deviation of 0.61 s: what was
    /// measured of the Percona operator.
    Periodic,
    /// Controllers that requeue every 2, 10 and 60 s, each with a change from outside every few minutes.
    Requeue,
    /// Changes without any memory, on average every 0.5, 2, 10 and 60 s.
    Poisson,
    /// Bursts of about 20 changes, on average 20 ms apart (kube-scheduler may send 50 requests a
    /// second), with half a minute to one and a half between bursts.
    Bursts,
    /// A day with a change every other second at noon and every quarter of an hour at midnight.
    Diurnal,
    /// A change every minute or two, and a rollout of 150 changes, 10 to 500 ms apart, about every
    /// quarter of an hour.
    DeployStorm,
}

impl Builtin {
    pub const ALL: [Builtin; 6] = [
        Builtin::Periodic,
        Builtin::Requeue,
        Builtin::Poisson,
        Builtin::Bursts,
        Builtin::Diurnal,
        Builtin::DeployStorm,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Builtin::Periodic => "periodic",
            Builtin::Requeue => "requeue",
            Builtin::Poisson => "poisson",
            Builtin::Bursts => "bursts",
            Builtin::Diurnal => "diurnal",
            Builtin::DeployStorm => "deploy-storm",
        }
    }

    pub fn trace(self, seed: u64) -> Trace {
        match self {
            Builtin::Periodic => periodic(5.20, 0.61, 5000, seed),
            Builtin::Requeue => requeue(&[2.0, 10.0, 60.0], 200.0, 6.0 * HOUR, seed),
            Builtin::Poisson => poisson(&[0.5, 2.0, 10.0, 60.0], 2000, seed),
            Builtin::Bursts => bursts(20.0, 0.02, 60.0, 12.0 * HOUR, seed),
            Builtin::Diurnal => diurnal(2.0, 900.0, seed),
            Builtin::DeployStorm => deploy_storm(90.0, 900.0, 150.0, 24.0 * HOUR, seed),
        }
    }
}

const HOUR: f64 = 3600.0;

/// `count` changes of one controller, `mean` seconds apart, with a normal jitter.
pub(crate) fn periodic(mean: f64, deviation: f64, count: usize, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    one("periodic", unforeseen(count, || random.normal(mean, deviation).max(mean / 100.0)))
}

/// A controller for each interval, which requeues itself, and is given something every `outside` seconds.
pub(crate) fn requeue(intervals: &[f64], outside: f64, length: f64, seed: u64) -> Trace {
    let controllers = intervals.iter().enumerate().map(|(n, interval)| {
        let mut random = Random::new(seed.wrapping_add(n as u64));
        let mut events = Vec::new();
        let (mut at, mut change) = (0.0, random.exponential(outside));
        while at < length {
            // A change replaces a pending requeue, and its reconcile requeues again.
            let due = at + interval + random.exponential(0.01);
            at = due.min(change);
            events.push(Event { due: Some(Duration::from_secs_f64(due)), ..event(at) });
            if at == change {
                change += random.exponential(outside);
            }
        }
        (format!("requeue-{interval}s"), events)
    });
    Trace { controllers: controllers.collect() }
}

/// A controller for each mean gap, with `count` changes.
pub(crate) fn poisson(means: &[f64], count: usize, seed: u64) -> Trace {
    let controllers = means.iter().enumerate().map(|(n, mean)| {
        let mut random = Random::new(seed.wrapping_add(n as u64));
        (format!("poisson-{mean}s"), unforeseen(count, || random.exponential(*mean)))
    });
    Trace { controllers: controllers.collect() }
}

/// Bursts of `size` changes, `apart` seconds apart, with `pause` seconds between bursts; all on
/// average. Within a burst there is no memory; pauses are even from half to one and a half.
pub(crate) fn bursts(size: f64, apart: f64, pause: f64, length: f64, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < length {
        events.push(event(at));
        at += match random.unit() < 1.0 / size {
            true => pause * (0.5 + random.unit()),
            false => random.exponential(apart),
        };
    }
    one("bursts", events)
}

/// Five days; `noon` and `midnight` are the mean gaps then, between them the rate follows a sine.
fn diurnal(noon: f64, midnight: f64, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < 120.0 * HOUR {
        // Changes at noon's rate, of which only a share happens (Lewis, Shedler 1979).
        at += random.exponential(noon);
        let day = (1.0 - (TAU * at / (24.0 * HOUR)).cos()) / 2.0;
        let share = noon / midnight + (1.0 - noon / midnight) * day.powi(3);
        if random.unit() < share {
            events.push(event(at));
        }
    }
    one("diurnal", events)
}

/// A change every `quiet` seconds, and every `between` seconds a rollout with about `size` changes.
fn deploy_storm(quiet: f64, between: f64, size: f64, length: f64, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut events = Vec::new();
    let mut at = 0.0;
    while at < length {
        at += random.exponential(quiet);
        events.push(event(at));
        if random.unit() < quiet / between {
            let changes = size * (0.5 + random.unit());
            for _ in 0..changes as usize {
                // Between 10 and 500 ms, evenly in the logarithm.
                at += 0.01 * 50f64.powf(random.unit());
                events.push(event(at));
            }
        }
    }
    one("deploy-storm", events)
}

fn unforeseen(count: usize, mut gap: impl FnMut() -> f64) -> Vec<Event> {
    let mut at = 0.0;
    let mut next = || {
        at += gap();
        event(at)
    };
    (0..count).map(|_| next()).collect()
}

fn event(at: f64) -> Event {
    Event { at: Duration::from_secs_f64(at), due: None }
}

fn one(name: &str, events: Vec<Event>) -> Trace {
    Trace { controllers: BTreeMap::from([(name.to_owned(), events)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(trace: &Trace) -> Vec<f64> {
        let events = trace.controllers.values().next().expect("one");
        events.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
    }

    #[test]
    fn the_periodic_trace_has_the_mean_and_the_deviation_it_says() {
        let gaps = gaps(&Builtin::Periodic.trace(1));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 5.20).abs() < 0.03 && (variance.sqrt() - 0.61).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn a_trace_is_the_same_for_a_seed_and_its_events_are_in_order() {
        for builtin in Builtin::ALL {
            let trace = builtin.trace(7);
            assert_eq!(trace, builtin.trace(7));
            assert_ne!(trace, builtin.trace(8));
            for events in trace.controllers.values() {
                assert!(events.len() > 100 && events.is_sorted_by_key(|event| event.at), "{}", builtin.name());
            }
        }
    }

    #[test]
    fn requeues_are_known_and_changes_are_not() {
        let trace = Builtin::Requeue.trace(1);
        let events = &trace.controllers["requeue-10s"];
        let known = events.iter().filter(|event| event.is_known()).count();
        assert!(known > events.len() * 9 / 10 && known < events.len());
    }
}
