//! Reads that may come from a cache, answered in the turn they are made in.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmop_core::cached_reads::{ANY_VERSION, Any, Asked, Resource, asked, key_of, list, newest};
use wasmop_core::permissions::Allowed;
use wasmop_core::reply::CHUNK_BYTES;
use wasmop_core::status::counters::CachedRead;
use wasmop_core::step::{Call, EventKind};
use wasmop_core::watch::{WatchId, WatchRequest};

use super::{Host, RESPONSE_CREDIT, Subscription};

impl Host {
    /// From now on whole objects of watches may take so many bytes.
    pub(super) fn limit_objects(&mut self, bytes: Option<u64>) {
        self.cache_memory = bytes;
        self.hub.limit_objects(bytes);
    }

    /// Answers a read from the cache; false if it is to be sent to the API server, as everything else is.
    /// One that has to see the controller's own writes then asks for the newest state.
    pub(super) fn answer_from_cache(&mut self, index: u32, call: &mut Call) -> bool {
        let slot = &self.slots[index as usize];
        // What is learnt is what the API server is asked for.
        if slot.writes.is_none() || self.learning.is_some() || self.shutting_down {
            return false;
        }
        // Most reads ask for nothing of the kind, and are checked where they are sent.
        if call.method != "GET" || !call.target.is_empty() || !call.path.contains(ANY_VERSION) {
            return false;
        }
        // What is denied is denied where every request is.
        let Ok(allowed) = slot.permissions.check(&call.method, &call.path) else { return false };
        if !allowed.subresource.is_empty() || !matches!(allowed.verb, "get" | "list") {
            return false;
        }
        let read = match asked(&call.path, &call.headers, allowed.verb == "list") {
            Asked::Newest => return false,
            Asked::Any(any) => self.read(index, &allowed, &any),
            Asked::Other => Err(CachedRead::Other),
        };
        let slot = &mut self.slots[index as usize];
        let credit = slot.credit.get_or_insert_with(|| Arc::new(Semaphore::new(RESPONSE_CREDIT)));
        let mut body = match read.and_then(|body| match credit.try_acquire_many(body.len() as u32) {
            Ok(taken) => {
                taken.forget();
                Ok(body)
            }
            Err(_) => Err(CachedRead::TooLarge),
        }) {
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
        if let Some(traces) = &mut self.traces {
            traces.event(index, call.task, "read from the cache", &call.method, Some(&call.path));
        }
        let headers = Bytes::from_static(b"content-type: application/json\n");
        if !slot.controller.answer_itself(call.id, EventKind::Head, 200, headers) {
            // It has been dropped in the step that made it.
            credit.add_permits(body.len());
            return true;
        }
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(CHUNK_BYTES));
            slot.controller.answer(call.id, EventKind::Body, 0, piece);
        }
        slot.controller.answer(call.id, EventKind::End, 0, Bytes::new());
        true
    }

    /// The answer to a read that is allowed.
    fn read(&mut self, index: u32, allowed: &Allowed, any: &Any) -> Result<Bytes, CachedRead> {
        let resource = Resource { group: (*allowed.group).into(), plural: (*allowed.resource).into() };
        let caches = self.caches(index, &resource);
        let sole = caches.len() == 1;
        let slot = &mut self.slots[index as usize];
        // Others may have the same watch hold whole objects.
        let writes = slot.writes.as_mut().filter(|writes| writes.are_of(&resource)).ok_or(CachedRead::NotWatched)?;
        let most = (slot.package.limits().response_bytes as usize)
            .min(slot.credit.as_ref().map_or(RESPONSE_CREDIT, |credit| credit.available_permits()));
        let key = key_of(allowed).filter(|_| allowed.verb == "get");
        // What serves best decides, and otherwise the first that could have.
        let mut found = Err(CachedRead::NotWatched);
        for id in caches {
            let Some(request) = self.hub.request(id) else { continue };
            let covers = request.version == allowed.version
                && (request.namespace.is_none()
                    || request.namespace == allowed.namespace
                    || self.hub.namespaced(id) == Some(false) && !request.further)
                && (key.is_some() || request.field_selector.is_empty() && request.label_selector == any.label_selector);
            // A list of one object by its name is authorised as that: not served here.
            if !covers || (key.is_none() && allowed.name.is_some()) {
                continue;
            }
            let read = self.hub.look(id, |cache| {
                if sole {
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

    /// The watches of a controller that hold objects of this resource.
    fn caches(&self, index: u32, resource: &Resource) -> Vec<WatchId> {
        let is_one = |id: &WatchId| {
            let full = |id| self.hub.request(id).is_some_and(|r| r.full_objects && *r.group == *resource.group);
            full(*id) && self.hub.plural(*id).is_some_and(|plural| *plural == *resource.plural)
        };
        self.slots[index as usize].watches.iter().copied().filter(is_one).collect()
    }

    /// A watch says that an object is gone: reads from it need no longer wait for that.
    pub(super) fn on_gone(&mut self, watch: WatchId, subscribers: &[Subscription], key: &str, uid: u64) {
        // With selectors it may come back: perhaps it matches no longer.
        let tells = |request: &&WatchRequest| {
            request.full_objects && request.label_selector.is_empty() && request.field_selector.is_empty()
        };
        let Some(request) = self.hub.request(watch).filter(tells) else { return };
        let group = (*request.group).into();
        let Some(plural) = self.hub.plural(watch) else { return };
        let resource = Resource { group, plural: plural.into() };
        for subscription in subscribers {
            let writes = self.slots[subscription.slot as usize].writes.as_ref();
            if !writes.is_some_and(|writes| writes.is_waited_for()) {
                continue;
            }
            let is_sole = self.caches(subscription.slot, &resource) == [watch];
            if let Some(writes) = self.slots[subscription.slot as usize].writes.as_mut().filter(|_| is_sole) {
                writes.gone(&resource, key, uid);
            }
        }
    }
}
