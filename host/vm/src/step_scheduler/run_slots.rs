//! Decides which jobs may use a core: new jobs take precedence over long ones. Pure.
//!
//! There are as many run slots as cores, at least two. A job that runs longer than a time slice is *long* from then on.
//! Long jobs share all slots but one, take turns there, and yield to waiting jobs. So whatever a few controllers do,
//! one slot is soon free for a step of any other.

use std::collections::VecDeque;
use std::time::Duration;

/// A long job that has waited for this long takes precedence over new jobs.
const PATIENCE: Duration = Duration::from_millis(100);

/// Identifies a thread that has given its run slot away.
pub type Waiter = u64;

/// The run slots and the queues for them.
///
/// Invariant: `running` is at most `slots`. `long_running`, which `running` includes, is at most `slots - 1`.
pub struct RunSlots<J> {
    slots: usize,
    running: usize,
    long_running: usize,
    /// New jobs, and jobs that have waited for something else.
    fresh: VecDeque<Fresh<J>>,
    /// Long jobs that wait for their turn, and since when.
    long: VecDeque<(Waiter, Duration)>,
}

enum Fresh<J> {
    Job(J),
    Requeued(Waiter),
}

/// A run slot for a job.
#[derive(Debug, PartialEq, Eq)]
pub enum RunGrant<J> {
    /// The job begins.
    Job(J),
    /// The waiting job goes on.
    Waiter(Waiter),
}

impl<J> RunSlots<J> {
    /// Slots for this many cores.
    pub fn new(cores: usize) -> RunSlots<J> {
        let slots = cores.max(2);
        RunSlots { slots, running: 0, long_running: 0, fresh: VecDeque::new(), long: VecDeque::new() }
    }

    /// Queues a new job.
    pub fn submit(&mut self, job: J) {
        self.fresh.push_back(Fresh::Job(job));
    }

