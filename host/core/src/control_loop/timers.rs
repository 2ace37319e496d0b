//! When which slot has to be looked at again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::slot::SlotId;

/// Wake times, one at most for each slot. `Slot::wake` is the canonical value; this is its index by time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Duration, SlotId)>);

impl Timers {
    /// Replaces a slot's wake time.
    pub fn set(&mut self, slot: SlotId, wake: &mut Option<Duration>, at: Option<Duration>) {
        if *wake == at {
            return;
        }
        if let Some(old) = wake.take() {
            self.0.remove(&(old, slot));
        }
        if let Some(at) = at {
            self.0.insert((at, slot));
        }
        *wake = at;
    }

    /// The earliest wake time.
    pub fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// All wake times, the earliest first.
    #[cfg(test)]
    pub fn all(&self) -> Vec<(Duration, SlotId)> {
        self.0.iter().copied().collect()
    }

    /// Takes out a slot whose time has come. The caller resets its `wake`.
    pub fn pop_due(&mut self, now: Duration) -> Option<SlotId> {
        let &(at, slot) = self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&(at, slot));
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_wake_time_and_the_earliest_comes_first() {
        let at = Duration::from_secs;
        let mut timers = Timers::default();
        let (mut a, mut b) = (None, None);
        timers.set(SlotId(0), &mut a, Some(at(5)));
        timers.set(SlotId(1), &mut b, Some(at(3)));
        timers.set(SlotId(0), &mut a, Some(at(2)));
        assert_eq!((timers.next(), timers.pop_due(at(1))), (Some(at(2)), None));
        assert_eq!(timers.pop_due(at(4)), Some(SlotId(0)));
        timers.set(SlotId(1), &mut b, None);
        assert_eq!((timers.next(), b), (None, None));
    }
}
