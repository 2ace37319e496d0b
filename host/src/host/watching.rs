//! Registrations to watches, and changes of watched objects into work queues.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmop_api::watch::Watched;
use wasmop_core::controller::{Found, WatchedChange};
use wasmop_core::limits::problem::Problem;
use wasmop_core::own_writes::Verdict;
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::status::counters::Avoided;
use wasmop_core::watch::{
    Change, Judged, Passage, Place, Primary, Replay, WatchEvent, WatchId, WatchRequest, keys_for, namespaces, passage,
    shared,
};
use wasmop_core::work_queue::Key;
use wasmop_package::manifest::{ControllerSpec, Relation};

use super::{Host, Replays, Slot, Subscription, Unwatched};

impl Host {
    /// Watches what a registration of the present instance asks for, and no longer what it asked for before. The
    /// instance sees every object.
    pub(super) fn watch(&mut self, index: u32, registration: RegistrationId) {
        if let Some(spec) = self.shared(index, registration) {
            self.slots[index as usize].follow_writes(&spec);
        }
        let before = self.subscriptions_of(index, Some(registration));
        let wanted = self.wanted(index, registration);
        for (watch, subscription) in self.resubscribe(before, wanted) {
            self.replay(watch, subscription);
        }
    }

    /// The same for all that a controller has registered, when it comes to this host.
    pub(super) fn watch_registered(&mut self, index: u32) {
        let registrations: Vec<_> = self.slots[index as usize].controller.registrations().map(|r| r.id).collect();
        for registration in registrations {
            self.watch(index, registration);
        }
    }

    /// Watches what a controller is allowed now, and no more.
    pub(super) fn rewatch(&mut self, index: u32) {
        let registrations: Vec<_> = self.slots[index as usize].controller.registrations().map(|r| r.id).collect();
        let wanted = registrations.into_iter().flat_map(|registration| self.wanted(index, registration)).collect();
        let before = self.subscriptions_of(index, None);
        self.resubscribe(before, wanted);
    }

    /// No longer watches for a registration that is gone.
    pub(super) fn unwatch(&mut self, index: u32, registration: RegistrationId) {
        for (watch, subscription) in self.subscriptions_of(index, Some(registration)) {
            self.unsubscribe(watch, subscription);
        }
    }

    /// Replaces subscriptions. Returns those that stay as they were.
    fn resubscribe(
        &mut self,
        before: Vec<(WatchId, Subscription)>,
        wanted: Vec<(Subscription, WatchRequest)>,
    ) -> Vec<(WatchId, Subscription)> {
        let is_in = |all: &[(WatchId, Subscription)], watch, subscription: Subscription| {
            all.iter().any(|(other, of)| *other == watch && of.id() == subscription.id())
        };
        let mut kept = Vec::new();
        for (subscription, request) in wanted {
            // First, so that a watch that somebody else of the same controller has had goes on.
            let watch = self.hub.subscribe(request);
            if is_in(&before, watch, subscription) {
                self.hub.release(watch);
                kept.push((watch, subscription));
            } else {
                self.subscribe(watch, subscription);
            }
        }
        for (watch, subscription) in before {
            if !is_in(&kept, watch, subscription) {
                self.unsubscribe(watch, subscription);
            }
        }
        kept
    }

