//! An environment of plain data: watches with real indexes, and a record of everything the loop asks of them.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Credit, Environment};
use crate::watch::{
    CacheView, Change, Index, Judged, Predicates, Present, Reader, Replay, Seen, Waiting, WatchEvent, WatchId,
    WatchPosition, WatchRequest,
};
use crate::work_queue::Key;

/// Credit that is counted and nothing else.
#[derive(Clone, Debug)]
pub struct TestCredit(Rc<Cell<usize>>);

impl Credit for TestCredit {
    fn try_take(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        left.inspect(|left| self.0.set(*left)).is_some()
    }

    fn give(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }

    fn available(&self) -> usize {
        self.0.get()
    }
}

/// What the loop asked of the watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Subscribe(WatchId),
    Release(WatchId),
    Replay(WatchId, u64),
    Recall(WatchId, u64, Option<u64>),
}

/// A watch, as the API server's answers have made it.
#[derive(Debug)]
pub struct TestWatch {
    pub request: WatchRequest,
    /// Subscriptions that were not released.
    pub subscribers: usize,
    pub index: Index,
    /// The first list is complete, and nothing is wrong.
    pub is_synced: bool,
    /// Resource version that the index has reached.
    pub position: u64,
    /// Number of the last change that an earlier host recorded.
    pub recovered: u64,
    reader: Reader,
}

/// What an earlier host recorded of the watches of a kind.
#[derive(Debug)]
pub struct Recorded {
    pub present: Vec<Present>,
    pub last: u64,
}

/// All watches of a test.
#[derive(Debug, Default)]
pub struct TestEnvironment {
    pub watches: BTreeMap<WatchId, TestWatch>,
    next_id: u32,
    /// What the loop asked, in order.
    pub asked: Vec<Asked>,
    /// Events that the loop has not been given yet.
    pub sent: VecDeque<WatchEvent>,
    /// By kind.
    pub recorded: BTreeMap<String, Recorded>,
    predicates: Predicates,
    /// How often a predicate was evaluated.
    pub judgements: usize,
    /// CPU time that one evaluation takes.
    pub judgement_cpu: Duration,
    /// Bytes that whole objects may take.
    pub object_limit: Option<u64>,
}

impl TestEnvironment {
    /// The only watch of this kind, or of this kind and namespace.
    pub fn watch_of(&self, kind: &str, namespace: Option<&str>) -> WatchId {
        let is_it = |request: &WatchRequest| request.kind == kind && request.namespace.as_deref() == namespace;
        let found: Vec<WatchId> =
            self.watches.iter().filter(|(_, watch)| is_it(&watch.request)).map(|(id, _)| *id).collect();
        assert_eq!(found.len(), 1, "watches of {kind} in {namespace:?}: {found:?}");
        found[0]
    }

    pub fn has_watch_of(&self, kind: &str) -> bool {
        self.watches.values().any(|watch| watch.request.kind == kind)
    }

    fn send(&mut self, watch: WatchId, replay: Option<Replay>, change: Change) {
        let number = self.watches[&watch].index.last();
        self.sent.push_back(WatchEvent { watch, number, replay, change });
    }

    fn watch(&mut self, id: WatchId) -> &mut TestWatch {
        self.watches.get_mut(&id).unwrap()
    }

    /// The API server lists exactly these objects.
    pub fn list(&mut self, id: WatchId, objects: &[Object]) {
        self.watch(id).index.begin_list();
        for object in objects {
            self.apply(id, object);
        }
        for change in self.watch(id).index.finish_list() {
            self.send(id, None, change);
        }
        self.watch(id).is_synced = true;
        self.send(id, None, Change::Synced);
    }

    /// An object was added or modified.
    pub fn apply(&mut self, id: WatchId, object: &Object) {
        let watch = self.watch(id);
        let seen = watch.read(object);
        watch.position = watch.position.max(object.version);
        if let Some(change) = watch.index.apply(seen) {
            self.send(id, None, change);
        }
    }

