//! The random numbers of a hub, for jitter and for lineages of journals.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::distr::uniform::SampleUniform;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A source of random numbers that all watches of a hub share.
#[derive(Clone, Debug)]
pub(super) struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    /// A source with a random seed.
    pub fn new() -> Chance {
        Chance::seeded(rand::random())
    }

    /// A source with this seed, so that runs are repeatable.
    pub fn seeded(seed: u64) -> Chance {
        Chance(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number in a range.
    pub fn within<T: SampleUniform + PartialOrd>(&self, range: Range<T>) -> T {
        self.0.lock().random_range(range)
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        self.0.lock().random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_numbers_and_watches_share_them() {
        let (a, b) = (Chance::seeded(7), Chance::seeded(7));
        let shared = a.clone();
        let first = [a.number(), shared.number(), u64::from(a.within(0u32..10))];
        assert_eq!(first, [b.number(), b.number(), u64::from(b.within(0u32..10))]);
        assert_ne!(first[0], first[1]);
        assert_ne!(Chance::new().number(), Chance::new().number());
    }
}
