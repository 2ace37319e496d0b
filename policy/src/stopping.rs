//! How long an idle instance stays resident: optimal stopping over the history of gaps.
//!
//! Time is in seconds and so is cost: one second of the instance's memory costs 1. From the longest
//! durations backwards, the value of being resident at the beginning of a bucket is the cheaper of
//! suspending there and of paying for the bucket, after which either the event has come or one is
//! at the beginning of the next.
//!
//! Few gaps are known at first, and of the longest ones there are always few. Therefore every
//! bucket starts with a guess that makes the answer the one of ski rental: up to the break-even,
//! staying is just worth it; beyond, it is not. An instance nothing is known about is thus
//! suspended at the break-even, which costs at most twice of what an oracle would pay (Karlin et
//! al. 1988), and what is learnt moves it from there.

use crate::history::{BUCKETS, Before, History, bucket_of, upper_edge};

/// How many observed gaps the guess counts as.
const GUESS_WEIGHT: f64 = 1.0;
/// By how much the guess favours staying, before the break-even.
const GUESS_MARGIN: f64 = 1.1;

/// What a decision is about. Seconds, see above.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long it has been idle.
    pub elapsed: f64,
    /// Gap from which on suspending is the cheaper choice for one who knows it.
    pub break_even: f64,
    /// What suspending costs when the next event is not known: at least the break-even.
    pub suspending: f64,
    /// When, counted from the same moment as `elapsed`, it certainly has something to do.
    pub known: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// Suspend when it has been idle for so long. Not beyond what is known or remembered.
    pub suspend_at: f64,
    /// Expected cost until the next event, of the best choice.
    pub value: f64,
}

pub fn best(history: &History, before: Before, terms: Terms) -> Stopping {
    let Terms { elapsed, break_even, suspending, known } = terms;
    let horizon = known.unwrap_or(f64::INFINITY);
    let longest = upper_edge(BUCKETS - 1);
    // Beyond what is remembered: until the next event if that is known, else until the break-even.
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
        let hazard = hazard(history, before, bucket, begin, end, break_even);
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

/// The chance that a gap ends in a bucket it has reached: what was observed, and the guess.
fn hazard(history: &History, before: Before, bucket: usize, begin: f64, end: f64, break_even: f64) -> f64 {
    let (observed, weight) = history.hazard(before, bucket);
    // With this hazard, staying for a bucket and then suspending costs as much as suspending before it.
    let even = (end - begin) / (break_even + (end - begin) / 2.0);
    // A bucket is on one side of the break-even or on the other.
    let guess = if (begin + end) / 2.0 <= break_even { (even * GUESS_MARGIN).min(1.0) } else { 0.0 };
    (observed * weight + guess * GUESS_WEIGHT) / (weight + GUESS_WEIGHT)
}

/// The part of a bucket from `from` to `to`: its length, and the chance that a gap that has lasted
/// until `from` ends in it. Within a bucket, gaps end evenly.
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
        gaps.iter().for_each(|gap| history.record(Before::Long, *gap, true));
        history
    }

    #[test]
    fn an_unknown_controller_stays_for_about_the_break_even() {
        for break_even in [0.05, 0.3, 1.0, 7.0, 60.0, 300.0, 5000.0] {
            let stopping = best(&History::default(), Before::Long, terms(break_even));
            let ratio = stopping.suspend_at / break_even;
            assert!((0.7..1.4).contains(&ratio), "{break_even}: {stopping:?}");
        }
    }

    #[test]
    fn long_gaps_mean_suspending_at_once() {
        let history = after(&[5.0, 5.3, 4.8]);
        assert_eq!(best(&history, Before::Long, terms(1.0)).suspend_at, 0.0);
    }

    #[test]
    fn gaps_shorter_than_the_break_even_are_waited_for() {
        let history = after(&[5.0; 30]);
        let stopping = best(&history, Before::Long, terms(20.0));
        // A gap that outlasts all that were seen is like the first one.
        assert!((5.0..25.0).contains(&stopping.suspend_at), "{stopping:?}");
        assert!((4.0..6.0).contains(&stopping.value), "{stopping:?}");
    }

    #[test]
    fn of_two_kinds_of_gaps_only_the_short_ones_are_waited_for() {
        let gaps: Vec<f64> = (0..60).map(|n| if n % 2 == 0 { 0.1 } else { 30.0 }).collect();
        let history = after(&gaps);
        let stopping = best(&history, Before::Long, terms(1.0));
        assert!((0.1..0.2).contains(&stopping.suspend_at), "{stopping:?}");
        let later = Terms { elapsed: 0.2, ..terms(1.0) };
        assert_eq!(best(&history, Before::Long, later).suspend_at, 0.2);
    }

    #[test]
    fn a_known_event_is_waited_for_if_it_comes_before_the_break_even() {
        let history = after(&[100.0; 30]);
        for (known, stays) in [(0.5, true), (0.9, true), (1.2, false), (100.0, false), (1000.0, false)] {
            let stopping = best(&history, Before::Long, Terms { known: Some(known), ..terms(1.0) });
            assert_eq!(stopping.suspend_at, if stays { known } else { 0.0 }, "{known}");
        }
    }
}