    /// An object was deleted.
    pub fn delete(&mut self, id: WatchId, object: &Object) {
        let watch = self.watch(id);
        let seen = watch.read(object);
        watch.position = watch.position.max(object.version);
        if let Some(change) = watch.index.delete(seen) {
            self.send(id, None, change);
        }
    }

    /// The watch cannot be had now.
    pub fn fail(&mut self, id: WatchId, waiting: Waiting) {
        self.watch(id).is_synced = false;
        self.send(id, None, Change::Waiting(waiting));
    }
}

impl TestWatch {
    fn read(&mut self, object: &Object) -> Seen {
        self.reader.read(&object.json(&self.request)).unwrap().seen
    }
}

impl Environment for TestEnvironment {
    type Credit = TestCredit;

    fn new_credit(&mut self, bytes: usize) -> TestCredit {
        TestCredit(Rc::new(Cell::new(bytes)))
    }

    fn subscribe(&mut self, request: WatchRequest) -> WatchId {
        let without_objects = |request: &WatchRequest| WatchRequest { full_objects: false, ..request.clone() };
        let known = self.watches.iter_mut().find(|(_, w)| without_objects(&w.request) == without_objects(&request));
        let id = match known {
            Some((id, watch)) => {
                watch.subscribers += 1;
                if request.full_objects && !watch.request.full_objects {
                    watch.request.full_objects = true;
                    watch.reader = Reader::new(Some((request.api_version(), request.kind)));
                }
                *id
            }
            None => {
                let id = WatchId(self.next_id);
                self.next_id += 1;
                let recorded = self.recorded.get(&request.kind);
                let index = recorded.map_or_else(Index::default, |recorded| {
                    Index::restore(recorded.present.clone(), Vec::new(), 0, recorded.last)
                });
                let recovered = recorded.map_or(0, |recorded| recorded.last);
                let reader = Reader::new(request.full_objects.then(|| (request.api_version(), request.kind.clone())));
                let watch =
                    TestWatch { request, subscribers: 1, index, is_synced: false, position: 0, recovered, reader };
                self.watches.insert(id, watch);
                id
            }
        };
        self.asked.push(Asked::Subscribe(id));
        id
    }

    fn release(&mut self, watch: WatchId) {
        self.asked.push(Asked::Release(watch));
        let of = self.watches.get_mut(&watch).expect("only a watch that there is can be released");
        of.subscribers -= 1;
        if of.subscribers == 0 {
            self.watches.remove(&watch);
        }
    }

    fn replay(&mut self, watch: WatchId, subscriber: u64) -> u64 {
        self.asked.push(Asked::Replay(watch, subscriber));
        let replay = Some(Replay { subscriber, missed: false });
        let number = self.watches[&watch].index.last();
        if self.watches[&watch].is_synced {
            self.send(watch, replay, Change::Synced);
        }
        let changes: Vec<Change> = self.watches[&watch].index.replay(number).collect();
        for change in changes.into_iter().chain([Change::Replayed]) {
            self.send(watch, replay, change);
        }
        number
    }

    fn recall(&mut self, watch: WatchId, subscriber: u64, place: Option<WatchPosition>) {
        self.asked.push(Asked::Recall(watch, subscriber, place.map(|place| place.number)));
        let TestWatch { index, recovered, .. } = &self.watches[&watch];
        let missed = place.and_then(|place| Some(index.replay_between(place.number, *recovered)?.collect::<Vec<_>>()));
        let replay = Some(Replay { subscriber, missed: missed.is_some() });
        let changes = missed.unwrap_or_else(|| index.replay(*recovered).collect());
        for change in changes.into_iter().chain([Change::Replayed]) {
            self.send(watch, replay, change);
        }
    }

    fn recovered(&self, watch: WatchId) -> u64 {
        self.watches[&watch].recovered
    }

    fn is_in(&self, place: &WatchPosition, watch: WatchId) -> bool {
        self.place(watch, 0).is_some_and(|own| own.watch == place.watch)
    }

    fn place(&self, watch: WatchId, seen: u64) -> Option<WatchPosition> {
        let kind = &self.watches[&watch].request.kind;
        Some(WatchPosition { watch: crate::watch::hash(kind), lineage: 1, number: seen })
    }