    /// What a registration asks for, as far as it is allowed.
    fn wanted(&mut self, index: u32, registration: RegistrationId) -> Vec<(Subscription, WatchRequest)> {
        let Some(spec) = self.shared(index, registration) else { return Vec::new() };
        let watches = (0..u8::MAX).map(Some).zip(&spec.watches);
        let mut wanted = Vec::new();
        let mut denied = Vec::new();
        for (watch, watched) in std::iter::once((None, &spec.primary)).chain(watches) {
            let slot = &self.slots[index as usize];
            let scope = namespaces(watched, &spec, &slot.namespaces.names);
            if let Some(refusal) = scope.refusal(&slot.namespaces) {
                denied.push((watched, refusal, slot.namespaces.how_to_allow(&slot.name, &scope.outside)));
            }
            for (n, namespace) in scope.namespaces.into_iter().enumerate() {
                let (group, plural) = (&watched.group, &watched.plural);
                let allowed = match &self.learning {
                    None => slot.permissions.may_watch(group, plural, namespace),
                    Some(learning) => learning.may_watch(&slot.name, &slot.permissions, group, plural, namespace),
                };
                if let Err(refused) = allowed {
                    denied.push((watched, refused.to_string(), refused.help(&slot.name)));
                    break;
                }
                let request = WatchRequest::new(watched, namespace, slot.service_account.clone());
                let request = WatchRequest { further: n > 0, ..request };
                wanted.push((Subscription { slot: index, registration, watch }, request));
            }
        }
        for (watched, reason, help) in denied {
            if self.may_log(index, watched.kind.len() + reason.len() + help.len()) {
                tracing::warn!(
                    controller = &*self.slots[index as usize].name,
                    request = %format!("watch {}", watched.kind),
                    reason,
                    help,
                    "permission denied"
                );
            }
        }
        wanted
    }

    /// Tells a new subscriber what a watch of the hub has, and what comes of it.
    fn subscribe(&mut self, id: WatchId, subscription: Subscription) {
        let Subscription { slot: index, registration, watch } = subscription;
        if watch.is_none() {
            let primaries = &mut self.slots[index as usize].primaries;
            primaries.reserve_exact(1);
            primaries.push((registration, id));
        }
        let watches = &mut self.slots[index as usize].watches;
        if !watches.contains(&id) {
            watches.reserve_exact(1);
            watches.push(id);
        }
        self.seen.entry(id).or_insert_with(|| self.hub.recovered(id));
        let subscribers = self.subscriptions.entry(id).or_default();
        let is_first = subscribers.is_empty();
        Arc::make_mut(subscribers).push(subscription);
        if self.starting || is_first {
            // No event has been taken in yet: what is news to the host comes to all of them.
            let places = self.returning.get(&index).into_iter().flatten();
            let place = places.copied().find(|place| self.hub.is_in(place, id));
            self.replays.entry((index, id, subscription.id())).or_default().under_way += 1;
            self.hub.recall(id, subscription.id(), place);
        } else {
            self.replay(id, subscription);
        }
    }

    /// What comes of this watch is no longer told to this subscriber.
    pub(super) fn unsubscribe(&mut self, id: WatchId, subscription: Subscription) {
        let Subscription { slot: index, registration, watch } = subscription;
        let Some(subscribers) = self.subscriptions.get_mut(&id) else { return };
        let subscribers = Arc::make_mut(subscribers);
        subscribers.retain(|other| other.id() != subscription.id());
        let slot = &mut self.slots[index as usize];
        if watch.is_none() {
            // Another watch may have taken its place.
            slot.primaries.retain(|primary| *primary != (registration, id));
        }
        if !subscribers.iter().any(|other| other.slot == index) {
            slot.watches.retain(|watch| *watch != id);
            self.waiting.remove(&(index, id));
        }
        if subscribers.is_empty() {
            self.subscriptions.remove(&id);
            self.seen.remove(&id);
            self.replays.retain(|(_, watch, _), _| *watch != id);
        }
        self.hub.release(id);
    }

    /// All watches of a controller, or of one of its registrations.
    pub(super) fn subscriptions_of(
        &self,
        index: u32,
        registration: Option<RegistrationId>,
    ) -> Vec<(WatchId, Subscription)> {
        let is_wanted = |subscription: &Subscription| {
            subscription.slot == index && registration.is_none_or(|of| of == subscription.registration)
        };
        let watches = self.slots[index as usize].watches.iter();
        let subscriptions = watches.filter_map(|watch| Some((watch, self.subscriptions.get(watch)?)));
        let of = |(watch, all): (&WatchId, &Arc<Vec<Subscription>>)| {
            all.iter().copied().filter(is_wanted).map(|subscription| (*watch, subscription)).collect::<Vec<_>>()
        };
        subscriptions.flat_map(of).collect()
    }

