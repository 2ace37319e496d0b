//! The only source of chance in a run.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Random numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Random(StdRng);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Random {
        Random(StdRng::seed_from_u64(seed))
    }

    /// Another source, so that what one part of a run draws does not change what another part gets.
    pub fn fork(&mut self) -> Random {
        Random(StdRng::seed_from_u64(self.0.random()))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Between two durations, in whole milliseconds; each order of magnitude is as likely as another.
    pub fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        let (least, most) = (least.as_millis().max(1) as u64, most.as_millis().max(1) as u64);
        let doublings = (most / least).checked_ilog2().unwrap_or(0);
        let from = least << self.between(0, doublings.into());
        Duration::from_millis(self.between(from, (2 * from).min(most).max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stay_within_their_bounds_and_a_seed_repeats_them() {
        let (least, most) = (Duration::from_millis(5), Duration::from_secs(3600));
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.duration(least, most)).collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|duration| (least..=most).contains(duration)));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
