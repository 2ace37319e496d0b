//! Decides whether to resume before the predicted next event, and when.
//!
//! An early resume saves the event's wait but costs memory until the event arrives. The less predictable the event is,
//! the more memory it costs. Instead of relying on a model, several windows around the expected gap record what each
//! would have saved. The best window is used if it has saved anything.

use serde::{Deserialize, Serialize};

/// How long before the mean each window begins, in mean absolute deviations.
const EARLY: [f32; 3] = [1.0, 2.0, 3.5];
/// How long after the mean all windows end, in mean absolute deviations. Ending too early costs one more cycle.
const LATE: f32 = 6.0;
/// The weight of a new gap in the moving averages.
const WEIGHT: f32 = 1.0 / 16.0;
/// Number of gaps before any window is used.
const TRIAL: u8 = 8;
/// The share of the wait's cost that a window must save to be used.
const WORTHWHILE: f32 = 0.05;

/// The record of one controller. Costs are in seconds of the instance's memory, as in `stopping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PredictiveResume {
    /// Moving average of the gaps that were long enough to suspend, in seconds.
    mean: f32,
    /// Moving average of their absolute deviation, in seconds.
    deviation: f32,
    /// Moving average of what each window has saved per gap.
    saved: [f32; EARLY.len()],
    /// Number of recorded gaps, at most `TRIAL`.
    gaps: u8,
}

/// When an instance should be resident, in seconds of idle time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// The resume completes at this time.
    pub from: f64,
    /// The instance is suspended again at this time.
    pub to: f64,
    /// The average saving.
    pub saves: f64,
}

impl PredictiveResume {
    /// Records a gap in seconds that an unscheduled event ended.
    ///
    /// `wait` is the cost of waiting for a resume, and `cycle` the cost of another suspend and resume.
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

    /// Returns the best window, if it saves enough.
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
    fn regular_events_are_predicted_if_waiting_is_expensive() {
        let mut predictive = PredictiveResume::default();
        (0..200).for_each(|n| predictive.record(if n % 2 == 0 { 59.8 } else { 60.2 }, 3.0, 20.0));
        let window = predictive.window(3.0).expect("a window");
        assert!(window.from < 59.8 && window.from > 58.0 && window.to > 60.2, "{window:?}");
        // On a fast disk, waiting costs nothing.
        let mut predictive = PredictiveResume::default();
        (0..200).for_each(|_| predictive.record(60.0, 0.0, 1.0));
        assert_eq!(predictive.window(0.0), None);
    }

    #[test]
    fn irregular_events_are_not_predicted() {
        let mut random = crate::random::Random::new(1);
        let mut predictive = PredictiveResume::default();
        for _ in 0..500 {
            predictive.record(random.exponential(60.0), 3.0, 20.0);
            assert_eq!(predictive.window(3.0), None);
        }
    }
}
