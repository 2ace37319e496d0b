//! Registrations to watches, and changes of watched objects into work queues.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use wasmop_package::manifest::{ControllerSpec, Relation};

use super::{Host, Subscription};
use crate::queue::Key;
use crate::status::counters::Avoided;
use crate::watch::{Change, Primary, WatchEvent, WatchRequest, keys_for, passes};

impl Host {
    /// Watches what a registration asks for.
    pub(super) fn watch(&mut self, index: u32, registration: u32) {
        let slot = &self.slots[index as usize];
        let (name, permissions) = (slot.name.clone(), slot.permissions.clone());
        let spec = self.shared(index, registration);
        let namespace = spec.namespace.clone().or_else(|| self.namespace.clone());
        let watches = spec.watches.iter().enumerate().map(|(n, w)| (Some(n as u16), w));
        for (watch, watched) in std::iter::once((None, &spec.primary)).chain(watches) {
            let request = WatchRequest::new(watched, namespace.as_deref());
            let allowed = permissions.may_watch(&watched.group, &watched.plural, namespace.as_deref());
            if let Err(denied) = allowed {
                tracing::warn!(
                    controller = &*name,
                    request = %format!("watch {}", watched.kind),
                    reason = %denied,
                    help = %denied.help(),
                    "permission denied"
                );
                continue;
            }
            let subscription = Subscription { slot: index, registration, watch };
            let id = self.hub.subscribe(request);
            if watch.is_none() {
                let primaries = &mut self.slots[index as usize].primaries;
                primaries.resize(primaries.len().max(registration as usize + 1), None);
                primaries[registration as usize] = Some(id);
            }
            let subscribers = self.subscriptions.entry(id).or_default();
            if !subscribers.is_empty() {
                self.hub.replay(id, subscription.id());
            }
            Arc::make_mut(subscribers).push(subscription);
        }
    }

    /// The spec of a registration, one copy for all controllers that register the same: those of one
    /// package do.
    fn shared(&mut self, index: u32, registration: u32) -> Arc<ControllerSpec> {
        let own = &mut self.slots[index as usize].controller.registrations[registration as usize].spec;
        match self.specs.get(own) {
            Some(shared) => *own = shared.clone(),
            None => {
                self.specs.insert(own.clone());
            }
        }
        own.clone()
    }

    pub(super) fn on_watch(&mut self, event: WatchEvent, touched: &mut BTreeSet<u32>) {
        let now = self.now();
        self.totals.watch_events += 1;
        let subscribers = self.subscriptions.get(&event.watch).cloned().unwrap_or_default();
        for subscription in &*subscribers {
            if event.subscriber.is_some_and(|one| one != subscription.id()) {
                continue;
            }
            let slot = &mut self.slots[subscription.slot as usize];
            let Some(spec) =
                slot.controller.registrations.get(subscription.registration as usize).map(|r| r.spec.clone())
            else {
                continue;
            };
            if let Change::Waiting(waiting) = &event.change {
                tracing::warn!(
                    controller = &*slot.name,
                    resource = %waiting.resource,
                    reason = %waiting.message,
                    help = %waiting.help(),
                    "waiting for resource"
                );
                continue;
            }
            let watched = subscription.watch.map_or(&spec.primary, |n| &spec.watches[n as usize]);
            // A replay gives all objects as new: they are all to be seen.
            if !passes(watched.generation_changed, &event.change) {
                slot.counters.avoided(Avoided::Predicate);
                continue;
            }
            let relation = if subscription.watch.is_none() { Relation::Own } else { watched.relation };
            if relation == Relation::Map {
                if let Change::Applied { object: Some(object), .. } | Change::Deleted { object: Some(object), .. } =
                    &event.change
                {
                    let watch = u32::from(subscription.watch.unwrap_or(0));
                    let object = Bytes::copy_from_slice(object.as_bytes());
                    slot.controller.enqueue_map(subscription.registration, watch, object);
                    touched.insert(subscription.slot);
                }
                continue;
            }
            let namespaced = slot
                .primaries
                .get(subscription.registration as usize)
                .and_then(|id| self.hub.resolved((*id)?))
                .map(|r| r.namespaced);
            let primary = Primary { group: &spec.primary.group, kind: &spec.primary.kind, namespaced };
            for key in keys_for(relation, primary, &event.change) {
                if relation == Relation::Own {
                    let controller = &mut self.slots[subscription.slot as usize].controller;
                    match event.subscriber {
                        None => controller.enqueue(subscription.registration, key, now),
                        Some(_) => controller.enqueue_listed(subscription.registration, key, now),
                    }
                    touched.insert(subscription.slot);
                } else if self.enqueue_related(
                    subscription.slot,
                    subscription.registration,
                    key,
                    event.subscriber.is_some(),
                ) {
                    touched.insert(subscription.slot);
                } else {
                    self.slots[subscription.slot as usize].counters.avoided(Avoided::Unrelated);
                }
            }
        }
    }

    /// Queues an object that a change of another one concerns, if it is among those the controller
    /// watches. One that isn't yet will be queued when it is. `listed`: for a new instance, which sees all.
    pub(super) fn enqueue_related(&mut self, index: u32, registration: u32, key: Key, listed: bool) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let primary = slot.primaries.get(registration as usize).copied().flatten();
        let watched = primary.is_some_and(|id| self.hub.contains(id, &key));
        if watched {
            match listed {
                true => slot.controller.enqueue_listed(registration, key, now),
                false => slot.controller.enqueue(registration, key, now),
            }
        }
        watched
    }
}
