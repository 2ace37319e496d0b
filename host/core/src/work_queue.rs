//! Turns "this object changed", "again in a while" and "that failed" into the next object to
//! reconcile.
//!
//! The rules are those of client-go's work queue: an object is waiting at most once however often
//! it was added, is never handed out twice at once, and is handed out again if it was added while
//! it was being worked on. As in controller-runtime's priority queue there is one pending time an
//! object; the earliest wins.
//!
//! The queue has no clock: `now` is the time since any fixed origin, and it must not go back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An object to reconcile: `namespace/name`, or `name` if it is cluster-scoped.
pub type Key = Box<str>;

/// Exponential backoff of one object: `base`, `2 * base`, `4 * base`, … up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    /// client-go's `DefaultControllerRateLimiter`: 5 ms to 1000 s.
    fn default() -> Self {
        Backoff { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl Backoff {
    /// The delay after this many failures in a row.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

#[derive(Debug, Default)]
struct Item {
    /// In `WorkQueue::ready`, exactly once. Excludes `processing`.
    queued: bool,
    /// Handed out by `take`, `done` not yet called.
    processing: bool,
    /// Added while processing: queued again by `done`. After `import` with `queued` as well, until it is known
    /// by `resume` or `take` whether that work goes on.
    again: bool,
    /// `again` is only what `add_held` has added, and can be taken back.
    held: bool,
    /// In `WorkQueue::timers` with this time. Excludes `queued` and `again`, which are sooner.
    due: Option<Duration>,
    /// Failures in a row.
    failures: u32,
    /// A name that no watched object has had since it came. Counted in `WorkQueue::unknown`.
    unknown: bool,
}

impl Item {
    fn is_idle(&self) -> bool {
        !self.queued && !self.processing && self.due.is_none() && self.failures == 0
    }
}

/// The work queue of one controller.
#[derive(Debug, Default)]
pub struct WorkQueue {
    /// Every key there is something to remember about; `Item::is_idle` ones are removed.
    items: BTreeMap<Key, Item>,
    /// Keys in the order they are handed out, and since when they are ready.
    ready: VecDeque<(Key, Duration)>,
    /// The items that have `due`, by time.
    timers: BTreeSet<(Duration, Key)>,
    processing: u32,
    /// How many items are `unknown`, and the bytes of their keys.
    unknown: u32,
    unknown_bytes: usize,
    /// Most items processed at once; 0 is no limit.
    max_concurrent: u32,
    /// Additions of objects that were not waiting already, and of objects put back with backoff. They wrap.
    adds: u32,
    retries: u32,
    backoff: Backoff,
}

impl WorkQueue {
    pub fn new(max_concurrent: u32, backoff: Backoff) -> Self {
        WorkQueue { max_concurrent, backoff, ..WorkQueue::default() }
    }

    /// From now on so many items may be processed at once; 0 is no limit.
    pub fn set_max_concurrent(&mut self, max_concurrent: u32) {
        self.max_concurrent = max_concurrent;
    }

    /// The object is to be reconciled as soon as possible. A pending time is forgotten.
    pub fn add(&mut self, key: Key, now: Duration) {
        // What became due earlier goes first.
        self.promote(now);
        self.become_known(&key);
        self.enqueue(key, now);
    }

    /// As `add`, for a name that no watched object has. It is counted until an object of that name is added, or there is
    /// nothing more to remember.
    pub fn add_unknown(&mut self, key: Key, now: Duration) {
        self.promote(now);
        self.begin_unknown(&key);
        self.enqueue(key, now);
    }

    /// As `add`, for a reason that may turn out to be none. Whether it can be taken back: only what is being processed
    /// and was not added meanwhile can.
    pub fn add_held(&mut self, key: Key, now: Duration) -> bool {
        let is_first = self.items.get(&key).is_none_or(|item| !item.again || item.held);
        self.add(key.clone(), now);
        match self.items.get_mut(&key).filter(|item| item.processing && item.again && is_first) {
            Some(item) => {
                item.held = true;
                true
            }
            None => false,
        }
    }

    /// What `add_held` added had no reason. Whether that spares a reconcile.
    pub fn take_back(&mut self, key: &str) -> bool {
        let Some(item) = self.items.get_mut(key).filter(|item| item.processing && item.held) else { return false };
        (item.again, item.held) = (false, false);
        true
    }

    /// What `add_held` added had a reason.
    pub fn keep_held(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key) {
            item.held = false;
        }
    }

    /// The object is to be reconciled at `at`, unless it will be sooner anyway.
    pub fn add_at(&mut self, key: Key, at: Duration) {
        let item = self.items.entry(key.clone()).or_default();
        if item.queued || item.again || item.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(later) = item.due.replace(at) {
            self.timers.remove(&(later, key.clone()));
        }
        self.timers.insert((at, key));
    }

    /// Since when the object is ready that `take` hands out next.
    pub fn ready_since(&mut self, now: Duration) -> Option<Duration> {
        self.promote(now);
        self.ready.front().filter(|_| !self.at_limit()).map(|(_, since)| *since)
    }

    /// Hands out the next object, which stays in processing until `done`. `None` if nothing is
    /// ready or as many as allowed are being processed.
    pub fn take(&mut self, now: Duration) -> Option<Key> {
        self.promote(now);
        if self.at_limit() {
            return None;
        }
        let (key, _) = self.ready.pop_front()?;
        if self.ready.is_empty() {
            // Most queues are empty most of the time, and there are thousands of them.
            self.ready = VecDeque::new();
        }
        let item = self.items.entry(key.clone()).or_default();
        item.queued = false;
        (item.again, item.held) = (false, false);
        item.processing = true;
        self.processing += 1;
        Some(key)
    }

    /// The object is no longer being worked on. It is ready again if it was added meanwhile.
    pub fn done(&mut self, key: &str, now: Duration) {
        self.promote(now);
        let Some(item) = self.items.get_mut(key) else { return };
        if !item.processing {
            return;
        }
        item.processing = false;
        item.held = false;
        self.processing -= 1;
        if std::mem::take(&mut item.again) {
            item.queued = true;
            self.ready.push_back((key.into(), now));
        }
        self.remove_if_idle(key);
    }

    /// Reconciling failed: again after the object's backoff, which is returned.
    pub fn retry(&mut self, key: Key, now: Duration) -> Duration {
        self.retry_with(self.backoff, key, now)
    }

    /// As `retry`, with another backoff.
    pub fn retry_with(&mut self, backoff: Backoff, key: Key, now: Duration) -> Duration {
        let item = self.items.entry(key.clone()).or_default();
        item.failures = item.failures.saturating_add(1);
        self.retries = self.retries.wrapping_add(1);
        let delay = backoff.delay(item.failures);
        self.add_at(key, now.saturating_add(delay));
        delay
    }

    /// Objects that failed are to be tried again now; they keep their numbers of failures.
    pub fn retry_now(&mut self, now: Duration) {
        let failed = |(_, key): &&(Duration, Key)| self.items.get(key).is_some_and(|item| item.failures > 0);
        let keys: Vec<Key> = self.timers.iter().filter(failed).map(|(_, key)| key.clone()).collect();
        self.promote(now);
        keys.into_iter().for_each(|key| self.enqueue(key, now));
    }

    /// Whether the object failed and its next try has a time.
    pub fn is_backing_off(&self, key: &str) -> bool {
        self.items.get(key).is_some_and(|item| item.failures > 0 && item.due.is_some())
    }

    /// Reconciling succeeded: the next failure starts with the shortest backoff.
    pub fn forget(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key) {
            item.failures = 0;
            self.remove_if_idle(key);
        }
    }

    /// The object is gone: its pending time and its backoff are forgotten. If it is ready it
    /// stays so, since a controller also reconciles deletions.
    pub fn drop_key(&mut self, key: &str) {
        self.clear_due(key);
        self.forget(key);
    }

    /// When a `take` can return something that is not ready now; `None` if only a call of another
    /// method can make that happen. In the past if an object is due already.
    pub fn next_at(&self) -> Option<Duration> {
        if self.at_limit() {
            return None;
        }
        // An object in processing that falls due is merely noted, so it is nothing to wake up for.
        self.timers
            .iter()
            .find(|(_, key)| !self.items.get(key).is_some_and(|item| item.processing))
            .map(|(due, _)| *due)
    }

    /// Whether `take(now)` would return an object.
    pub fn has_ready(&self, now: Duration) -> bool {
        !self.at_limit() && (!self.ready.is_empty() || self.next_at().is_some_and(|due| due <= now))
    }

    /// For metrics: objects that are ready, those that wait for their time, additions, retries.
    pub fn counts(&self) -> (usize, usize, u32, u32) {
        (self.ready.len(), self.timers.len(), self.adds, self.retries)
    }

    /// Names that no watched object has, and the bytes of their keys.
    pub fn unknown(&self) -> (usize, usize) {
        (self.unknown as usize, self.unknown_bytes)
    }

    /// Whether there is something to remember about this object, waiting or not.
    pub fn contains(&self, key: &str) -> bool {
        self.items.contains_key(key)
    }

    /// Objects handed out and not yet done.
    pub fn processing(&self) -> usize {
        self.processing as usize
    }

    /// Objects that wait, ready or not; those in processing don't count.
    pub fn len(&self) -> usize {
        let waiting = |item: &&Item| !item.processing && (item.queued || item.due.is_some());
        self.items.values().filter(waiting).count()
    }

    /// Nothing waits and nothing is in processing.
    pub fn is_empty(&self) -> bool {
        self.processing == 0 && self.ready.is_empty() && self.timers.is_empty()
    }

    /// Failures in a row of this object.
    pub fn failures(&self, key: &str) -> u32 {
        self.items.get(key).map_or(0, |item| item.failures)
    }

    /// Everything to remember, with times relative to `now`. What is being processed is saved as
    /// ready: whether that work took effect is unknown to whoever continues from here.
    pub fn export(&self, now: Duration) -> SavedQueue {
        let unfinished = self.items.iter().filter(|(_, item)| item.processing).map(|(key, _)| key);
        let ready = unfinished.chain(self.ready.iter().map(|(key, _)| key)).map(|key| self.save(key, Wait::Ready));
        let rest = self.items.iter().filter(|(_, item)| !item.processing && !item.queued);
        let rest = rest.map(|(key, item)| {
            let wait = item.due.map_or(Wait::None, |due| Wait::Nanoseconds(as_nanos(due.saturating_sub(now))));
            self.save(key, wait)
        });
        SavedQueue { items: ready.chain(rest).collect() }
    }

    fn save(&self, key: &str, wait: Wait) -> SavedItem {
        let item = self.items.get(key);
        let again = if item.is_some_and(|item| item.again) { SavedItem::AGAIN } else { 0 };
        let unknown = if item.is_some_and(|item| item.unknown) { SavedItem::UNKNOWN } else { 0 };
        SavedItem { key: key.into(), wait, failures: self.failures(key), marks: again | unknown }
    }

    /// Adds what was saved `elapsed` ago to what is here; the sooner time and the larger number of failures win.
    ///
    /// The host's clock may have begun after an object fell due, so only the time that is left is added to `now`.
    pub fn import(&mut self, saved: SavedQueue, now: Duration, elapsed: Duration) {
        let mut overdue = Vec::new();
        for SavedItem { key, wait, failures, marks } in saved.items {
            if marks & SavedItem::UNKNOWN != 0 {
                self.begin_unknown(&key);
            }
            let item = self.items.entry(key.clone()).or_default();
            item.failures = item.failures.max(failures);
            item.again |= marks & SavedItem::AGAIN != 0;
            match wait {
                Wait::Ready => self.enqueue(key, now),
                Wait::Nanoseconds(ns) => match Duration::from_nanos(ns).checked_sub(elapsed) {
                    Some(left) => self.add_at(key, now.saturating_add(left)),
                    None => overdue.push((ns, key)),
                },
                Wait::None => self.remove_if_idle(&key),
            }
        }
        overdue.sort_unstable();
        for (_, key) in overdue {
            self.enqueue(key, now);
        }
    }

    /// Gives back what an empty queue holds: a map keeps its last node for new entries, and there are
    /// thousands of queues that wait for none.
    pub fn shrink(&mut self) {
        if self.items.is_empty() {
            self.items = BTreeMap::new();
        }
        if self.timers.is_empty() {
            self.timers = BTreeSet::new();
        }
    }

    /// After `import`: work on this object went on where it was saved, so it is in processing, not
    /// ready; but again if it was added in the course of that work.
    pub fn resume(&mut self, key: &str) {
        self.clear_due(key);
        self.ready.retain(|(ready, _)| &**ready != key);
        let item = self.items.entry(key.into()).or_default();
        item.queued = false;
        if !std::mem::replace(&mut item.processing, true) {
            self.processing += 1;
        }
    }

    fn at_limit(&self) -> bool {
        self.max_concurrent != 0 && self.processing >= self.max_concurrent
    }

    /// Queues every object that is due.
    fn promote(&mut self, now: Duration) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((due, key)) = self.timers.pop_first() {
                self.enqueue(key, due);
            }
        }
    }

    /// `since`: when it became so.
    fn enqueue(&mut self, key: Key, since: Duration) {
        self.clear_due(&key);
        let item = self.items.entry(key.clone()).or_default();
        if item.processing {
            item.held = false;
            if !std::mem::replace(&mut item.again, true) {
                self.adds = self.adds.wrapping_add(1);
            }
        } else if !item.queued {
            item.queued = true;
            self.adds = self.adds.wrapping_add(1);
            self.ready.push_back((key, since));
        }
    }

    fn clear_due(&mut self, key: &str) {
        if let Some(due) = self.items.get_mut(key).and_then(|item| item.due.take()) {
            self.timers.remove(&(due, key.into()));
        }
    }

    /// Counts an item among the unknown, unless there is one already: that stays what it is.
    fn begin_unknown(&mut self, key: &str) {
        if !self.items.contains_key(key) {
            self.items.insert(key.into(), Item { unknown: true, ..Item::default() });
            self.unknown += 1;
            self.unknown_bytes += key.len();
        }
    }

    fn become_known(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key).filter(|item| item.unknown) {
            item.unknown = false;
            self.unknown -= 1;
            self.unknown_bytes -= key.len();
        }
    }

    fn remove_if_idle(&mut self, key: &str) {
        if self.items.get(key).is_some_and(Item::is_idle) {
            self.become_known(key);
            self.items.remove(key);
        }
    }
}

/// A work queue at rest, for a snapshot. Ready items come first, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    pub items: Vec<SavedItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedItem {
    pub key: Key,
    pub wait: Wait,
    pub failures: u32,
    /// [`SavedItem::AGAIN`] and [`SavedItem::UNKNOWN`]. Earlier hosts wrote the first one alone, as a `bool`: the same byte.
    pub marks: u8,
}

impl SavedItem {
    /// It was being processed, and was added meanwhile.
    pub const AGAIN: u8 = 1;
    /// No watched object has this name.
    pub const UNKNOWN: u8 = 2;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// To be reconciled at once.
    Ready,
    /// From the time of saving.
    Nanoseconds(u64),
    /// Not to be reconciled; only its failures are remembered.
    None,
}

fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
