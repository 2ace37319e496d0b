//! Computes how long an idle instance stays resident, by optimal stopping over the history of gaps.
//!
//! Time and cost are both in seconds: one second of the instance's memory costs 1. The computation is a backward
//! induction over the buckets, from the longest durations. The cost of being resident at the start of a bucket is the
//! lower of two: the cost of suspending there, and the cost of staying through the bucket. After the bucket, either the
//! event has arrived or the instance is at the start of the next bucket.
//!
//! The history knows few gaps at first, and always few of the longest ones. Therefore every bucket starts with a prior
//! that yields the ski-rental solution: up to the break-even, staying is slightly cheaper; beyond it, suspending is. A
//! controller without history is thus suspended at the break-even. This costs at most twice as much as an oracle would
//! pay (Karlin et al. 1988). Observed gaps then override the prior.

use crate::history::{BUCKETS, History, PrecedingGap, bucket_of, upper_edge};

/// The prior counts as this many observed gaps.
const PRIOR_WEIGHT: f64 = 1.0;
/// The factor by which the prior favors staying, before the break-even.
const PRIOR_MARGIN: f64 = 1.1;

/// The inputs of a decision. All values are in seconds; see the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Idle time so far.
    pub elapsed: f64,
    /// The gap above which suspending is cheaper if the gap is known in advance.
    pub break_even: f64,
    /// The cost of suspending if the next event is unknown. At least the break-even.
    pub suspending: f64,
    /// The time of the next known event, measured like `elapsed`.
    pub known: Option<f64>,
}

/// The optimal stopping time and its cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// The idle time at which to suspend. At most the next known event or the longest bucket.
    pub suspend_at: f64,
    /// The expected cost until the next event.
    pub value: f64,
}

/// Computes the optimal stopping time.
pub fn best(history: &History, preceding: PrecedingGap, terms: Terms) -> Stopping {
    let Terms { elapsed, break_even, suspending, known } = terms;
    let horizon = known.unwrap_or(f64::INFINITY);
    let longest = upper_edge(BUCKETS - 1);
    // Beyond the longest bucket: until the next event if it is known, else until the break-even.
    let beyond = longest.max(elapsed);
    let (mut suspend_at, mut value) = match known {
        Some(known) if known <= longest => (known, 0.0),
        Some(known) if known - beyond < suspending => (known, known - beyond),
        None if break_even > beyond => (break_even, suspending),
        _ => (beyond, suspending),
    };
    let first = bucket_of(elapsed);
    for bucket in (first..BUCKETS).rev() {
        let begin = if bucket == 0 { 0.0 } else { upper_edge(bucket - 1) };
        let end = upper_edge(bucket);
        if begin >= horizon {
            continue;
        }
        let ends_known = end >= horizon;
        let from = begin.max(elapsed);
        let hazard = hazard(history, preceding, bucket, begin, end, break_even);
        let (length, hazard) = part(hazard, begin, end, from, end.min(horizon));
        let next = if ends_known { 0.0 } else { value };
        let staying = length * (1.0 - hazard / 2.0) + (1.0 - hazard) * next;
        if staying < suspending {
            if ends_known {
                suspend_at = horizon;
            }
            value = staying;
        } else {
            suspend_at = from;
            value = suspending;
        }
    }
    Stopping { suspend_at, value }
}

/// Returns the probability that a gap that reaches a bucket ends in it, from the observations and the prior.
fn hazard(history: &History, preceding: PrecedingGap, bucket: usize, begin: f64, end: f64, break_even: f64) -> f64 {
    let (observed, weight) = history.hazard(preceding, bucket);
    // With this hazard, staying through the bucket and then suspending costs as much as suspending before it.
    let even = (end - begin) / (break_even + (end - begin) / 2.0);
    // The midpoint decides on which side of the break-even a bucket is.
    let prior = if (begin + end) / 2.0 <= break_even { (even * PRIOR_MARGIN).min(1.0) } else { 0.0 };
    (observed * weight + prior * PRIOR_WEIGHT) / (weight + PRIOR_WEIGHT)
}

/// Returns the length of a part of a bucket, and the probability that a gap that lasted until `from` ends in this part.
///
/// Gaps are assumed to end uniformly within a bucket.
fn part(hazard: f64, begin: f64, end: f64, from: f64, to: f64) -> (f64, f64) {
    let width = end - begin;
    let before = hazard * (from - begin) / width;
    let within = hazard * (to - from) / width;
    (to - from, (within / (1.0 - before).max(f64::EPSILON)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(break_even: f64) -> Terms {
        Terms { elapsed: 0.0, break_even, suspending: break_even, known: None }
    }

    fn after(gaps: &[f64]) -> History {
        let mut history = History::default();
        gaps.iter().for_each(|gap| history.record(PrecedingGap::Long, *gap, true));
        history
    }

    #[test]
    fn without_history_the_instance_stays_for_about_the_break_even() {
        for break_even in [0.05, 0.3, 1.0, 7.0, 60.0, 300.0, 5000.0] {
            let stopping = best(&History::default(), PrecedingGap::Long, terms(break_even));
            let ratio = stopping.suspend_at / break_even;
            assert!((0.7..1.4).contains(&ratio), "{break_even}: {stopping:?}");
        }
    }

    #[test]
    fn after_long_gaps_the_instance_is_suspended_at_once() {
        let history = after(&[5.0, 5.3, 4.8]);
        assert_eq!(best(&history, PrecedingGap::Long, terms(1.0)).suspend_at, 0.0);
    }

    #[test]
    fn the_instance_stays_through_gaps_shorter_than_the_break_even() {
        let history = after(&[5.0; 30]);
        let stopping = best(&history, PrecedingGap::Long, terms(20.0));
        // A gap longer than all observed ones is like a gap without history.
        assert!((5.0..25.0).contains(&stopping.suspend_at), "{stopping:?}");
        assert!((4.0..6.0).contains(&stopping.value), "{stopping:?}");
    }

    #[test]
    fn with_short_and_long_gaps_the_instance_stays_through_the_short_ones_only() {
        let gaps: Vec<f64> = (0..60).map(|n| if n % 2 == 0 { 0.1 } else { 30.0 }).collect();
        let history = after(&gaps);
        let stopping = best(&history, PrecedingGap::Long, terms(1.0));
        assert!((0.1..0.2).contains(&stopping.suspend_at), "{stopping:?}");
        let later = Terms { elapsed: 0.2, ..terms(1.0) };
        assert_eq!(best(&history, PrecedingGap::Long, later).suspend_at, 0.2);
    }

    #[test]
    fn the_instance_stays_for_a_known_event_before_the_break_even() {
        let history = after(&[100.0; 30]);
        for (known, stays) in [(0.5, true), (0.9, true), (1.2, false), (100.0, false), (1000.0, false)] {
            let stopping = best(&history, PrecedingGap::Long, Terms { known: Some(known), ..terms(1.0) });
            assert_eq!(stopping.suspend_at, if stays { known } else { 0.0 }, "{known}");
        }
    }
}
