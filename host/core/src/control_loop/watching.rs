//! Registrations into watches, and changes of watched objects into work queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wasmop_package::manifest::{ControllerSpec, Relation};

use super::parts::SlotId;
use super::slot::Slot;
use super::subscriptions::{Subscription, Unwatched};
use super::{ControlLoop, Credit, Environment};
use crate::controller::{Found, WatchedChange};
use crate::limits::problem::Problem;
use crate::own_writes::Verdict;
use crate::registration_id::RegistrationId;
use crate::status::counters::IgnoredChange;
use crate::watch::{
    Change, Judged, Passage, Primary, Replay, WatchEvent, WatchId, WatchPosition, WatchRequest, keys_for, namespaces,
    passage, shared,
};
use crate::work_queue::Key;

impl<E: Environment> ControlLoop<E> {
    /// Watches what a registration of the present instance asks for, and no longer what it asked for before. The
    /// instance sees every object.
    pub(super) fn watch(&mut self, id: SlotId, registration: RegistrationId) {
        if let Some(spec) = self.share_spec(id, registration) {
            self.slots[id].requests.track_writes(&spec);
        }
        let before = self.subscriptions_of(id, Some(registration));
        let wanted = self.wanted(id, registration);
        for (watch, subscription) in self.resubscribe(before, wanted) {
            self.replay(watch, subscription);
        }
    }

    /// The same for everything that a controller has registered, when it comes to this host.
    pub(super) fn watch_registered(&mut self, id: SlotId) {
        let registrations: Vec<_> = self.slots[id].controller.registrations().map(|r| r.id).collect();
        for registration in registrations {
            self.watch(id, registration);
        }
    }

    /// Watches what a controller may watch now, and no more.
    pub(super) fn rewatch(&mut self, id: SlotId) {
        let registrations: Vec<_> = self.slots[id].controller.registrations().map(|r| r.id).collect();
        let wanted = registrations.into_iter().flat_map(|registration| self.wanted(id, registration)).collect();
        let before = self.subscriptions_of(id, None);
        self.resubscribe(before, wanted);
    }

    /// No longer watches for a registration that is gone.
    pub(super) fn unwatch(&mut self, id: SlotId, registration: Option<RegistrationId>) {
        for (watch, subscription) in self.subscriptions_of(id, registration) {
            self.unsubscribe(watch, subscription);
        }
    }

    /// Replaces subscriptions. Returns those that stay as they were.
    fn resubscribe(
        &mut self,
        before: Vec<(WatchId, Subscription)>,
        wanted: Vec<(Subscription, WatchRequest)>,
    ) -> Vec<(WatchId, Subscription)> {
        let mut kept = Vec::new();
        for (subscription, request) in wanted {
            // First, so that a watch that another registration of the same controller has had goes on.
            let watch = self.environment.subscribe(request);
            if before.contains(&(watch, subscription)) {
                self.environment.release(watch);
                kept.push((watch, subscription));
            } else {
                self.subscribe(watch, subscription);
            }
        }
        for (watch, subscription) in before {
            if !kept.contains(&(watch, subscription)) {
                self.unsubscribe(watch, subscription);
            }
        }
        kept
    }

