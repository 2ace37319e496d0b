//! The gaps between a controller's events, as the chance that a gap which has lasted so long ends
//! now (a hazard rate, the way Kaplan and Meier estimate it).
//!
//! Per bucket of durations it counts how many gaps lasted until its beginning and how many of these
//! ended in it. That has three uses a plain histogram has not:
//!
//! * Each bucket ages by the gaps that reach it. A thousand short gaps in a burst do not wear out
//!   what is known about the long ones between bursts.
//! * A gap that was ended by a timer the host knew about still says that no event came until then.
//! * What to expect after some idle time is read off without renormalising.
//!
//! Gaps after a short gap and gaps after a long one are kept apart: the former tell how long a burst
//! goes on, the latter whether an event comes alone.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};

/// Durations of 10 ms to 8 min, in steps of √2.
pub const BUCKETS: usize = 32;
/// Upper edge of the first bucket, seconds.
const FIRST: f64 = 0.01;
/// A bucket that so many gaps have reached is halved: it remembers the last 48 to 96.
const AGEING: u8 = 96;

/// What came before a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Before {
    /// A gap that was not worth suspending for.
    Short,
    #[default]
    Long,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    after_short: [Bucket; BUCKETS],
    after_long: [Bucket; BUCKETS],
    /// Counts what was recorded, for rounding.
    turn: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    /// Gaps that lasted until its beginning. Below `AGEING`.
    reached: u8,
    /// Of these, those that ended in it.
    ended: u8,
}

/// The upper edges of the buckets, seconds.
const EDGES: [f64; BUCKETS] = {
    let mut edges = [FIRST; BUCKETS];
    let mut bucket = 1;
    while bucket < BUCKETS {
        edges[bucket] = if bucket == 1 { FIRST * SQRT_2 } else { edges[bucket - 2] * 2.0 };
        bucket += 1;
    }
    edges
};

/// The upper edge of a bucket, seconds.
pub fn upper_edge(bucket: usize) -> f64 {
    EDGES[bucket]
}

/// The bucket of a duration in seconds; `BUCKETS` if it is longer than all.
pub fn bucket_of(seconds: f64) -> usize {
    EDGES.partition_point(|edge| *edge <= seconds)
}

impl History {
    /// A gap of so many seconds. `by_event`: it was an event that could not be foreseen that ended it.
    pub fn record(&mut self, before: Before, seconds: f64, by_event: bool) {
        self.turn = self.turn.wrapping_add(1);
        // Rounding up and down alternately would go with the halving's own period.
        let round_up = self.turn.wrapping_mul(40_503) >> 15 == 1;
        let table = match before {
            Before::Short => &mut self.after_short,
            Before::Long => &mut self.after_long,
        };
        let last = bucket_of(seconds);
        table.iter_mut().take(last).for_each(|bucket| bucket.count(false, round_up));
        if let Some(bucket) = table.get_mut(last).filter(|_| by_event) {
            bucket.count(true, round_up);
        }
    }

    /// The chance that a gap which has reached this bucket ends in it, with how many gaps that is
    /// known from.
    pub fn hazard(&self, before: Before, bucket: usize) -> (f64, f64) {
        let table = match before {
            Before::Short => &self.after_short,
            Before::Long => &self.after_long,
        };
        let Bucket { reached, ended } = table[bucket];
        (f64::from(ended) / f64::from(reached.max(1)), f64::from(reached))
    }
}

impl Bucket {
    fn count(&mut self, ended: bool, round_up: bool) {
        self.reached += 1;
        self.ended += u8::from(ended);
        if self.reached == AGEING {
            self.reached /= 2;
            self.ended = (self.ended + u8::from(round_up)) / 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_that_a_timer_ended_tells_only_that_nothing_came_before() {
        let mut history = History::default();
        history.record(Before::Long, 5.0, false);
        assert_eq!(history.hazard(Before::Long, bucket_of(1.0)), (0.0, 1.0));
        assert_eq!(history.hazard(Before::Long, bucket_of(5.0)), (0.0, 0.0));
        history.record(Before::Long, 5.0, true);
        assert_eq!(history.hazard(Before::Long, bucket_of(5.0)), (1.0, 1.0));
        assert_eq!(history.hazard(Before::Short, bucket_of(1.0)).1, 0.0);
    }

    #[test]
    fn many_short_gaps_do_not_wear_out_a_long_one() {
        let mut history = History::default();
        history.record(Before::Long, 60.0, true);
        for _ in 0..10_000 {
            history.record(Before::Long, 0.05, true);
        }
        assert_eq!(history.hazard(Before::Long, bucket_of(60.0)), (1.0, 1.0));
    }

    #[test]
    fn a_rare_ending_is_neither_lost_nor_inflated_by_ageing() {
        let mut history = History::default();
        let mut sum = 0.0;
        let rounds = 40_000;
        for n in 0..rounds {
            history.record(Before::Long, if n % 50 == 0 { 0.015 } else { 10.0 }, true);
            sum += history.hazard(Before::Long, bucket_of(0.015)).0;
        }
        let mean = sum / f64::from(rounds);
        assert!((0.015..0.025).contains(&mean), "{mean}");
    }

    #[test]
    fn another_rhythm_replaces_the_old_one_within_a_hundred_gaps() {
        let mut history = History::default();
        for _ in 0..1000 {
            history.record(Before::Long, 0.5, true);
        }
        for _ in 0..100 {
            history.record(Before::Long, 20.0, true);
        }
        assert!(history.hazard(Before::Long, bucket_of(0.5)).0 < 0.3);
    }

    proptest! {
        #[test]
        fn a_duration_is_within_its_bucket(seconds in 0.0..1000.0f64) {
            let bucket = bucket_of(seconds);
            prop_assert!(bucket == BUCKETS || seconds < upper_edge(bucket));
            prop_assert!(bucket == 0 || seconds >= upper_edge(bucket - 1));
        }

        #[test]
        fn a_hazard_is_a_probability(gaps in proptest::collection::vec((0.0..600.0f64, any::<bool>()), 0..400)) {
            let mut history = History::default();
            for (gap, by_event) in gaps {
                history.record(Before::Short, gap, by_event);
                for bucket in 0..BUCKETS {
                    let (hazard, _) = history.hazard(Before::Short, bucket);
                    prop_assert!((0.0..=1.0).contains(&hazard));
                }
            }
        }
    }
}