    /// Whether no job runs, waits, or is queued.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.running == 0 && self.fresh.is_empty() && self.long.is_empty()
    }

    /// Gives a free slot to the next job. Call it after every change until it returns `None`.
    pub fn grant(&mut self, now: Duration) -> Option<RunGrant<J>> {
        if self.running >= self.slots {
            return None;
        }
        let may_be_long = self.long_running + 1 < self.slots;
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
            Fresh::Requeued(waiter) => RunGrant::Waiter(waiter),
        })
    }

    /// A running job has used up a time slice and is long from now on; `was_long`: it was before. Returns whether it goes
    /// on. If not, its slot is free, and it waits for the next grant.
    pub fn slice_used(&mut self, waiter: Waiter, was_long: bool, now: Duration) -> bool {
        let others = !self.fresh.is_empty() || !self.long.is_empty();
        let stays = match was_long {
            true => !others,
            false => !others && self.long_running + 1 < self.slots,
        };
        if stays {
            self.long_running += usize::from(!was_long);
        } else {
            self.leave(was_long);
            self.long.push_back((waiter, now));
        }
        stays
    }

    /// A running job ends, or waits for something else than a core: its slot is free.
    pub fn leave(&mut self, is_long: bool) {
        self.running -= 1;
        self.long_running -= usize::from(is_long);
    }

    /// Queues a job that has waited for something else, like a new one.
    pub fn requeue(&mut self, waiter: Waiter) {
        self.fresh.push_back(Fresh::Requeued(waiter));
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

    fn submit<const N: usize>(slots: &mut RunSlots<&'static str>, jobs: [&'static str; N]) {
        jobs.into_iter().for_each(|job| slots.submit(job));
    }

    fn granted(slots: &mut RunSlots<&'static str>, now: u64) -> Vec<RunGrant<&'static str>> {
        std::iter::from_fn(|| slots.grant(ms(now))).collect()
    }

    #[test]
    fn jobs_begin_in_order_while_slots_are_free() {
        let mut slots = RunSlots::new(2);
        submit(&mut slots, ["a", "b", "c"]);
        assert_eq!(granted(&mut slots, 0), [RunGrant::Job("a"), RunGrant::Job("b")]);
        slots.leave(false);
        assert_eq!(granted(&mut slots, 0), [RunGrant::Job("c")]);
    }

    #[test]
    fn long_jobs_never_take_the_last_slot() {
        let mut slots = RunSlots::new(2);
        submit(&mut slots, ["a", "b"]);
        assert_eq!(granted(&mut slots, 0).len(), 2);
        assert!(slots.slice_used(1, false, ms(20)), "no job waits");
        assert!(!slots.slice_used(2, false, ms(20)), "a long job has the other slot");
        assert_eq!(granted(&mut slots, 20), [], "the slot stays free for a new job");
        slots.submit("c");
        assert_eq!(granted(&mut slots, 20), [RunGrant::Job("c")]);
        slots.leave(true);
        assert_eq!(granted(&mut slots, 30), [RunGrant::Waiter(2)]);
    }

    #[test]
    fn long_jobs_take_turns_and_yield_to_new_jobs() {
        let mut slots = RunSlots::new(2);
        submit(&mut slots, ["a", "b"]);
        granted(&mut slots, 0);
        assert!(slots.slice_used(1, false, ms(20)));
        assert!(!slots.slice_used(2, false, ms(20)));
        assert!(!slots.slice_used(1, true, ms(30)));
        assert_eq!(granted(&mut slots, 30), [RunGrant::Waiter(2)]);
        slots.submit("c");
        assert_eq!(granted(&mut slots, 31), [RunGrant::Job("c")]);
        slots.submit("d");
        assert!(!slots.slice_used(2, true, ms(40)), "d waits");
        assert_eq!(granted(&mut slots, 40), [RunGrant::Job("d")]);
        submit(&mut slots, ["e", "f"]);
        slots.leave(false);
        assert_eq!(granted(&mut slots, 129), [RunGrant::Job("e")]);
        slots.leave(false);
        assert_eq!(granted(&mut slots, 131), [RunGrant::Waiter(1)], "it has waited long enough");
    }

    #[test]
    fn a_requeued_job_waits_in_line_with_new_jobs() {
        let mut slots = RunSlots::new(1);
        slots.submit("a");
        granted(&mut slots, 0);
        slots.leave(false);
        slots.submit("b");
        slots.requeue(7);
        assert_eq!(granted(&mut slots, 0), [RunGrant::Job("b"), RunGrant::Waiter(7)]);
    }

    proptest! {
        /// After any sequence of events the invariant holds, and every submitted job ends.
        #[test]
        fn every_job_gets_its_turn(cores in 1usize..5, script in prop::collection::vec((0u8..5, 0usize..8), 0..200)) {
            let mut slots = RunSlots::new(cores);
            let (mut now, mut next) = (Duration::ZERO, 0u64);
            // By job, whether it is long.
            let mut running: BTreeMap<u64, bool> = BTreeMap::new();
            let mut waiting: BTreeMap<u64, bool> = BTreeMap::new();
            let mut ended = 0;
            let drain = |slots: &mut RunSlots<u64>, running: &mut BTreeMap<u64, bool>, waiting: &mut BTreeMap<u64, bool>, now| {
                while let Some(grant) = slots.grant(now) {
                    let (id, long) = match grant {
                        RunGrant::Job(id) => (id, false),
                        RunGrant::Waiter(id) => (id, waiting.remove(&id).expect("it waits")),
                    };
                    assert!(running.insert(id, long).is_none());
                }
                assert!(running.len() <= slots.slots);
                assert!(running.values().filter(|long| **long).count() < slots.slots);
            };
            for (what, which) in script {
                now += ms(7);
                let chosen = running.iter().nth(which).map(|(id, long)| (*id, *long));
                match (what, chosen) {
                    (0 | 1, _) => {
                        slots.submit(next);
                        next += 1;
                    }
                    (2, Some((id, long))) => {
                        running.remove(&id);
                        match slots.slice_used(id, long, now) {
                            true => running.insert(id, true),
                            false => waiting.insert(id, true),
                        };
                    }
                    (3, Some((id, long))) => {
                        running.remove(&id);
                        slots.leave(long);
                        slots.requeue(id);
                        waiting.insert(id, false);
                    }
                    (4, Some((id, long))) => {
                        running.remove(&id);
                        slots.leave(long);
                        ended += 1;
                    }
                    _ => {}
                }
                drain(&mut slots, &mut running, &mut waiting, now);
            }
            while let Some((_, long)) = running.pop_first() {
                now += ms(7);
                slots.leave(long);
                ended += 1;
                drain(&mut slots, &mut running, &mut waiting, now);
            }
            prop_assert!(slots.is_empty() && waiting.is_empty());
            prop_assert_eq!(ended, next);
        }
    }
}
