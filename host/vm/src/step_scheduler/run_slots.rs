//! Who may use a core: steps that have just begun before those that take long. Pure.
//!
//! There are as many places as cores, at least two. A job that runs for longer than a slice is *long* from then on;
//! long jobs have all places but one, take turns there, and leave them while others wait. So whatever a few
//! controllers do, one place is soon free for the step of any other.

use std::collections::VecDeque;
use std::time::Duration;

/// A long job that has waited for this long goes before those that have not begun.
const PATIENCE: Duration = Duration::from_millis(100);

/// Of a thread that has given its place away.
pub type Waiter = u64;

/// Invariant: `running` is at most `places`, and `long_running`, which it includes, at most `places - 1`.
pub struct RunSlots<J> {
    places: usize,
    running: usize,
    long_running: usize,
    fresh: VecDeque<Fresh<J>>,
    /// Long jobs that wait for their turn, and since when.
    long: VecDeque<(Waiter, Duration)>,
}

enum Fresh<J> {
    Job(J),
    Back(Waiter),
}

/// Somebody has got a place.
#[derive(Debug, PartialEq, Eq)]
pub enum RunGrant<J> {
    /// A job that is to begin.
    Job(J),
    /// One that goes on.
    Waiter(Waiter),
}

impl<J> RunSlots<J> {
    pub fn new(cores: usize) -> RunSlots<J> {
        let places = cores.max(2);
        RunSlots { places, running: 0, long_running: 0, fresh: VecDeque::new(), long: VecDeque::new() }
    }

    pub fn submit(&mut self, job: J) {
        self.fresh.push_back(Fresh::Job(job));
    }

