//! Whether it pays to resume before the predicted event, and when.
//!
//! Resuming early spares the event the wait and costs memory until it comes, more the less
//! predictable it is. Instead of trusting a model of that, several windows around the expected gap
//! keep a record of what each would have saved; the best one is used, if it has saved anything.

use serde::{Deserialize, Serialize};

/// How long before the mean the windows begin, in mean absolute deviations.
const EARLY: [f32; 3] = [1.0, 2.0, 3.5];
/// How long after the mean they all end: giving up too early costs one more cycle.
const LATE: f32 = 6.0;
/// Each new gap counts for so much.
const WEIGHT: f32 = 1.0 / 16.0;
/// No window is used before so many gaps.
const TRIAL: u8 = 8;
/// Share of the wait's cost that a window must save.
const WORTHWHILE: f32 = 0.05;

/// Costs are in seconds of the instance's memory, as in `stopping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ahead {
    /// Of the gaps that were long enough to suspend, seconds.
    mean: f32,
    deviation: f32,
    /// What each window has saved per gap.
    saved: [f32; EARLY.len()],
    /// How many gaps that is known from, up to `TRIAL`.
    gaps: u8,
}

/// When to be resident, in seconds of idle time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub from: f64,
    pub to: f64,
    /// What it saves on average.
    pub saves: f64,
}

impl Ahead {
    /// A gap that was ended by an event nobody had foreseen. `wait` is what waiting for a resume
    /// costs, `cycle` what suspending once more does.
    pub fn record(&mut self, gap: f64, wait: f64, cycle: f64) {
        let (gap, wait, cycle) = (gap as f32, wait as f32, cycle as f32);
        if self.gaps == 0 {
            (self.mean, self.deviation) = (gap, gap / 2.0);
        }
        for (saved, early) in self.saved.iter_mut().zip(EARLY) {
            let (from, to) = (self.mean - early * self.deviation, self.mean + LATE * self.deviation);
            let saves = match gap {
                g if g < from => 0.0,
                g if g <= to => wait - (g - from),
                _ => -(to - from) - cycle,
            };
            *saved += (saves - *saved) * WEIGHT;
        }
        self.deviation += ((gap - self.mean).abs() - self.deviation) * WEIGHT;
        self.mean += (gap - self.mean) * WEIGHT;
        self.gaps = TRIAL.min(self.gaps + 1);
    }

    /// The window in which to be resident, if one has proved worth it.
    pub fn window(&self, wait: f64) -> Option<Window> {
        let (saved, early) = self.saved.iter().zip(EARLY).max_by(|a, b| a.0.total_cmp(b.0))?;
        let worthwhile = self.gaps == TRIAL && *saved > WORTHWHILE * wait as f32 && *saved > 0.0;
        worthwhile.then(|| Window {
            from: f64::from(self.mean - early * self.deviation).max(0.0),
            to: f64::from(self.mean + LATE * self.deviation),
            saves: f64::from(*saved),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_rhythm_is_met_early_if_waiting_is_dear() {
        let mut ahead = Ahead::default();
        (0..200).for_each(|n| ahead.record(if n % 2 == 0 { 59.8 } else { 60.2 }, 3.0, 20.0));
        let window = ahead.window(3.0).expect("it pays");
        assert!(window.from < 59.8 && window.from > 58.0 && window.to > 60.2, "{window:?}");
        // Waiting costs nothing on a fast disk.
        let mut ahead = Ahead::default();
        (0..200).for_each(|_| ahead.record(60.0, 0.0, 1.0));
        assert_eq!(ahead.window(0.0), None);
    }

    #[test]
    fn gaps_without_a_rhythm_are_not_predicted() {
        let mut random = crate::random::Random::new(1);
        let mut ahead = Ahead::default();
        for _ in 0..500 {
            ahead.record(random.exponential(60.0), 3.0, 20.0);
            assert_eq!(ahead.window(3.0), None);
        }
    }
}
