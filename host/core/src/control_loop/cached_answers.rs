//! Reads that may come from a cache, answered in the turn that makes them.

use bytes::Bytes;

use super::slot::SlotId;
use super::subscriptions::Subscription;
use super::{ControlLoop, Credit, Environment, HostEffect, RESPONSE_CREDIT_BYTES, SpanEvent};
use crate::cached_reads::{ANY_VERSION, Any, Asked, Resource, asked, key_of, list, newest};
use crate::permissions::Allowed;
use crate::reply::CHUNK_BYTES;
use crate::status::counters::CachedRead;
use crate::step::{Call, EventKind};
use crate::watch::{WatchId, WatchRequest};

impl<E: Environment> ControlLoop<E> {
    /// Answers a read from the cache. `false`: it has to be sent to the API server. A read that has to see the
    /// controller's own writes then asks for the newest state.
    pub(super) fn answer_from_cache(&mut self, id: SlotId, call: &mut Call) -> bool {
        let slot = &self.slots[id];
        // Permissions are learnt from what the API server is asked.
        if slot.requests.writes.is_none() || self.learning.is_some() || self.is_shutting_down {
            return false;
        }
        // Most reads ask for nothing of the kind; those are checked where they are sent.
        if call.method != "GET" || !call.target.is_empty() || !call.path.contains(ANY_VERSION) {
            return false;
        }
        // A forbidden read is denied where every request is.
        let Ok(allowed) = slot.authority.permissions.check(&call.method, &call.path) else { return false };
        if !allowed.subresource.is_empty() || !matches!(allowed.verb, "get" | "list") {
            return false;
        }
        let read = match asked(&call.path, &call.headers, allowed.verb == "list") {
            Asked::Newest => return false,
            Asked::Any(any) => self.read_cache(id, &allowed, &any),
            Asked::Other => Err(CachedRead::Other),
        };
        let slot = &mut self.slots[id];
        let environment = &mut self.environment;
        let new_credit = || environment.new_credit(RESPONSE_CREDIT_BYTES);
        let credit = slot.requests.credit_or_insert(self.next_token, new_credit);
        let read = read.and_then(|body| match credit.try_take(body.len()) {
            true => Ok(body),
            false => Err(CachedRead::TooLarge),
        });
        let mut body = match read {
            Ok(body) => body,
            Err(why) => {
                slot.counters.cached_read(why);
                if why == CachedRead::Written {
                    call.path = newest(&call.path);
                }
                return false;
            }
        };
        slot.counters.cached_read(CachedRead::Hit);
        if self.is_traced {
            let (method, path) = (call.method.clone(), Some(call.path.clone()));
            let event = SpanEvent::Event { slot: id, task: call.task, name: "read from the cache", method, path };
            self.effects.push(HostEffect::Span(event));
        }
        let headers = Bytes::from_static(b"content-type: application/json\n");
        if !slot.controller.answer_itself(call.id, EventKind::Head, 200, headers) {
            // The step that made the call has dropped it.
            slot.requests.give_credit(body.len());
            return true;
        }
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(CHUNK_BYTES));
            slot.controller.answer(call.id, EventKind::Body, 0, piece);
        }
        slot.controller.answer(call.id, EventKind::End, 0, Bytes::new());
        true
    }

    /// The answer to a permitted read.
    fn read_cache(&mut self, id: SlotId, allowed: &Allowed, any: &Any) -> Result<Bytes, CachedRead> {
        let resource = Resource { group: (*allowed.group).into(), plural: (*allowed.resource).into() };
        let caches = self.caches(id, &resource);
        let is_only_one = caches.len() == 1;
        let slot = &mut self.slots[id];
        let requests = &mut slot.requests;
        // Another controller may have the same watch hold whole objects.
        let writes =
            requests.writes.as_mut().filter(|writes| writes.are_of(&resource)).ok_or(CachedRead::NotWatched)?;
        let credit = requests.credit.as_ref().map_or(RESPONSE_CREDIT_BYTES, Credit::available);
        let most = (slot.package.limits.response_bytes as usize).min(credit);
        let key = key_of(allowed).filter(|_| allowed.verb == "get");
        // The first cache that can serve decides; otherwise the first that could have.
        let mut found = Err(CachedRead::NotWatched);
        for watch in caches {
            let Some(request) = self.environment.request(watch) else { continue };
            let covers = request.version == allowed.version
                && (request.namespace.is_none()
                    || request.namespace == allowed.namespace
                    || self.environment.namespaced(watch) == Some(false) && !request.further)
                && (key.is_some() || request.field_selector.is_empty() && request.label_selector == any.label_selector);
            // A list of one object by its name is authorised as a get: not served here.
            if !covers || (key.is_none() && allowed.name.is_some()) {
                continue;
            }
            let read = self.environment.look(watch, |cache| {
                if is_only_one {
                    writes.forget(&resource, cache.position);
                }
                if !writes.are_in(&resource, key.as_ref(), cache) {
                    return Err(CachedRead::Written);
                }
                match &key {
                    Some(key) => {
                        let object = cache.index.object(key).ok_or(CachedRead::Absent)?;
                        if object.len() > most {
                            return Err(CachedRead::TooLarge);
                        }
                        Ok(Bytes::copy_from_slice(object.as_bytes()))
                    }
                    None => {
                        let objects = cache.index.objects(allowed.namespace.as_deref());
                        list(&request.api_version(), &request.kind, cache.position, objects, most)
                            .ok_or(CachedRead::TooLarge)
                    }
                }
            });
            match read.unwrap_or(Err(CachedRead::NotSynced)) {
                Ok(body) => return Ok(body),
                Err(why) if found == Err(CachedRead::NotWatched) => found = Err(why),
                Err(_) => {}
            }
        }
        found
    }

    /// The watches of a controller that hold whole objects of this resource.
    fn caches(&self, id: SlotId, resource: &Resource) -> Vec<WatchId> {
        let environment = &self.environment;
        let is_one = |watch: &WatchId| {
            environment.request(*watch).is_some_and(|r| r.full_objects && *r.group == *resource.group)
                && environment.plural(*watch).is_some_and(|plural| *plural == *resource.plural)
        };
        self.slots[id].watches.all.iter().copied().filter(is_one).collect()
    }

    /// A watch reports that an object is gone: reads from it need no longer wait for that.
    pub(super) fn on_object_gone(&mut self, watch: WatchId, subscribers: &[Subscription], key: &str, uid: u64) {
        // With selectors it may only have ceased to match.
        let has_all = |request: &WatchRequest| {
            request.full_objects && request.label_selector.is_empty() && request.field_selector.is_empty()
        };
        let Some(request) = self.environment.request(watch).filter(has_all) else { return };
        let Some(plural) = self.environment.plural(watch) else { return };
        let resource = Resource { group: (*request.group).into(), plural: plural.into() };
        for subscription in subscribers {
            let writes = self.slots[subscription.slot].requests.writes.as_ref();
            if !writes.is_some_and(|writes| writes.is_waited_for()) {
                continue;
            }
            let is_only_one = self.caches(subscription.slot, &resource) == [watch];
            let writes = self.slots[subscription.slot].requests.writes.as_mut();
            if let Some(writes) = writes.filter(|_| is_only_one) {
                writes.gone(&resource, key, uid);
            }
        }
    }
}
