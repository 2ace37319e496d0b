//! A token bucket: a long-term rate in units a second, and a burst after a pause.
//!
//! Its state is one time, the moment at which the bucket is full again, as in the generic cell rate algorithm. An
//! unused bucket costs nothing.

use std::time::Duration;

/// Fill rate and capacity of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second, at least 1.
    pub per_second: u64,
    /// Capacity in units.
    pub burst: u64,
}

impl Rate {
    /// Time in which `units` are added.
    fn time(&self, units: u64) -> Duration {
        let ns = u128::from(units) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

/// A bucket, full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When the bucket is full if nothing more is taken.
    full_at: Duration,
}

impl Bucket {
    /// Takes `units` even if the bucket has fewer: it is then in debt.
    pub fn take(&mut self, rate: Rate, units: u64, now: Duration) {
        self.full_at = self.full_at.max(now).saturating_add(rate.time(units));
    }

    /// Takes `units` if the bucket has them. A full bucket grants any number.
    pub fn try_take(&mut self, rate: Rate, units: u64, now: Duration) -> bool {
        let has = self.ready_at(rate, units) <= now;
        if has {
            self.take(rate, units, now);
        }
        has
    }

    /// When the bucket has `units`.
    pub fn ready_at(&self, rate: Rate, units: u64) -> Duration {
        self.full_at.saturating_sub(rate.time(rate.burst.saturating_sub(units)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_each_tenth_of_a_second() {
        let mut bucket = Bucket::default();
        let passes: Vec<bool> = (0..7).map(|_| bucket.try_take(RATE, 1, ms(1000))).collect();
        assert_eq!(passes, [true, true, true, true, true, false, false]);
        assert_eq!(bucket.ready_at(RATE, 1), ms(1100));
        for (at, passes) in [(1099, false), (1100, true), (1150, false), (1200, true), (1201, false)] {
            assert_eq!(bucket.try_take(RATE, 1, ms(at)), passes, "at {at}");
        }
        let passes = (0..7).filter(|_| bucket.try_take(RATE, 1, ms(60_000))).count();
        assert_eq!(passes, 5, "a rest gives a burst, no more");
    }

    #[test]
    fn a_debt_is_paid_before_more_is_granted() {
        let mut bucket = Bucket::default();
        bucket.take(RATE, 15, ms(0));
        for (units, ready) in [(0, 1000), (1, 1100), (5, 1500), (9, 1500)] {
            assert_eq!(bucket.ready_at(RATE, units), ms(ready), "{units} units");
        }
        assert!(
            !bucket.try_take(RATE, 9, ms(1499)) && bucket.try_take(RATE, 9, ms(1500)),
            "a full one gives any number"
        );
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let rate = Rate { per_second: u64::MAX, burst: u64::MAX };
        let mut bucket = Bucket::default();
        assert!((0..1000).all(|_| bucket.try_take(rate, 1 << 40, Duration::ZERO)));
    }

    proptest! {
        /// In any interval no more passes than a burst plus what was added in that interval.
        #[test]
        fn no_more_passes_than_the_rate_allows(
            per_second in 1u64..1000,
            burst in 1u64..100,
            gaps in prop::collection::vec(0u64..50, 1..300),
        ) {
            let rate = Rate { per_second, burst };
            let (mut bucket, mut now, mut passed) = (Bucket::default(), Duration::ZERO, Vec::new());
            for gap in gaps {
                now += ms(gap);
                if bucket.try_take(rate, 1, now) {
                    passed.push(now);
                }
            }
            for (i, first) in passed.iter().enumerate() {
                for (j, last) in passed.iter().enumerate().skip(i) {
                    let most = burst as f64 + per_second as f64 * (*last - *first).as_secs_f64();
                    // Times of units are rounded down to a nanosecond.
                    prop_assert!((j - i + 1) as f64 <= most + 1e-3, "{} in {:?}", j - i + 1, *last - *first);
                }
            }
        }
    }
}