    /// Has a subscriber told all there is.
    pub(super) fn replay(&mut self, id: WatchId, subscription: Subscription) {
        let covered = self.hub.replay(id, subscription.id());
        let replays = self.replays.entry((subscription.slot, id, subscription.id())).or_default();
        *replays = Replays { under_way: replays.under_way + 1, covered };
    }

    /// What of its watches is in a controller's work queues, to be kept with its snapshot, and what has to be
    /// written for that to be of use.
    pub(super) fn places(&self, index: u32) -> (Vec<Place>, Vec<Watched>) {
        let slot = &self.slots[index as usize];
        if slot.controller.has_unasked() {
            return Default::default();
        }
        let seen = slot
            .watches
            .iter()
            .filter(|id| self.replays.range((index, **id, 0)..=(index, **id, u64::MAX)).next().is_none());
        let places = seen.filter_map(|id| self.hub.place(*id, *self.seen.get(id)?));
        (places.collect(), slot.watches.iter().filter_map(|id| self.hub.watched(*id)).collect())
    }

    /// The spec of a registration, one copy for all controllers that register the same: those of one
    /// package do.
    fn shared(&mut self, index: u32, registration: RegistrationId) -> Option<Arc<ControllerSpec>> {
        let own = &mut self.slots[index as usize].controller.registration_mut(registration)?.spec;
        match self.specs.get(own) {
            Some(shared) => *own = shared.clone(),
            None => {
                self.specs.insert(own.clone());
            }
        }
        Some(own.clone())
    }