    /// What a registration asks for, as far as it is permitted.
    fn wanted(&mut self, id: SlotId, registration: RegistrationId) -> Vec<(Subscription, WatchRequest)> {
        let Some(spec) = self.share_spec(id, registration) else { return Vec::new() };
        let watches = (0..u8::MAX).map(Some).zip(&spec.watches);
        let mut wanted = Vec::new();
        let mut denied = Vec::new();
        for (watch, watched) in std::iter::once((None, &spec.primary)).chain(watches) {
            let slot = &self.slots[id];
            let authority = &slot.authority;
            let scope = namespaces(watched, &spec, &authority.namespaces.names);
            if let Some(refusal) = scope.refusal(&authority.namespaces) {
                denied.push((watched, refusal, authority.namespaces.how_to_allow(&slot.name, &scope.outside)));
            }
            for (n, namespace) in scope.namespaces.into_iter().enumerate() {
                let (group, plural) = (&watched.group, &watched.plural);
                let allowed = match &self.learning {
                    None => authority.permissions.may_watch(group, plural, namespace),
                    Some(learning) => learning.may_watch(&slot.name, &authority.permissions, group, plural, namespace),
                };
                if let Err(refused) = allowed {
                    denied.push((watched, refused.to_string(), refused.help(&slot.name)));
                    break;
                }
                let request = WatchRequest::new(watched, namespace, authority.service_account.clone());
                let request = WatchRequest { further: n > 0, ..request };
                wanted.push((Subscription { slot: id, registration, watch }, request));
            }
        }
        for (watched, reason, help) in denied {
            if self.may_log(id, watched.kind.len() + reason.len() + help.len()) {
                tracing::warn!(
                    controller = &*self.slots[id].name,
                    request = %format!("watch {}", watched.kind),
                    reason,
                    help,
                    "permission denied"
                );
            }
        }
        wanted
    }

    /// Tells a new subscriber what a watch has, and what comes of it.
    fn subscribe(&mut self, watch: WatchId, subscription: Subscription) {
        let Subscription { slot: id, registration, watch: index } = subscription;
        let watches = &mut self.slots[id].watches;
        if index.is_none() {
            watches.primaries.reserve_exact(1);
            watches.primaries.push((registration, watch));
        }
        if !watches.all.contains(&watch) {
            watches.all.reserve_exact(1);
            watches.all.push(watch);
        }
        let environment = &self.environment;
        let is_first = self.subscriptions.add(watch, subscription, || environment.recovered(watch));
        if self.subscriptions.is_starting || is_first {
            // No event has been handled yet: what is news to the host comes to all subscribers.
            let places = self.subscriptions.returning.get(&id).into_iter().flatten();
            let place = places.copied().find(|place| self.environment.is_in(place, watch));
            self.subscriptions.begin_replay(watch, subscription, None);
            self.environment.recall(watch, subscription.id(), place);
        } else {
            self.replay(watch, subscription);
        }
    }

    /// The subscriber is told nothing more of this watch.
    fn unsubscribe(&mut self, watch: WatchId, subscription: Subscription) {
        let Some(has_other) = self.subscriptions.remove(watch, subscription) else { return };
        let watches = &mut self.slots[subscription.slot].watches;
        if subscription.watch.is_none() {
            // Another watch may have taken its place.
            watches.primaries.retain(|primary| *primary != (subscription.registration, watch));
        }
        if !has_other {
            watches.all.retain(|other| *other != watch);
        }
        self.environment.release(watch);
    }

    /// All subscriptions of a controller, or of one of its registrations.
    fn subscriptions_of(&self, id: SlotId, registration: Option<RegistrationId>) -> Vec<(WatchId, Subscription)> {
        let is_wanted = |subscription: &Subscription| {
            subscription.slot == id && registration.is_none_or(|of| of == subscription.registration)
        };
        let watches = self.slots[id].watches.all.iter();
        let subscriptions = watches.filter_map(|watch| Some((watch, self.subscriptions.by_watch.get(watch)?)));
        let of = |(watch, all): (&WatchId, &Arc<Vec<Subscription>>)| {
            all.iter().copied().filter(is_wanted).map(|subscription| (*watch, subscription)).collect::<Vec<_>>()
        };
        subscriptions.flat_map(of).collect()
    }

    /// Has a subscriber see all objects.
    fn replay(&mut self, watch: WatchId, subscription: Subscription) {
        let covered = self.environment.replay(watch, subscription.id());
        self.subscriptions.begin_replay(watch, subscription, Some(covered));
    }

