//! Keeps cached reads from missing a controller's own writes.
//!
//! An answered write closes a gate: its object is not read from a cache that may not have seen the write. The cache's
//! resource version opens the gate. Resource versions of one resource are ordered (KEP-5504). So a gate without a
//! version is opened by the version of a later write or read. Deletions and evictions have such gates, because their
//! answers have no version.

use std::sync::Arc;

use wasmop_package::manifest::WatchSpec;

use super::ANY_VERSION;
use super::metadata::{Metadata, MetadataScan};
use crate::permissions::{Allowed, parameters};
use crate::reply::Reply;
use crate::watch::{CacheView, hash};
use crate::work_queue::Key;

/// Beyond this number, the gates of a resource are merged into one.
const MAX_GATES: usize = 64;

/// Most resources whose writes are tracked. The ones registered first are evicted; they are then not read from a cache.
const MAX_RESOURCES: usize = 256;

/// Objects of one kind, in any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Box<str>,
    /// The name in URLs; empty for all of the group.
    pub plural: Box<str>,
}

impl Resource {
    /// The resource of a watch.
    pub fn of(watch: &WatchSpec) -> Resource {
        Resource { group: (*watch.group).into(), plural: (*watch.plural).into() }
    }

    /// Adds the resources of a registration. Each instance may register different ones, so the oldest are evicted
    /// beyond 256 resources.
    pub fn extend(all: &mut Arc<[Resource]>, registered: &[Resource]) {
        if registered.iter().all(|resource| all.contains(resource)) {
            return;
        }
        let older = all.iter().filter(|resource| !registered.contains(resource));
        let both: Vec<&Resource> = older.chain(registered).collect();
        let excess = both.len().saturating_sub(MAX_RESOURCES);
        *all = both[excess..].iter().copied().cloned().collect();
    }

    /// Whether it includes this group and plural. Without a plural it includes all of the group.
    pub fn covers(&self, group: &str, plural: &str) -> bool {
        *self.group == *group && (*self.plural == *plural || self.plural.is_empty())
    }
}

/// The writes of one controller to cached resources.
#[derive(Debug)]
pub struct Writes {
    /// Cached resources; an empty plural is all of the group. Shared by all controllers of a package.
    cached: Arc<[Resource]>,
    under_way: Vec<UnderWay>,
    gates: Vec<Gate>,
    /// Writes sent so far.
    sent: u64,
    /// Writes so far that closed a gate.
    closed: u64,
    /// Reads in flight that reveal the version of gates.
    reads: Vec<Read>,
}

/// A read of the newest state, sent while a gate had no version.
#[derive(Debug)]
struct Read {
    call: u64,
    resource: Resource,
    /// `None`: a list.
    key: Option<Key>,
    /// Number of the last gate closed before.
    number: u64,
    status: u16,
    answer: MetadataScan,
}

#[derive(Debug)]
struct UnderWay {
    call: u64,
    resource: Resource,
    /// `None`: the answer names it, or all objects.
    key: Option<Key>,
    is_delete: bool,
    is_collection: bool,
    /// Sequence number.
    number: u64,
    /// The guest knows that it succeeded.
    acknowledged: bool,
    /// Not read for the deletion of a collection.
    answer: MetadataScan,
    /// UIDs of objects that it may concern and that were seen to go.
    gone: Vec<u64>,
}

/// Cached reads of this object, or of all of a resource, wait.
#[derive(Debug)]
struct Gate {
    resource: Resource,
    /// `None`: all.
    key: Option<Key>,
    /// UID of the object, if it was deleted.
    gone: Option<u64>,
    /// The cache's resource version that opens it; `None`: that of a later write or read.
    version: Option<u64>,
    /// Sequence number.
    number: u64,
    /// Number of the last write sent before it was closed.
    since: u64,
}

/// The key of a request's object; `None` for a collection.
pub fn key_of(allowed: &Allowed) -> Option<Key> {
    let name = allowed.name.as_ref()?;
    // The API server considers a namespace to be inside itself.
    let in_itself = allowed.group.is_empty() && allowed.resource == "namespaces";
    Some(key(allowed.namespace.as_deref().filter(|_| !in_itself), name))
}

fn key(namespace: Option<&str>, name: &str) -> Key {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}").into(),
        _ => name.into(),
    }
}