    pub(super) fn on_watch(&mut self, event: WatchEvent, touched: &mut BTreeSet<u32>) {
        let now = self.now();
        self.totals.watch_events += 1;
        let subscribers = self.subscriptions.get(&event.watch).cloned().unwrap_or_default();
        if let Change::Deleted { key, meta, .. } = &event.change {
            self.on_gone(event.watch, &subscribers, key, meta.uid);
        }
        if event.replay.is_none() {
            self.seen.insert(event.watch, event.number);
        }
        if let (Change::Replayed, Some(Replay { subscriber, .. })) = (&event.change, event.replay) {
            // Also for one that is no longer subscribed, but may be again.
            let replays = (Subscription::slot_of(subscriber), event.watch, subscriber);
            if let Some(under_way) = self.replays.get_mut(&replays).map(|replays| &mut replays.under_way) {
                *under_way -= 1;
                if *under_way == 0 {
                    self.replays.remove(&replays);
                }
            }
            return;
        }
        if let Change::Waiting(_) | Change::Synced = &event.change {
            return self.on_watch_state(&event, &subscribers);
        }
        // Controllers of one package have the same predicate.
        let mut judged: Vec<(String, Judged)> = Vec::new();
        for subscription in &*subscribers {
            if event.replay.is_some_and(|replay| replay.subscriber != subscription.id()) {
                continue;
            }
            let replays = (subscription.slot, event.watch, subscription.id());
            // It comes with the replay.
            if event.replay.is_none() && self.replays.get(&replays).is_some_and(|r| event.number <= r.covered) {
                continue;
            }
            let slot = &mut self.slots[subscription.slot as usize];
            let Some(spec) = slot.controller.registration(subscription.registration).map(|r| r.spec.clone()) else {
                continue;
            };
            let watched = match subscription.watch {
                None => Some(&spec.primary),
                Some(n) => spec.watches.get(usize::from(n)),
            };
            let Some(watched) = watched else { continue };
            // A replay gives all objects as new: they are all to be seen.
            match passage(watched.generation_changed, &event.change) {
                Passage::Counts => {}
                Passage::LeftOut => {
                    slot.counters.avoided(Avoided::Predicate);
                    continue;
                }
                Passage::NoChange => continue,
            }
            if event.replay.is_none() && !watched.predicate.is_empty() {
                let known = judged.iter().find(|(text, _)| *text == watched.predicate);
                let limits = slot.package.limits();
                let verdict = match known {
                    Some((_, verdict)) => verdict.clone(),
                    // It is judged on its controller's time.
                    None if slot.pace.is_used_up(limits, now) => Judged::Counts,
                    None => {
                        let begun = Instant::now();
                        let verdict = self.predicates.judge(&watched.predicate, &event.change);
                        slot.pace.used(limits, begun.elapsed(), now);
                        judged.push((watched.predicate.clone(), verdict.clone()));
                        verdict
                    }
                };
                match verdict {
                    Judged::Counts => {}
                    Judged::Ignored => {
                        slot.counters.avoided(Avoided::Predicate);
                        continue;
                    }
                    Judged::Failed(why) => {
                        let key = event.change.key().map_or("an object", |key| &**key);
                        let kind = &watched.kind;
                        let text = format!("the predicate of its watch of {kind}, for {key}: {why}; the change counts");
                        self.tell(subscription.slot, Problem::Predicate, None, &text);
                    }
                }
            }
            let slot = &mut self.slots[subscription.slot as usize];
            // Who sees all there is doesn't see sooner what failed before.
            let listed = event.replay.is_some_and(|replay| !replay.missed);
            let relation = if subscription.watch.is_none() { Relation::Own } else { watched.relation };
            if relation == Relation::Map {
                let watch = subscription.watch.map_or(0, u32::from);
                if let Some(change) = WatchedChange::of(subscription.registration, watch, event.watch, &event.change) {
                    slot.controller.enqueue_map(change);
                    touched.insert(subscription.slot);
                }
                continue;
            }
            let namespaced = slot.primaries_of(subscription.registration).find_map(|id| self.hub.namespaced(id));
            let primary = Primary { group: &spec.primary.group, kind: &spec.primary.kind, namespaced };
            for key in keys_for(relation, primary, &event.change) {
                if watched.ignore_own_writes && self.is_own_write(*subscription, relation, &key, &event) {
                    continue;
                }
                self.slots[subscription.slot as usize].follow_trigger(subscription.registration, &key, &event);
                if relation == Relation::Own {
                    let slot = &mut self.slots[subscription.slot as usize];
                    slot.enqueue(subscription.registration, key, listed, now);
                    touched.insert(subscription.slot);
                } else if self.enqueue_related(subscription.slot, subscription.registration, key, listed) {
                    touched.insert(subscription.slot);
                } else {
                    self.slots[subscription.slot as usize].counters.avoided(Avoided::Unrelated);
                }
            }
        }
    }

    /// Tells each subscriber's owner that a watch cannot be had, and that it can be again. A replay covers objects,
    /// not this.
    fn on_watch_state(&mut self, event: &WatchEvent, subscribers: &[Subscription]) {
        let now = self.now();
        for subscription in subscribers {
            if event.replay.is_some_and(|replay| replay.subscriber != subscription.id()) {
                continue;
            }
            let controller = &*self.slots[subscription.slot as usize].name;
            let place = (subscription.slot, event.watch);
            match &event.change {
                Change::Waiting(waiting) => {
                    let told = self.waiting.get(&place);
                    if told.is_some_and(|told| told.waiting.cause == waiting.cause) {
                        continue;
                    }
                    tracing::warn!(
                        controller,
                        resource = %waiting.resource,
                        reason = %waiting.message,
                        help = %waiting.help(),
                        "waiting for resource"
                    );
                    let since = told.map_or(now, |told| told.since);
                    self.waiting.insert(place, Unwatched { waiting: waiting.clone(), since });
                }
                _ => {
                    if let Some(told) = self.waiting.remove(&place) {
                        let seconds = now.saturating_sub(told.since).as_secs_f64();
                        tracing::info!(controller, resource = %told.waiting.resource, seconds, "resource is available");
                    }
                }
            }
        }
    }