    /// How much of its watches is in a controller's work queues, to be kept with its snapshot; and the watches whose
    /// journals have to be written for that to be of use.
    pub(super) fn places(&self, id: SlotId) -> (Vec<WatchPosition>, Vec<WatchId>) {
        let slot = &self.slots[id];
        if slot.controller.has_unasked() {
            return Default::default();
        }
        let watches = slot.watches.all.iter();
        let seen = watches.clone().filter(|watch| !self.subscriptions.is_replaying(id, **watch));
        let places =
            seen.filter_map(|watch| self.environment.place(*watch, *self.subscriptions.seen.get(watch)?)).collect();
        (places, watches.copied().filter(|watch| self.environment.is_recorded(*watch)).collect())
    }

    /// The spec of a registration, one copy for all controllers that register the same.
    fn share_spec(&mut self, id: SlotId, registration: RegistrationId) -> Option<Arc<ControllerSpec>> {
        let spec = &mut self.slots[id].controller.registration_mut(registration)?.spec;
        self.subscriptions.share_spec(spec);
        Some(spec.clone())
    }

    /// A watch has news: into the work queues of its subscribers.
    pub(super) fn on_watch(&mut self, event: &WatchEvent) {
        self.totals.watch_events += 1;
        let subscribers = self.subscriptions.of_watch(event.watch);
        if let Change::Deleted { key, meta, .. } = &event.change {
            self.on_object_gone(event.watch, &subscribers, key, meta.uid);
        }
        // An event may come from a watch that has ended.
        if event.replay.is_none()
            && let Some(seen) = self.subscriptions.seen.get_mut(&event.watch)
        {
            *seen = event.number;
        }
        if let (Change::Replayed, Some(Replay { subscriber, .. })) = (&event.change, event.replay) {
            // Also for a subscriber that is gone: it may come back.
            return self.subscriptions.end_replay(event.watch, subscriber);
        }
        if let Change::Waiting(_) | Change::Synced = &event.change {
            return self.on_watch_state(event, &subscribers);
        }
        // Controllers of one package have the same predicate.
        let mut judged = HashMap::new();
        for subscription in &*subscribers {
            if self.concerns(*subscription, event) {
                self.on_change(*subscription, event, &mut judged);
            }
        }
    }

    /// Whether an event is for this subscriber, and not part of a replay that it still gets.
    fn concerns(&self, subscription: Subscription, event: &WatchEvent) -> bool {
        match event.replay {
            Some(replay) => replay.subscriber == subscription.id(),
            None => !self.subscriptions.is_covered(event.watch, subscription, event.number),
        }
    }

    /// A watched object has changed, as one subscriber sees it.
    fn on_change(&mut self, subscription: Subscription, event: &WatchEvent, judged: &mut HashMap<String, Judged>) {
        let Subscription { slot: id, registration, .. } = subscription;
        let slot = &mut self.slots[id];
        let Some(spec) = slot.controller.registration(registration).map(|r| r.spec.clone()) else { return };
        let watched = match subscription.watch {
            None => Some(&spec.primary),
            Some(n) => spec.watches.get(usize::from(n)),
        };
        let Some(watched) = watched else { return };
        if spec.only_existing
            && subscription.watch.is_none()
            && let Change::Deleted { key, .. } = &event.change
        {
            slot.controller.drop_object(registration, key);
            return slot.counters.change_ignored(IgnoredChange::Predicate);
        }
        // A replay presents all objects as new: they are all to be seen.
        match passage(watched.generation_changed, &event.change) {
            Passage::Counts => {}
            Passage::LeftOut => return slot.counters.change_ignored(IgnoredChange::Predicate),
            Passage::NoChange => return,
        }
        if event.replay.is_none() && !watched.predicate.is_empty() {
            match self.judge(id, &watched.predicate, &event.change, judged) {
                Judged::Counts => {}
                Judged::Ignored => return self.slots[id].counters.change_ignored(IgnoredChange::Predicate),
                Judged::Failed(why) => {
                    let key = event.change.key().map_or("an object", |key| &**key);
                    let kind = &watched.kind;
                    let text = format!("the predicate of its watch of {kind}, for {key}: {why}; the change counts");
                    self.report_problem(id, Problem::Predicate, None, &text);
                }
            }
        }
        let slot = &mut self.slots[id];
        let relation = if subscription.watch.is_none() { Relation::Own } else { watched.relation };
        if relation == Relation::Map {
            let watch = subscription.watch.map_or(0, u32::from);
            if let Some(change) = WatchedChange::of(registration, watch, event.watch, &event.change) {
                slot.controller.enqueue_map(change);
                self.touched.insert(id);
            }
            return;
        }
        // A controller that sees all objects does not see those in backoff sooner.
        let is_listed = event.replay.is_some_and(|replay| !replay.missed);
        let namespaced = slot.watches.primaries_of(registration).find_map(|watch| self.environment.namespaced(watch));
        let primary = Primary { group: &spec.primary.group, kind: &spec.primary.kind, namespaced };
        for key in keys_for(relation, primary, &event.change) {
            if watched.ignore_own_writes && self.is_own_write(subscription, relation, &key, event) {
                continue;
            }
            self.slots[id].note_trigger(registration, &key, event);
            if relation == Relation::Own {
                let now = self.now.host;
                self.slots[id].enqueue(registration, key, is_listed, now);
                self.touched.insert(id);
            } else if self.enqueue_related(id, registration, key, is_listed) {
                self.touched.insert(id);
            } else {
                self.slots[id].counters.change_ignored(IgnoredChange::Unrelated);
            }
        }
    }

