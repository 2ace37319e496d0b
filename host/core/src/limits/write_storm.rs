//! Detects controllers that overwrite each other's changes of one object, and slows them down.
//!
//! ```text
//! a writes x ─► b is told, and writes x ─► a is told, and writes x ─► …        65 times a second, for good
//! ```
//!
//! One such turn is normal: two controllers share an object, and each adds what is its own. Only many turns in a short
//! time are a storm. Then every further turn waits, twice as long as the one before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The time in which turns count.
const WINDOW: Duration = Duration::from_secs(10);
/// Turns within [`WINDOW`] that are a storm.
const TURNS: usize = 20;
/// The wait of the first turn that is held back.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait of a turn.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Most objects tracked; those that were written the longest ago are evicted first.
const MAX_OBJECTS: usize = 4096;

/// The last writes of objects, by all controllers.
#[derive(Debug, Default)]
pub struct WriteStorms {
    objects: BTreeMap<Box<str>, Writes>,
    /// Every entry of `objects`, by the time at which it is looked at again.
    checks: VecDeque<(Duration, Box<str>)>,
}

#[derive(Debug)]
struct Writes {
    /// Who wrote last, and when.
    writer: u32,
    at: Duration,
    /// When the writer changed, within [`WINDOW`].
    turns: VecDeque<Duration>,
    /// The wait of the last turn that was held back; zero if there is no storm.
    wait: Duration,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerdict {
    /// It is sent now.
    Send,
    /// It waits.
    Hold {
        /// Until when.
        until: Duration,
        /// The controller whose writes alternate with this one's.
        other: u32,
    },
}

impl WriteStorms {
    /// `writer` is about to write `object`. After a hold it is not asked again.
    pub fn write(&mut self, object: &str, writer: u32, now: Duration) -> WriteVerdict {
        self.forget_old(now);
        let Some(writes) = self.objects.get_mut(object) else {
            let key: Box<str> = object.into();
            self.checks.push_back((now, key.clone()));
            self.objects.insert(key, Writes { writer, at: now, turns: VecDeque::new(), wait: Duration::ZERO });
            return WriteVerdict::Send;
        };
        if now.saturating_sub(writes.at) > WINDOW + writes.wait {
            (writes.wait, writes.turns) = (Duration::ZERO, VecDeque::new());
        }
        let other = std::mem::replace(&mut writes.writer, writer);
        writes.at = writes.at.max(now);
        if other == writer {
            return WriteVerdict::Send;
        }
        writes.turns.push_back(now);
        while writes.turns.front().is_some_and(|turn| now.saturating_sub(*turn) > WINDOW) {
            writes.turns.pop_front();
        }
        if writes.turns.len() > TURNS {
            writes.turns.pop_front();
        }
        if writes.wait.is_zero() && writes.turns.len() < TURNS {
            return WriteVerdict::Send;
        }
        writes.wait = if writes.wait.is_zero() { FIRST_WAIT } else { (writes.wait * 2).min(MAX_WAIT) };
        writes.at = now + writes.wait;
        WriteVerdict::Hold { until: writes.at, other }
    }

    /// Drops entries that tell nothing any more. Each is looked at once in [`WINDOW`].
    fn forget_old(&mut self, now: Duration) {
        let is_full = self.objects.len() >= MAX_OBJECTS;
        let mut evicted = false;
        while let Some((since, _)) = self.checks.front()
            && (now.saturating_sub(*since) > WINDOW || is_full && !evicted)
            && let Some((_, object)) = self.checks.pop_front()
        {
            let is_old = |writes: &Writes| now.saturating_sub(writes.at) > WINDOW + writes.wait;
            if (is_full && !evicted) || self.objects.get(&object).is_none_or(is_old) {
                self.objects.remove(&object);
                evicted = true;
            } else {
                self.checks.push_back((now, object));
            }
        }
    }

    /// Bytes of RAM, about.
    pub fn bytes(&self) -> usize {
        self.objects.iter().map(|(key, writes)| 2 * key.len() + 120 + writes.turns.len() * 16).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Writes of `x` by turns, one every `every` ms. Returns how long each was held, in ms.
    fn turns(storms: &mut WriteStorms, from: u64, every: u64, count: usize) -> Vec<u64> {
        let (mut now, mut held) = (from, Vec::new());
        for turn in 0..count {
            let writer = turn as u32 % 2;
            match storms.write("x", writer, ms(now)) {
                WriteVerdict::Send => held.push(0),
                WriteVerdict::Hold { until, other } => {
                    assert_eq!(other, 1 - writer);
                    held.push(until.as_millis() as u64 - now);
                    now = until.as_millis() as u64;
                }
            }
            now += every;
        }
        held
    }

    #[test]
    fn only_many_turns_in_a_short_time_are_held_back_and_each_for_longer() {
        let mut storms = WriteStorms::default();
        let held = turns(&mut storms, 0, 15, 28);
        assert!(held[..20].iter().all(|held| *held == 0), "{held:?}");
        assert_eq!(held[20..], [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        // At this rate there are never enough.
        assert!(turns(&mut WriteStorms::default(), 0, 600, 200).iter().all(|held| *held == 0));
    }

    #[test]
    fn storm_is_over_after_a_calm_time() {
        let mut storms = WriteStorms::default();
        let held = turns(&mut storms, 0, 15, 23);
        assert_eq!(held[22], 4000);
        let end = 22 * 15 + 7000;
        // Longer than the window and the last wait.
        assert_eq!(storms.write("x", 0, ms(end + 15_000)), WriteVerdict::Send);
        assert_eq!(storms.write("x", 1, ms(end + 15_010)), WriteVerdict::Send);
    }

    #[test]
    fn writes_of_one_controller_or_of_different_objects_are_no_storm() {
        let mut storms = WriteStorms::default();
        for at in 0..1000 {
            assert_eq!(storms.write("x", 7, ms(at)), WriteVerdict::Send);
            assert_eq!(storms.write(&format!("y{at}"), at as u32 % 2, ms(at)), WriteVerdict::Send);
        }
    }

    #[test]
    fn old_entries_are_forgotten_and_their_number_is_bounded() {
        let mut storms = WriteStorms::default();
        for at in 0..10_000_u64 {
            storms.write(&format!("y{at}"), 0, ms(0));
            assert!(storms.objects.len() <= MAX_OBJECTS && storms.checks.len() == storms.objects.len());
        }
        assert!(storms.bytes() > 0);
        storms.write("z", 0, ms(10_001));
        assert_eq!((storms.objects.len(), storms.checks.len()), (1, 1));
    }
}
