//! Who is subscribed to which watch, and how much of each watch is in the work queues.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use wasmop_package::manifest::ControllerSpec;

use super::slot::SlotId;
use crate::registration_id::RegistrationId;
use crate::watch::{Waiting, WatchId, WatchPosition};

/// A controller's interest in a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub slot: SlotId,
    pub registration: RegistrationId,
    /// `None`: the primary kind; else an index into the spec's watches.
    pub watch: Option<u8>,
}

impl Subscription {
    /// The slot of the subscription with this number.
    pub fn slot_of(id: u64) -> SlotId {
        SlotId((id >> 40) as u32)
    }

    /// The subscription as a number, for replays. A host has room for far fewer than 2^24 controllers, and a
    /// controller has at most 64 watches.
    pub fn id(self) -> u64 {
        u64::from(self.slot.0) << 40
            | u64::from(self.registration.0) << 8
            | self.watch.map_or(0, |watch| u64::from(watch.saturating_add(1)))
    }
}

/// A watch that a controller needs and cannot have now.
#[derive(Debug)]
pub(super) struct Unwatched {
    /// As its owner was told last.
    pub waiting: Waiting,
    /// On the host's clock.
    pub since: Duration,
}

/// Replays under way for one subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replays {
    pub under_way: u32,
    /// Changes up to this number are in the last of them.
    pub covered: u64,
}

/// The subscriptions of all controllers.
///
/// Invariants: a watch is in `by_watch` exactly while somebody is subscribed to it, and then in `seen`, too. While a
/// subscription has an entry in `replays`, its controller has not seen what `seen` says.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Shared, so that handling an event can change everything else.
    pub by_watch: HashMap<WatchId, Arc<Vec<Subscription>>>,
    /// Number of the last change of each watch that is in the work queues.
    pub seen: HashMap<WatchId, u64>,
    /// By slot, watch and subscription.
    pub replays: BTreeMap<(SlotId, WatchId, u64), Replays>,
    /// Watches that cannot be had now, and whose owner knows.
    pub waiting: BTreeMap<(SlotId, WatchId), Unwatched>,
    /// What controllers that continue from a snapshot have seen. Empty once all are subscribed.
    pub returning: HashMap<SlotId, Vec<WatchPosition>>,
    /// No event of a watch has been handled yet.
    pub is_starting: bool,
    /// Specs of registrations, one copy of those that are equal: those of one package are.
    pub specs: HashSet<Arc<ControllerSpec>>,
}

impl Subscriptions {
    /// The subscribers of a watch.
    pub fn of_watch(&self, watch: WatchId) -> Arc<Vec<Subscription>> {
        self.by_watch.get(&watch).cloned().unwrap_or_default()
    }

    /// Adds a subscription. Whether it is the first of its watch.
    pub fn add(&mut self, watch: WatchId, subscription: Subscription, recovered: impl FnOnce() -> u64) -> bool {
        self.seen.entry(watch).or_insert_with(recovered);
        let subscribers = self.by_watch.entry(watch).or_default();
        let is_first = subscribers.is_empty();
        Arc::make_mut(subscribers).push(subscription);
        is_first
    }

    /// Removes a subscription, if it is there. Returns whether its controller has another one on the same watch.
    pub fn remove(&mut self, watch: WatchId, subscription: Subscription) -> Option<bool> {
        let subscribers = Arc::make_mut(self.by_watch.get_mut(&watch)?);
        subscribers.retain(|other| *other != subscription);
        let has_other = subscribers.iter().any(|other| other.slot == subscription.slot);
        if !has_other {
            self.waiting.remove(&(subscription.slot, watch));
        }
        if subscribers.is_empty() {
            self.by_watch.remove(&watch);
            self.seen.remove(&watch);
            self.replays.retain(|(_, of, _), _| *of != watch);
        }
        Some(has_other)
    }

    /// A replay begins, with the changes up to `covered`.
    pub fn begin_replay(&mut self, watch: WatchId, subscription: Subscription, covered: Option<u64>) {
        let replays = self.replays.entry((subscription.slot, watch, subscription.id())).or_default();
        replays.under_way += 1;
        if let Some(covered) = covered {
            replays.covered = covered;
        }
    }