    /// What a predicate says of a change, once for all subscribers with the same. It costs the first one CPU time.
    fn judge(&mut self, id: SlotId, predicate: &str, change: &Change, judged: &mut HashMap<String, Judged>) -> Judged {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        if let Some(verdict) = judged.get(predicate) {
            return verdict.clone();
        }
        if slot.throttles.cpu_share.is_used_up(&slot.package.limits, now) {
            return Judged::Counts;
        }
        let (verdict, took) = self.environment.judge(predicate, change);
        slot.throttles.cpu_share.used(&slot.package.limits, took, now);
        judged.insert(predicate.to_owned(), verdict.clone());
        verdict
    }

    /// Tells each subscriber's owner that a watch cannot be had, and that it can be again. A replay covers objects,
    /// not this.
    fn on_watch_state(&mut self, event: &WatchEvent, subscribers: &[Subscription]) {
        let now = self.now.host;
        for subscription in subscribers {
            if event.replay.is_some_and(|replay| replay.subscriber != subscription.id()) {
                continue;
            }
            let controller = &*self.slots[subscription.slot].name;
            let place = (subscription.slot, event.watch);
            let unwatched = &mut self.subscriptions.waiting;
            match &event.change {
                Change::Waiting(waiting) => {
                    let known = unwatched.get(&place);
                    if known.is_some_and(|known| known.waiting.cause == waiting.cause) {
                        continue;
                    }
                    tracing::warn!(
                        controller,
                        resource = %waiting.resource,
                        reason = %waiting.message,
                        help = %waiting.help(),
                        "waiting for resource"
                    );
                    let since = known.map_or(now, |known| known.since);
                    unwatched.insert(place, Unwatched { waiting: waiting.clone(), since });
                }
                _ => {
                    if let Some(known) = unwatched.remove(&place) {
                        let seconds = now.saturating_sub(known.since).as_secs_f64();
                        tracing::info!(controller, resource = %known.waiting.resource, seconds, "resource is available");
                    }
                }
            }
        }
    }