    /// Whether a change is the controller's own, or may be: then it is queued so that it can be taken back.
    fn is_own_write(&mut self, by: Subscription, relation: Relation, key: &Key, event: &WatchEvent) -> bool {
        let (None, Change::Applied { meta, old, .. }) = (event.replay, &event.change) else { return false };
        let now = self.now();
        let slot = &mut self.slots[by.slot as usize];
        let Some(own) = &mut slot.own_writes else { return false };
        let concerned = (by.registration, key.clone());
        match own.judge(&concerned, old.as_ref(), meta) {
            Verdict::Other => false,
            Verdict::Own => {
                slot.counters.avoided(Avoided::OwnWrite);
                true
            }
            Verdict::Maybe => {
                let is_watched = relation == Relation::Own
                    || slot.primaries.iter().any(|(of, id)| *of == by.registration && self.hub.contains(*id, key));
                let is_held = is_watched && slot.controller.enqueue_held(by.registration, key.clone(), now);
                if is_held {
                    own.hold(&concerned, old.as_ref(), meta);
                }
                is_held
            }
        }
    }

    /// Completes the changes that a guest is asked about next: there may have been no room for their objects.
    pub(super) fn complete_changes(&mut self, index: u32) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        slot.controller.look_up_changes(|watch, key| match self.hub.object(watch, key) {
            Some(object) => Found::Object(shared(object)),
            None if self.hub.contains(watch, key) => Found::WithoutObject,
            None => Found::Nothing,
        });
        for (registration, at) in slot.controller.take_all_due() {
            let keys: Vec<Key> = slot.primaries_of(registration).flat_map(|primary| self.hub.keys(primary)).collect();
            for key in keys {
                slot.controller.enqueue_at(registration, key, at, now);
            }
        }
    }

    /// Queues what a guest's map function names. As in controller-runtime, it need not be an object that is watched.
    /// Returns how many of the names are no keys. Names beyond the room for them are dropped, and logged: the guest
    /// does nothing wrong, and its next list brings what exists.
    pub(super) fn enqueue_mapped(&mut self, index: u32, registration: RegistrationId, keys: Vec<Key>) -> usize {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let (mut nonsense, mut dropped) = (0, 0);
        for key in keys {
            if slot.primaries_of(registration).any(|id| self.hub.contains(id, &key)) {
                slot.controller.enqueue(registration, key, now);
            } else {
                match slot.controller.enqueue_unknown(registration, key, now) {
                    Some(true) => {}
                    Some(false) => dropped += 1,
                    None => nonsense += 1,
                }
            }
        }
        if dropped > 0 && self.may_log(index, 0) {
            tracing::warn!(
                controller = &*self.slots[index as usize].name,
                dropped,
                "map function: too many names without an object wait to be reconciled; dropped the rest"
            );
        }
        nonsense
    }

    /// Queues an object that a change of another one concerns, if it is among those the controller
    /// watches. One that isn't yet will be queued when it is. `listed`: for a new instance, which sees all.
    pub(super) fn enqueue_related(&mut self, index: u32, registration: RegistrationId, key: Key, listed: bool) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let watched = slot.primaries_of(registration).any(|id| self.hub.contains(id, &key));
        if watched {
            slot.enqueue(registration, key, listed, now);
        }
        watched
    }
}

impl Slot {
    /// A change has an object reconciled: is it what the controller has written itself?
    fn follow_trigger(&mut self, registration: RegistrationId, key: &Key, event: &WatchEvent) {
        let Some(triggers) = &mut self.self_triggers else { return };
        let object = (registration, key.clone());
        match &event.change {
            Change::Applied { meta, .. } if event.replay.is_none() => {
                triggers.triggered(&object, meta.resource_version);
            }
            _ => triggers.interrupted(&object),
        }
    }

    fn enqueue(&mut self, registration: RegistrationId, key: Key, listed: bool, now: Duration) {
        match listed {
            true => self.controller.enqueue_listed(registration, key, now),
            false => self.controller.enqueue(registration, key, now),
        }
    }
}