    /// A replay is complete; its subscriber may be subscribed no longer.
    pub fn end_replay(&mut self, watch: WatchId, subscriber: u64) {
        let key = (Subscription::slot_of(subscriber), watch, subscriber);
        if let Some(replays) = self.replays.get_mut(&key) {
            replays.under_way -= 1;
            if replays.under_way == 0 {
                self.replays.remove(&key);
            }
        }
    }

    /// Whether a change comes to this subscriber with a replay.
    pub fn is_covered(&self, watch: WatchId, subscription: Subscription, number: u64) -> bool {
        let key = (subscription.slot, watch, subscription.id());
        self.replays.get(&key).is_some_and(|replays| number <= replays.covered)
    }

    /// Whether a controller has a replay of a watch under way.
    pub fn is_replaying(&self, slot: SlotId, watch: WatchId) -> bool {
        self.replays.range((slot, watch, 0)..=(slot, watch, u64::MAX)).next().is_some()
    }

    /// The first watch that a controller needs and cannot have.
    pub fn first_unwatched(&self, slot: SlotId) -> Option<&Unwatched> {
        self.waiting.range((slot, WatchId(0))..=(slot, WatchId(u32::MAX))).next().map(|(_, unwatched)| unwatched)
    }

    /// One copy of a spec for all registrations that are equal.
    pub fn share_spec(&mut self, spec: &mut Arc<ControllerSpec>) {
        match self.specs.get(spec) {
            Some(shared) => *spec = shared.clone(),
            None => {
                self.specs.insert(spec.clone());
            }
        }
    }

    /// Forgets specs that no registration has any more.
    pub fn drop_unused_specs(&mut self) {
        self.specs.retain(|spec| Arc::strong_count(spec) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH: WatchId = WatchId(7);

    fn subscription(slot: u32, registration: u32, watch: Option<u8>) -> Subscription {
        Subscription { slot: SlotId(slot), registration: RegistrationId(registration), watch }
    }

    #[test]
    fn a_subscription_is_known_by_its_number() {
        let mut ids = HashSet::new();
        for slot in [0, 1, 70_000] {
            for registration in [0, 1, 300] {
                for watch in [None, Some(0), Some(63)] {
                    let subscription = subscription(slot, registration, watch);
                    assert!(ids.insert(subscription.id()), "{subscription:?}");
                    assert_eq!(Subscription::slot_of(subscription.id()), SlotId(slot));
                }
            }
        }
    }

    #[test]
    fn a_watch_without_subscribers_is_forgotten() {
        let mut subscriptions = Subscriptions::default();
        let (a, b) = (subscription(0, 0, None), subscription(0, 1, Some(2)));
        assert!(subscriptions.add(WATCH, a, || 5));
        assert!(!subscriptions.add(WATCH, b, || unreachable!("it is known")));
        subscriptions.begin_replay(WATCH, a, Some(9));
        assert!(subscriptions.is_covered(WATCH, a, 9) && !subscriptions.is_covered(WATCH, a, 10));
        assert_eq!(subscriptions.remove(WATCH, a), Some(true));
        assert_eq!(subscriptions.remove(WATCH, b), Some(false));
        assert!(subscriptions.by_watch.is_empty() && subscriptions.seen.is_empty());
        assert!(!subscriptions.is_replaying(SlotId(0), WATCH));
        assert_eq!(subscriptions.remove(WATCH, b), None);
    }

    #[test]
    fn a_replay_is_over_when_as_many_have_ended_as_have_begun() {
        let mut subscriptions = Subscriptions::default();
        let one = subscription(3, 0, None);
        subscriptions.begin_replay(WATCH, one, None);
        subscriptions.begin_replay(WATCH, one, Some(4));
        subscriptions.end_replay(WATCH, one.id());
        assert!(subscriptions.is_replaying(SlotId(3), WATCH));
        subscriptions.end_replay(WATCH, one.id());
        subscriptions.end_replay(WATCH, one.id());
        assert!(!subscriptions.is_replaying(SlotId(3), WATCH));
    }
}