/// The path for the newest state instead of any version. The API server's own cache may lack a write, too.
pub fn newest(path_and_query: &str) -> String {
    let Some((path, query)) = path_and_query.split_once('?') else { return path_and_query.to_owned() };
    let is_kept = |part: &&str| *part != ANY_VERSION && !part.starts_with("resourceVersionMatch=");
    let kept: Vec<_> = query.split('&').filter(is_kept).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Whether a read returns the newest state, or its first page.
fn is_newest(path_and_query: &str) -> bool {
    let older = ["resourceVersion", "resourceVersionMatch", "continue", "watch"];
    parameters(path_and_query).is_some_and(|all| all.iter().all(|(name, _)| !older.contains(&&**name)))
}

fn version(metadata: &Metadata) -> Option<u64> {
    metadata.resource_version.as_ref().and_then(|version| version.parse().ok())
}

impl Writes {
    /// Tracks writes to these cached resources; `None` without any.
    pub fn of(cached: &Arc<[Resource]>) -> Option<Writes> {
        let cached = cached.clone();
        (!cached.is_empty()).then_some(Writes {
            cached,
            under_way: Vec::new(),
            gates: Vec::new(),
            sent: 0,
            closed: 0,
            reads: Vec::new(),
        })
    }

    /// Whether the controller has this resource cached. Only then are its writes tracked and cached reads allowed.
    pub fn are_of(&self, resource: &Resource) -> bool {
        self.cached.iter().any(|cached| cached.covers(&resource.group, &resource.plural))
    }

    /// Adds cached resources of a new registration.
    pub fn extend(&mut self, cached: &[Resource]) {
        Resource::extend(&mut self.cached, cached);
    }

    /// A request is sent.
    pub fn sent(&mut self, call: u64, allowed: &Allowed, path_and_query: &str) {
        if matches!(allowed.verb, "get" | "list") {
            return self.read(call, allowed, path_and_query);
        }
        if !matches!(allowed.verb, "create" | "update" | "patch" | "delete" | "deletecollection") {
            return;
        }
        let resource = Resource { group: (*allowed.group).into(), plural: (*allowed.resource).into() };
        if allowed.resource.is_empty() || !self.are_of(&resource) {
            return;
        }
        self.sent += 1;
        let is_collection = allowed.verb == "deletecollection";
        self.under_way.push(UnderWay {
            call,
            resource,
            key: key_of(allowed).filter(|_| !is_collection),
            is_delete: allowed.verb == "delete",
            is_collection,
            number: self.sent,
            acknowledged: false,
            answer: MetadataScan::default(),
            gone: Vec::new(),
        });
    }

    fn read(&mut self, call: u64, allowed: &Allowed, path_and_query: &str) {
        let resource = Resource { group: (*allowed.group).into(), plural: (*allowed.resource).into() };
        let is_gated = self.gates.iter().any(|gate| gate.version.is_none() && gate.resource == resource);
        if !is_gated || !allowed.subresource.is_empty() || !is_newest(path_and_query) {
            return;
        }
        let key = key_of(allowed).filter(|_| allowed.verb == "get");
        self.reads.push(Read { call, resource, key, number: self.closed, status: 0, answer: MetadataScan::default() });
    }

    fn on_read(&mut self, at: usize, reply: &Reply) {
        let read = &mut self.reads[at];
        match reply {
            Reply::Head { status, .. } => read.status = *status,
            Reply::Body(bytes) => {
                // A list is not read to its end.
                if read.answer.found().resource_version.is_none() {
                    read.answer.push(bytes);
                }
            }
            Reply::Failed(_) | Reply::TooLarge => drop(self.reads.swap_remove(at)),
            Reply::End => {
                let read = self.reads.swap_remove(at);
                self.learn(&read);
            }
        }
    }

    /// A read is at least as new as writes whose gates were closed before it was sent.
    fn learn(&mut self, read: &Read) {
        let version = version(read.answer.found());
        let is_older = |gate: &&mut Gate| {
            gate.version.is_none()
                && gate.number <= read.number
                && gate.resource == read.resource
                // The version of an object tells nothing about other objects. That of a list covers them all.
                && (read.key.is_none() || gate.key == read.key)
        };
        for gate in self.gates.iter_mut().filter(is_older) {
            match read.status {
                200 => gate.version = version,
                404 if read.key.is_some() => gate.gone = gate.gone.or(Some(0)),
                _ => {}
            }
        }
    }

    /// Takes in a piece of an answer, before the guest gets it.
    pub fn on_reply(&mut self, call: u64, reply: &Reply) {
        if let Some(at) = self.reads.iter().position(|read| read.call == call) {
            return self.on_read(at, reply);
        }
        let Some(at) = self.under_way.iter().position(|write| write.call == call) else { return };
        let write = &mut self.under_way[at];
        match reply {
            Reply::Head { status, .. } => write.acknowledged = (200..300).contains(status),
            Reply::Body(bytes) => {
                if !write.is_collection {
                    write.answer.push(bytes);
                }
            }
            Reply::End => {
                let write = self.under_way.swap_remove(at);
                if write.acknowledged {
                    self.close(write);
                }
            }
            Reply::Failed(_) | Reply::TooLarge => self.failed(call),
        }
    }

    /// A call failed.
    pub fn failed(&mut self, call: u64) {
        self.reads.retain(|read| read.call != call);
        if let Some(at) = self.under_way.iter().position(|write| write.call == call) {
            let write = self.under_way.swap_remove(at);
            if write.acknowledged {
                self.close(UnderWay { answer: MetadataScan::default(), ..write });
            }
        }
    }

    fn close(&mut self, write: UnderWay) {
        let UnderWay { resource, key, is_delete, is_collection, number: sent, answer, gone, .. } = write;
        let metadata = answer.found();
        let since = self.sent;
        self.closed += 1;
        let number = self.closed;
        let gate = |key, gone, version| Gate { resource: resource.clone(), key, gone, version, number, since };
        if is_collection {
            self.gates.push(gate(None, None, None));
            return self.merge();
        }
        let named = metadata.name.as_ref().map(|name| self::key(metadata.namespace.as_deref(), name));
        let key = key.or(named);
        let version = version(metadata);
        if let Some(version) = version {
            for earlier in self.gates.iter_mut().filter(|gate| gate.resource == resource && gate.since < sent) {
                earlier.version.get_or_insert(version);
            }
        }
        // Removing the last finalizer deletes the object.
        let ends = metadata.is_deleting && !metadata.has_finalizers;
        if is_delete || ends {
            let uid = metadata.details_uid.as_ref().or(metadata.uid.as_ref()).map(|uid| hash(uid));
            if uid.is_none_or(|uid| !gone.contains(&uid)) {
                self.gates.push(gate(key.clone(), uid, None));
            }
        }
        if !is_delete || version.is_some() {
            self.gates.retain(|old| {
                let is_older = old.version.zip(version).is_some_and(|(old, new)| old <= new);
                !(is_older && old.resource == resource && old.key == key)
            });
            self.gates.push(gate(key, None, version));
        }
        self.merge();
    }

    /// Limits the number of gates.
    fn merge(&mut self) {
        if self.gates.len() <= MAX_GATES {
            return;
        }
        let mut merged: Vec<Gate> = Vec::new();
        for gate in self.gates.drain(..) {
            match merged.iter_mut().find(|other| other.resource == gate.resource) {
                Some(other) => {
                    other.version = other.version.zip(gate.version).map(|(a, b)| a.max(b));
                    other.since = other.since.max(gate.since);
                    other.number = other.number.max(gate.number);
                }
                None => merged.push(Gate { key: None, gone: None, ..gate }),
            }
        }
        self.gates = merged;
    }

    /// Whether any read may have to wait, now or after an answer.
    pub fn is_waited_for(&self) -> bool {
        !(self.gates.is_empty() && self.under_way.is_empty())
    }

    /// The cache saw a deletion, and no other cache of the controller has the object.
    pub fn gone(&mut self, resource: &Resource, key: &str, uid: u64) {
        let concerns =
            |of: &Resource, other: &Option<Key>| of == resource && other.as_ref().is_none_or(|other| **other == *key);
        self.gates.retain(|gate| !(gate.gone == Some(uid) && concerns(&gate.resource, &gate.key)));
        for write in self.under_way.iter_mut().filter(|write| concerns(&write.resource, &write.key)) {
            write.gone.push(uid);
        }
    }

    /// Whether the cache has seen all acknowledged writes of this object; without a key, of all objects of the
    /// resource.
    pub fn are_in(&self, resource: &Resource, key: Option<&Key>, cache: CacheView<'_>) -> bool {
        let concerns = |of: &Resource, other: &Option<Key>| {
            of == resource && key.zip(other.as_ref()).is_none_or(|(key, other)| key == other)
        };
        let is_open = |gate: &Gate| {
            gate.version.is_some_and(|version| version <= cache.position)
                // The name may be taken by an earlier or later object.
                || gate.gone.is_some() && gate.key.as_ref().is_some_and(|key| cache.index.get(key).is_none())
        };
        !self.under_way.iter().any(|write| write.acknowledged && concerns(&write.resource, &write.key))
            && self.gates.iter().filter(|gate| concerns(&gate.resource, &gate.key)).all(is_open)
    }

    /// The controller's only cache of this resource has reached this resource version.
    pub fn forget(&mut self, resource: &Resource, position: u64) {
        self.gates
            .retain(|gate| !(gate.resource == *resource && gate.version.is_some_and(|version| version <= position)));
    }

    /// Frees unused memory.
    pub fn shrink(&mut self) {
        self.under_way.shrink_to_fit();
        self.reads.shrink_to_fit();
        self.gates.shrink_to_fit();
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let key = |key: &Option<Key>| key.as_ref().map_or(0, |key| key.len());
        let gates: usize = self.gates.iter().map(|gate| size_of::<Gate>() + key(&gate.key)).sum();
        let answers =
            self.under_way.iter().map(|write| &write.answer).chain(self.reads.iter().map(|read| &read.answer));
        let requests = self.under_way.len() * size_of::<UnderWay>() + self.reads.len() * size_of::<Read>();
        size_of::<Writes>() + gates + requests + answers.map(MetadataScan::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