    fn is_recorded(&self, watch: WatchId) -> bool {
        self.watches.contains_key(&watch)
    }

    fn request(&self, watch: WatchId) -> Option<WatchRequest> {
        self.watches.get(&watch).map(|watch| watch.request.clone())
    }

    fn plural(&self, watch: WatchId) -> Option<String> {
        self.watches.get(&watch).map(|watch| watch.request.plural.clone())
    }

    fn namespaced(&self, watch: WatchId) -> Option<bool> {
        self.watches.get(&watch).map(|watch| watch.request.kind != "Node")
    }

    fn contains(&self, watch: WatchId, key: &str) -> bool {
        self.watches.get(&watch).is_some_and(|watch| watch.index.get(key).is_some())
    }

    fn keys(&self, watch: WatchId) -> Vec<Key> {
        self.watches.get(&watch).map_or_else(Vec::new, |watch| watch.index.keys().cloned().collect())
    }

    fn object(&self, watch: WatchId, key: &str) -> Option<Arc<str>> {
        self.watches.get(&watch)?.index.object(key).cloned()
    }

    fn look<T>(&self, watch: WatchId, look: impl FnOnce(CacheView<'_>) -> T) -> Option<T> {
        let watch = self.watches.get(&watch).filter(|watch| watch.is_synced)?;
        Some(look(CacheView { index: &watch.index, position: watch.position }))
    }

    fn judge(&mut self, predicate: &str, change: &Change) -> (Judged, Duration) {
        self.judgements += 1;
        (self.predicates.judge(predicate, change), self.judgement_cpu)
    }

    fn limit_objects(&mut self, bytes: Option<u64>) {
        self.object_limit = bytes;
    }
}

/// An object of the API server.
#[derive(Clone, Debug)]
pub struct Object {
    key: String,
    pub version: u64,
    generation: i64,
    uid: String,
    is_deleting: bool,
    owners: Vec<Value>,
    spec: Value,
}

/// `namespace/name` or `name`, at version and generation 1.
pub fn object(key: &str) -> Object {
    Object {
        key: key.into(),
        version: 1,
        generation: 1,
        uid: format!("uid of {key}"),
        is_deleting: false,
        owners: Vec::new(),
        spec: Value::Null,
    }
}

impl Object {
    pub fn version(self, version: u64) -> Object {
        Object { version, ..self }
    }

    pub fn generation(self, generation: i64) -> Object {
        Object { generation, ..self }
    }

    pub fn uid(self, uid: &str) -> Object {
        Object { uid: uid.into(), ..self }
    }

    pub fn deleting(self) -> Object {
        Object { is_deleting: true, ..self }
    }

    pub fn spec(self, spec: Value) -> Object {
        Object { spec, ..self }
    }

    pub fn owned_by(mut self, kind: &str, name: &str, controller: bool) -> Object {
        let version = if kind == "Website" { "demo.dev/v1" } else { "v1" };
        let owner = json!({ "apiVersion": version, "kind": kind, "name": name, "uid": "1", "controller": controller });
        self.owners.push(owner);
        self
    }

    fn json(&self, request: &WatchRequest) -> String {
        let (namespace, name) = self.key.split_once('/').map_or((None, &*self.key), |(ns, name)| (Some(ns), name));
        let object = json!({
            "apiVersion": request.api_version(),
            "kind": request.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": self.uid,
                "resourceVersion": self.version.to_string(),
                "generation": self.generation,
                "deletionTimestamp": self.is_deleting.then_some("2026-01-01T00:00:00Z"),
                "ownerReferences": self.owners,
            },
            "spec": self.spec,
        });
        object.to_string()
    }

    /// As an earlier host recorded it: number of its last change.
    pub fn recorded(&self, number: u64) -> Present {
        let Seen { key, meta, .. } = Reader::new(None).read(&self.json(&WatchRequest::default())).unwrap().seen;
        Present { key, meta, number, differs: number }
    }
}