    /// Whether nothing runs, waits, or is to begin.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.running == 0 && self.fresh.is_empty() && self.long.is_empty()
    }

    /// Gives a place to whoever is next, if one is free. To be asked until it says `None`, after every change.
    pub fn grant(&mut self, now: Duration) -> Option<RunGrant<J>> {
        if self.running >= self.places {
            return None;
        }
        let may_be_long = self.long_running + 1 < self.places;
        let is_late = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        if let Some(&(waiter, since)) = self.long.front()
            && may_be_long
            && (self.fresh.is_empty() || is_late(since))
        {
            self.long.pop_front();
            self.running += 1;
            self.long_running += 1;
            return Some(RunGrant::Waiter(waiter));
        }
        let next = self.fresh.pop_front()?;
        if self.fresh.is_empty() {
            self.fresh = VecDeque::new();
        }
        self.running += 1;
        Some(match next {
            Fresh::Job(job) => RunGrant::Job(job),
            Fresh::Back(waiter) => RunGrant::Waiter(waiter),
        })
    }

    /// A running job has used up a slice and is long from now on; `was_long`: already before. Says whether it
    /// goes on: otherwise its place is free, and it has to wait until it is granted one.
    pub fn slice_used(&mut self, waiter: Waiter, was_long: bool, now: Duration) -> bool {
        let others = !self.fresh.is_empty() || !self.long.is_empty();
        let stays = match was_long {
            true => !others,
            false => !others && self.long_running + 1 < self.places,
        };
        if stays {
            self.long_running += usize::from(!was_long);
        } else {
            self.leave(was_long);
            self.long.push_back((waiter, now));
        }
        stays
    }

    /// A running job ends, or waits for something else than a core.
    pub fn leave(&mut self, is_long: bool) {
        self.running -= 1;
        self.long_running -= usize::from(is_long);
    }

    /// One that has waited for something else wants a place again; it is as good as new.
    pub fn come_back(&mut self, waiter: Waiter) {
        self.fresh.push_back(Fresh::Back(waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn submit<const N: usize>(places: &mut RunSlots<&'static str>, jobs: [&'static str; N]) {
        jobs.into_iter().for_each(|job| places.submit(job));
    }

    fn granted(places: &mut RunSlots<&'static str>, now: u64) -> Vec<RunGrant<&'static str>> {
        std::iter::from_fn(|| places.grant(ms(now))).collect()
    }

    #[test]
    fn jobs_begin_in_order_while_there_are_places() {
        let mut places = RunSlots::new(2);
        submit(&mut places, ["a", "b", "c"]);
        assert_eq!(granted(&mut places, 0), [RunGrant::Job("a"), RunGrant::Job("b")]);
        places.leave(false);
        assert_eq!(granted(&mut places, 0), [RunGrant::Job("c")]);
    }

    #[test]
    fn one_place_is_never_left_to_those_that_take_long() {
        let mut places = RunSlots::new(2);
        submit(&mut places, ["a", "b"]);
        assert_eq!(granted(&mut places, 0).len(), 2);
        assert!(places.slice_used(1, false, ms(20)), "nobody else wants it");
        assert!(!places.slice_used(2, false, ms(20)), "the other place is taken by a long one");
        assert_eq!(granted(&mut places, 20), [], "it is kept free");
        places.submit("c");
        assert_eq!(granted(&mut places, 20), [RunGrant::Job("c")]);
        places.leave(true);
        assert_eq!(granted(&mut places, 30), [RunGrant::Waiter(2)]);
    }

    #[test]
    fn those_that_take_long_take_turns_and_make_room_for_the_others() {
        let mut places = RunSlots::new(2);
        submit(&mut places, ["a", "b"]);
        granted(&mut places, 0);
        assert!(places.slice_used(1, false, ms(20)));
        assert!(!places.slice_used(2, false, ms(20)));
        assert!(!places.slice_used(1, true, ms(30)));
        assert_eq!(granted(&mut places, 30), [RunGrant::Waiter(2)]);
        places.submit("c");
        assert_eq!(granted(&mut places, 31), [RunGrant::Job("c")]);
        places.submit("d");
        assert!(!places.slice_used(2, true, ms(40)), "d waits");
        assert_eq!(granted(&mut places, 40), [RunGrant::Job("d")]);
        submit(&mut places, ["e", "f"]);
        places.leave(false);
        assert_eq!(granted(&mut places, 129), [RunGrant::Job("e")]);
        places.leave(false);
        assert_eq!(granted(&mut places, 131), [RunGrant::Waiter(1)], "it has waited for long enough");
    }

    #[test]
    fn one_that_has_waited_for_something_else_queues_with_the_new_ones() {
        let mut places = RunSlots::new(1);
        places.submit("a");
        granted(&mut places, 0);
        places.leave(false);
        places.submit("b");
        places.come_back(7);
        assert_eq!(granted(&mut places, 0), [RunGrant::Job("b"), RunGrant::Waiter(7)]);
    }

    proptest! {
        /// Whatever happens in whatever order: the invariant holds, and everything that was submitted ends.
        #[test]
        fn every_job_gets_its_turn(cores in 1usize..5, script in prop::collection::vec((0u8..5, 0usize..8), 0..200)) {
            let mut places = RunSlots::new(cores);
            let (mut now, mut next) = (Duration::ZERO, 0u64);
            // By job, whether it is long.
            let mut running: BTreeMap<u64, bool> = BTreeMap::new();
            let mut waiting: BTreeMap<u64, bool> = BTreeMap::new();
            let mut ended = 0;
            let drain = |places: &mut RunSlots<u64>, running: &mut BTreeMap<u64, bool>, waiting: &mut BTreeMap<u64, bool>, now| {
                while let Some(grant) = places.grant(now) {
                    let (id, long) = match grant {
                        RunGrant::Job(id) => (id, false),
                        RunGrant::Waiter(id) => (id, waiting.remove(&id).expect("it waits")),
                    };
                    assert!(running.insert(id, long).is_none());
                }
                assert!(running.len() <= places.places);
                assert!(running.values().filter(|long| **long).count() < places.places);
            };
            for (what, which) in script {
                now += ms(7);
                let chosen = running.iter().nth(which).map(|(id, long)| (*id, *long));
                match (what, chosen) {
                    (0 | 1, _) => {
                        places.submit(next);
                        next += 1;
                    }
                    (2, Some((id, long))) => {
                        running.remove(&id);
                        match places.slice_used(id, long, now) {
                            true => running.insert(id, true),
                            false => waiting.insert(id, true),
                        };
                    }
                    (3, Some((id, long))) => {
                        running.remove(&id);
                        places.leave(long);
                        places.come_back(id);
                        waiting.insert(id, false);
                    }
                    (4, Some((id, long))) => {
                        running.remove(&id);
                        places.leave(long);
                        ended += 1;
                    }
                    _ => {}
                }
                drain(&mut places, &mut running, &mut waiting, now);
            }
            while let Some((_, long)) = running.pop_first() {
                now += ms(7);
                places.leave(long);
                ended += 1;
                drain(&mut places, &mut running, &mut waiting, now);
            }
            prop_assert!(places.is_empty() && waiting.is_empty());
            prop_assert_eq!(ended, next);
        }
    }
}