    /// Whether a change is the controller's own, or may be: then it is queued so that it can be taken back.
    fn is_own_write(&mut self, by: Subscription, relation: Relation, key: &Key, event: &WatchEvent) -> bool {
        let (None, Change::Applied { meta, old, .. }) = (event.replay, &event.change) else { return false };
        let now = self.now.host;
        let slot = &mut self.slots[by.slot];
        let Some(own) = &mut slot.requests.own_writes else { return false };
        let concerned = (by.registration, key.clone());
        match own.judge(&concerned, old.as_ref(), meta) {
            Verdict::Other => false,
            Verdict::Own => {
                slot.counters.change_ignored(IgnoredChange::OwnWrite);
                true
            }
            Verdict::Maybe => {
                let mut primaries = slot.watches.primaries_of(by.registration);
                let is_watched =
                    relation == Relation::Own || primaries.any(|watch| self.environment.contains(watch, key));
                let is_held = is_watched && slot.controller.enqueue_held(by.registration, key.clone(), now);
                if is_held {
                    own.hold(&concerned, old.as_ref(), meta);
                }
                is_held
            }
        }
    }

    /// Completes the changes that a guest is asked about next: there may have been no room for their objects.
    pub(super) fn complete_changes(&mut self, id: SlotId) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let environment = &self.environment;
        slot.controller.look_up_changes(|watch, key| match environment.object(watch, key) {
            Some(object) => Found::Object(shared(object)),
            None if environment.contains(watch, key) => Found::WithoutObject,
            None => Found::Nothing,
        });
        for (registration, at) in slot.controller.take_all_due() {
            let primaries = slot.watches.primaries_of(registration);
            let keys: Vec<Key> = primaries.flat_map(|primary| environment.keys(primary)).collect();
            for key in keys {
                slot.controller.enqueue_at(registration, key, at, now);
            }
        }
    }

    /// Queues what a guest's map function names. As in controller-runtime, it need not be an object that is watched.
    /// Returns how many of the names are no keys. Names beyond the room for them are dropped and logged: the guest
    /// does nothing wrong, and its next list brings what exists.
    pub(super) fn enqueue_mapped(&mut self, id: SlotId, registration: RegistrationId, keys: Vec<Key>) -> usize {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let only_existing = slot.controller.registration(registration).is_some_and(|r| r.spec.only_existing);
        let (mut malformed, mut dropped) = (0, 0);
        for key in keys {
            let mut primaries = slot.watches.primaries_of(registration);
            if primaries.any(|watch| self.environment.contains(watch, &key)) {
                slot.controller.enqueue(registration, key, now);
            } else if only_existing {
                slot.counters.change_ignored(IgnoredChange::Unrelated);
            } else {
                match slot.controller.enqueue_unknown(registration, key, now) {
                    Some(true) => {}
                    Some(false) => dropped += 1,
                    None => malformed += 1,
                }
            }
        }
        if dropped > 0 && self.may_log(id, 0) {
            tracing::warn!(
                controller = &*self.slots[id].name,
                dropped,
                "map function: too many names without an object wait to be reconciled; dropped the rest"
            );
        }
        malformed
    }

    /// Queues an object that a change of another one concerns, if the controller watches it. One that it does not
    /// watch yet is queued when it is. `is_listed`: for a new instance, which sees all.
    fn enqueue_related(&mut self, id: SlotId, registration: RegistrationId, key: Key, is_listed: bool) -> bool {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let is_watched = slot.watches.primaries_of(registration).any(|watch| self.environment.contains(watch, &key));
        if is_watched {
            slot.enqueue(registration, key, is_listed, now);
        }
        is_watched
    }
}

impl<C: Credit> Slot<C> {
    /// A change triggers a reconcile: is it what the controller has written itself?
    fn note_trigger(&mut self, registration: RegistrationId, key: &Key, event: &WatchEvent) {
        let Some(triggers) = &mut self.requests.self_triggers else { return };
        let object = (registration, key.clone());
        match &event.change {
            Change::Applied { meta, .. } if event.replay.is_none() => {
                triggers.triggered(&object, meta.resource_version);
            }
            _ => triggers.interrupted(&object),
        }
    }

    fn enqueue(&mut self, registration: RegistrationId, key: Key, is_listed: bool, now: Duration) {
        match is_listed {
            true => self.controller.enqueue_listed(registration, key, now),
            false => self.controller.enqueue(registration, key, now),
        }
    }
}
