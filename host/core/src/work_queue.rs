//! The work queue of a reconciler: changes, requeues and failures in, the next object to reconcile out.
//!
//! The rules are those of client-go's work queue. An object waits at most once, however often it was added. It is never
//! handed out twice at once. If it was added while being processed, it is handed out again. As in controller-runtime's
//! priority queue, an object has at most one pending time: the earliest.
//!
//! The queue has no clock: `now` is the time since any fixed origin and must not go back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An object to reconcile: `namespace/name`, or `name` if it is cluster-scoped.
pub type Key = Box<str>;

/// Exponential backoff of one object: `base`, `2 * base`, `4 * base`, … up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub base: Duration,
    /// Longest delay.
    pub max: Duration,
}

impl Default for Backoff {
    /// client-go's `DefaultControllerRateLimiter`: 5 ms to 1000 s.
    fn default() -> Self {
        Backoff { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl Backoff {
    /// Delay after this many failures in a row.
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
    /// Added while processing: `done` queues it again. After `import` it may be set together with `queued`, until
    /// `resume` or `take` decides.
    again: bool,
    /// `again` stems from `add_held` alone and can be taken back.
    held: bool,
    /// In `WorkQueue::timers` with this time. Excludes `queued` and `again`, which are sooner.
    due: Option<Duration>,
    /// Failures in a row.
    failures: u32,
    /// No watched object has had this name. Counted in `WorkQueue::unknown`.
    unknown: bool,
}

impl Item {
    fn is_idle(&self) -> bool {
        !self.queued && !self.processing && self.due.is_none() && self.failures == 0
    }
}

/// The work queue of one registration.
#[derive(Debug, Default)]
pub struct WorkQueue {
    /// Every key with something to remember; `Item::is_idle` ones are removed.
    items: BTreeMap<Key, Item>,
    /// Keys in the order in which they are handed out, and since when they are ready.
    ready: VecDeque<(Key, Duration)>,
    /// The items that have `due`, by time.
    timers: BTreeSet<(Duration, Key)>,
    processing: u32,
    /// Number of `unknown` items, and the bytes of their keys.
    unknown: u32,
    unknown_bytes: usize,
    /// Most items processed at once; 0 is unlimited.
    max_concurrent: u32,
    /// An added object is ready when it has not been added again for this long.
    debounce: Duration,
    /// Additions of objects that were not waiting, and objects put back with backoff. They wrap.
    adds: u32,
    retries: u32,
    backoff: Backoff,
}

impl WorkQueue {
    /// An empty queue. `max_concurrent`: most objects processed at once, 0 for unlimited.
    pub fn new(max_concurrent: u32, backoff: Backoff) -> Self {
        WorkQueue { max_concurrent, backoff, ..WorkQueue::default() }
    }

    /// Sets the number of objects processed at once; 0 is unlimited.
    pub fn set_max_concurrent(&mut self, max_concurrent: u32) {
        self.max_concurrent = max_concurrent;
    }

    /// Sets how long an object has to be unchanged before it is ready.
    pub fn set_debounce(&mut self, debounce: Duration) {
        self.debounce = debounce;
    }

    /// Adds an object to be reconciled at once, or after the debounce. Replaces its pending time.
    pub fn add(&mut self, key: Key, now: Duration) {
        // Objects that became due earlier take precedence.
        self.promote(now);
        self.become_known(&key);
        self.debounce(key, now);
    }

    /// As `add`, for a name that no watched object has. It counts as unknown until an object of that name is added or
    /// the item is removed.
    pub fn add_unknown(&mut self, key: Key, now: Duration) {
        self.promote(now);
        self.begin_unknown(&key);
        self.debounce(key, now);
    }

    /// As `add`, for a change that may prove irrelevant. Returns whether [`WorkQueue::take_back`] can undo it: only for
    /// an object that is being processed and was not added otherwise.
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

    /// Undoes `add_held`. Returns whether that saves a reconcile.
    pub fn take_back(&mut self, key: &str) -> bool {
        let Some(item) = self.items.get_mut(key).filter(|item| item.processing && item.held) else { return false };
        (item.again, item.held) = (false, false);
        true
    }

    /// Confirms `add_held`.
    pub fn keep_held(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key) {
            item.held = false;
        }
    }

    /// Adds an object to be reconciled at `at`, unless it is pending earlier.
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

    /// Since when the next object is ready.
    pub fn ready_since(&mut self, now: Duration) -> Option<Duration> {
        self.promote(now);
        self.ready.front().filter(|_| !self.at_limit()).map(|(_, since)| *since)
    }

    /// Hands out the next object, which is being processed until `done`. `None` if nothing is ready or the limit is
    /// reached.
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

    /// Processing of the object ended. The object is ready again if it was added while being processed.
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

    /// Adds an object with backoff after a failure. Returns the delay.
    pub fn retry(&mut self, key: Key, now: Duration) -> Duration {
        self.retry_with(self.backoff, key, now)
    }

    /// As `retry`, with a different backoff.
    pub fn retry_with(&mut self, backoff: Backoff, key: Key, now: Duration) -> Duration {
        let item = self.items.entry(key.clone()).or_default();
        item.failures = item.failures.saturating_add(1);
        self.retries = self.retries.wrapping_add(1);
        let delay = backoff.delay(item.failures);
        self.add_at(key, now.saturating_add(delay));
        delay
    }

    /// Retries all failed objects now. They keep their failure counts.
    pub fn retry_now(&mut self, now: Duration) {
        let failed = |(_, key): &&(Duration, Key)| self.items.get(key).is_some_and(|item| item.failures > 0);
        let keys: Vec<Key> = self.timers.iter().filter(failed).map(|(_, key)| key.clone()).collect();
        self.promote(now);
        keys.into_iter().for_each(|key| self.enqueue(key, now));
    }

    /// Whether the object failed and waits for its backoff.
    pub fn is_backing_off(&self, key: &str) -> bool {
        self.items.get(key).is_some_and(|item| item.failures > 0 && item.due.is_some())
    }

    /// Resets the object's backoff after a success.
    pub fn forget(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key) {
            item.failures = 0;
            self.remove_if_idle(key);
        }
    }

    /// The object is not to be reconciled any more: it is not ready, and its pending time and its backoff are forgotten.
    /// Processing it goes on.
    pub fn remove(&mut self, key: &str) {
        if let Some(item) = self.items.get_mut(key) {
            (item.again, item.held) = (false, false);
            if std::mem::take(&mut item.queued) {
                self.ready.retain(|(ready, _)| &**ready != key);
            }
        }
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

    /// The queue for a snapshot, with times relative to `now`. Objects being processed are saved as ready, because the
    /// next host cannot know whether that work took effect.
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

    /// Merges a queue that was saved `elapsed` ago. The earlier time and the larger failure count win.
    ///
    /// The host's clock may have started after an object fell due, so only the remaining time is added to `now`.
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

    /// Frees the memory of an empty queue: a map keeps its last node for new entries, and there are thousands of empty
    /// queues.
    pub fn shrink(&mut self) {
        if self.items.is_empty() {
            self.items = BTreeMap::new();
        }
        if self.timers.is_empty() {
            self.timers = BTreeSet::new();
        }
    }

    /// After `import`: processing of this object continues where it was saved, so it is not ready, unless it was added
    /// while being processed.
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

    /// Queues an object that was added, now or after the debounce.
    fn debounce(&mut self, key: Key, now: Duration) {
        if self.debounce.is_zero() {
            return self.enqueue(key, now);
        }
        let item = self.items.entry(key.clone()).or_default();
        if item.queued || item.again {
            return;
        }
        let due = now.saturating_add(self.debounce);
        if let Some(before) = item.due.replace(due) {
            self.timers.remove(&(before, key.clone()));
        }
        self.timers.insert((due, key));
    }

    /// `since`: when it became ready.
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

    /// Counts a new item as unknown. An existing item stays as it is.
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

/// A work queue in a snapshot. Ready items come first, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    /// Ready items first, in their order.
    pub items: Vec<SavedItem>,
}

/// An object in a saved queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedItem {
    /// The object.
    pub key: Key,
    /// When it is to be reconciled.
    pub wait: Wait,
    /// Failures in a row.
    pub failures: u32,
    /// Flags [`SavedItem::AGAIN`] and [`SavedItem::UNKNOWN`]. Earlier hosts wrote the first one alone, as a `bool`,
    /// which is the same byte.
    pub marks: u8,
}

impl SavedItem {
    /// It was added while being processed.
    pub const AGAIN: u8 = 1;
    /// No watched object has this name.
    pub const UNKNOWN: u8 = 2;
}

/// When a saved object is to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// At once.
    Ready,
    /// This many nanoseconds after it was saved.
    Nanoseconds(u64),
    /// Not at all; only its failures are remembered.
    None,
}

fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
