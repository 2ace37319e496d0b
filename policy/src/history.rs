//! A history of the gaps between a controller's events, as a hazard rate.
//!
//! The hazard rate is the probability that a gap ends now, given that it has lasted until now. For each bucket of
//! durations, the history counts the gaps that reached the bucket and those that ended in it, as in the Kaplan-Meier
//! estimator. Compared with a plain histogram this has three advantages:
//!
//! * Each bucket ages only with the gaps that reach it. A thousand short gaps in a burst do not displace the few long
//!   gaps between bursts.
//! * A gap that ends with a known timer still shows that no other event arrived until then.
//! * The expectation after some idle time needs no renormalization.
//!
//! Gaps that follow a short gap are counted separately from those that follow a long one. The former tell how long a
//! burst continues, the latter how often an event is isolated.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};

/// Number of buckets. They cover durations from 10 ms to 8 minutes in steps of √2.
pub const BUCKETS: usize = 32;
/// The upper edge of the first bucket, in seconds.
const FIRST: f64 = 0.01;
/// The counts of a bucket are halved when this many gaps have reached it. So it remembers the last 48 to 96 gaps.
const MAX_REACHED: u8 = 96;

/// The length of the preceding gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrecedingGap {
    /// Shorter than the break-even.
    Short,
    /// At least as long as the break-even.
    #[default]
    Long,
}

/// The hazard rates of one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    after_short: [HazardBucket; BUCKETS],
    after_long: [HazardBucket; BUCKETS],
    /// Number of recorded gaps. It determines the rounding direction.
    turn: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HazardBucket {
    /// Gaps that lasted until the bucket's lower edge. Less than `MAX_REACHED`.
    reached: u8,
    /// The gaps of `reached` that ended in the bucket.
    ended: u8,
}

/// The upper edges of the buckets, in seconds.
const EDGES: [f64; BUCKETS] = {
    let mut edges = [FIRST; BUCKETS];
    let mut bucket = 1;
    while bucket < BUCKETS {
        edges[bucket] = if bucket == 1 { FIRST * SQRT_2 } else { edges[bucket - 2] * 2.0 };
        bucket += 1;
    }
    edges
};

/// Returns the upper edge of a bucket, in seconds.
pub fn upper_edge(bucket: usize) -> f64 {
    EDGES[bucket]
}

/// Returns the bucket of a duration in seconds, or `BUCKETS` if the duration is above the last edge.
pub fn bucket_of(seconds: f64) -> usize {
    EDGES.partition_point(|edge| *edge <= seconds)
}

impl History {
    /// Records a gap. `by_event` says whether an unscheduled event ended it.
    pub fn record(&mut self, preceding: PrecedingGap, seconds: f64, by_event: bool) {
        self.turn = self.turn.wrapping_add(1);
        // A pseudo-random direction: alternating would correlate with the period of the halving.
        let round_up = self.turn.wrapping_mul(40_503) >> 15 == 1;
        let table = match preceding {
            PrecedingGap::Short => &mut self.after_short,
            PrecedingGap::Long => &mut self.after_long,
        };
        let last = bucket_of(seconds);
        table.iter_mut().take(last).for_each(|bucket| bucket.count(false, round_up));
        if let Some(bucket) = table.get_mut(last).filter(|_| by_event) {
            bucket.count(true, round_up);
        }
    }

    /// Returns the probability that a gap that reaches a bucket ends in it, and the number of observed gaps.
    pub fn hazard(&self, preceding: PrecedingGap, bucket: usize) -> (f64, f64) {
        let table = match preceding {
            PrecedingGap::Short => &self.after_short,
            PrecedingGap::Long => &self.after_long,
        };
        let HazardBucket { reached, ended } = table[bucket];
        (f64::from(ended) / f64::from(reached.max(1)), f64::from(reached))
    }
}

impl HazardBucket {
    fn count(&mut self, ended: bool, round_up: bool) {
        self.reached += 1;
        self.ended += u8::from(ended);
        if self.reached == MAX_REACHED {
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
    fn a_gap_ended_by_a_timer_counts_as_reached_only() {
        let mut history = History::default();
        history.record(PrecedingGap::Long, 5.0, false);
        assert_eq!(history.hazard(PrecedingGap::Long, bucket_of(1.0)), (0.0, 1.0));
        assert_eq!(history.hazard(PrecedingGap::Long, bucket_of(5.0)), (0.0, 0.0));
        history.record(PrecedingGap::Long, 5.0, true);
        assert_eq!(history.hazard(PrecedingGap::Long, bucket_of(5.0)), (1.0, 1.0));
        assert_eq!(history.hazard(PrecedingGap::Short, bucket_of(1.0)).1, 0.0);
    }

    #[test]
    fn many_short_gaps_do_not_displace_a_long_one() {
        let mut history = History::default();
        history.record(PrecedingGap::Long, 60.0, true);
        for _ in 0..10_000 {
            history.record(PrecedingGap::Long, 0.05, true);
        }
        assert_eq!(history.hazard(PrecedingGap::Long, bucket_of(60.0)), (1.0, 1.0));
    }

    #[test]
    fn aging_preserves_the_rate_of_rare_endings() {
        let mut history = History::default();
        let mut sum = 0.0;
        let rounds = 40_000;
        for n in 0..rounds {
            history.record(PrecedingGap::Long, if n % 50 == 0 { 0.015 } else { 10.0 }, true);
            sum += history.hazard(PrecedingGap::Long, bucket_of(0.015)).0;
        }
        let mean = sum / f64::from(rounds);
        assert!((0.015..0.025).contains(&mean), "{mean}");
    }

    #[test]
    fn a_new_rhythm_replaces_the_old_one_within_100_gaps() {
        let mut history = History::default();
        for _ in 0..1000 {
            history.record(PrecedingGap::Long, 0.5, true);
        }
        for _ in 0..100 {
            history.record(PrecedingGap::Long, 20.0, true);
        }
        assert!(history.hazard(PrecedingGap::Long, bucket_of(0.5)).0 < 0.3);
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
                history.record(PrecedingGap::Short, gap, by_event);
                for bucket in 0..BUCKETS {
                    let (hazard, _) = history.hazard(PrecedingGap::Short, bucket);
                    prop_assert!((0.0..=1.0).contains(&hazard));
                }
            }
        }
    }
}
