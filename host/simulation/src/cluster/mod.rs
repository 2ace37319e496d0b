//! The state behind the simulated API server: objects, resource versions, the log that watches read, and everything
//! that ever changed, for the invariants.
//!
//! ```text
//! write ─► objects ─┬─► log, from `compacted` on        watches
//!                   └─► history, all of it              invariants
//! ```
//!
//! Resource versions go back when etcd is restored. Moments never do: the history is ordered by them.

mod history;
mod kind;
mod object;
mod restore;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use self::history::{Deed, LogEntry, Past};
pub use self::kind::{Kind, join, split};
pub use self::object::{Object, Owner};
use self::object::{copy, merge_patch, parse};
use self::restore::{Checkpoint, Misled, Reuse};

/// A request that the API server refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// As in a `Status`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with an empty message.
    pub fn new(code: u16, reason: &'static str) -> Refusal {
        Refusal { code, reason, message: format!("simulated: {reason}") }
    }
}

/// The state of the API server.
#[derive(Debug)]
pub struct Cluster {
    /// The present ones.
    pub objects: BTreeMap<(Kind, Arc<str>), Arc<Object>>,
    /// Of the last change.
    pub revision: u64,
    /// Changes that watches may still ask for, oldest first.
    pub log: VecDeque<LogEntry>,
    /// Changes up to this one are no longer in the log.
    pub compacted: u64,
    /// How often etcd was restored.
    pub epoch: u64,
    /// All changes there ever were.
    pub history: Vec<Past>,
    moment: u64,
    next_uid: u64,
    /// UIDs of objects that a list or a watch ever brought.
    shown: BTreeSet<u64>,
    checkpoints: Vec<Checkpoint>,
    /// The highest revision before the last restore.
    peak: u64,
    reuses: Vec<Reuse>,
    misled: Vec<Misled>,
    /// Versions of objects that a restored etcd has forgotten: giving one out again would make an object look as if it
    /// had not changed.
    forgotten: BTreeSet<(u64, u64)>,
    /// The highest generation of objects, by UID, that a restored etcd has forgotten. The same holds for these.
    forgotten_generations: BTreeMap<u64, i64>,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            objects: BTreeMap::new(),
            revision: 100,
            log: VecDeque::new(),
            compacted: 100,
            epoch: 0,
            history: Vec::new(),
            moment: 0,
            next_uid: 1,
            shown: BTreeSet::new(),
            checkpoints: Vec::new(),
            peak: 0,
            reuses: Vec::new(),
            misled: Vec::new(),
            forgotten: BTreeSet::new(),
            forgotten_generations: BTreeMap::new(),
        }
    }
}

impl Cluster {
    /// An object.
    pub fn get(&self, kind: Kind, key: &str) -> Option<&Arc<Object>> {
        self.objects.get(&(kind, Arc::from(key)))
    }

    /// All objects of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects
            .range((kind, Arc::from(""))..)
            .take_while(move |((of, _), _)| *of == kind)
            .map(|(_, object)| object)
    }

    /// The moment of the last change.
    pub fn moment(&self) -> u64 {
        self.moment
    }

    /// A list or a watch brings objects with these UIDs.
    pub fn show(&mut self, uids: impl IntoIterator<Item = u64>) {
        self.shown.extend(uids);
    }

    /// Whether an object came and went between two lists, while its watch was interrupted: nobody can know of it.
    pub fn was_never_seen(&self, object: &Object) -> bool {
        let exists = self.get(object.kind, &object.key).is_some_and(|now| now.uid == object.uid);
        !exists && !self.shown.contains(&object.uid)
    }

    fn next_revision(&mut self, uid: u64) -> u64 {
        loop {
            self.revision += 1;
            if !self.forgotten.contains(&(uid, self.revision)) {
                return self.revision;
            }
        }
    }

    fn next_generation(&self, old: &Object) -> i64 {
        let forgotten = self.forgotten_generations.get(&old.uid).copied().unwrap_or(0);
        if old.kind.has_generation() { old.generation.max(forgotten) + 1 } else { 0 }
    }

    /// Creates an object.
    ///
    /// # Errors
    /// It is there already.
    pub fn create(
        &mut self,
        kind: Kind,
        key: Arc<str>,
        body: Value,
        actor: &Arc<str>,
        at: Duration,
    ) -> Result<Arc<Object>, Refusal> {
        if self.get(kind, &key).is_some() {
            return Err(Refusal::new(409, "AlreadyExists"));
        }
        let uid = self.next_uid;
        self.next_uid += 1;
        let mut object = parse(kind, key, body);
        object.uid = uid;
        object.revision = self.next_revision(uid);
        object.generation = i64::from(kind.has_generation());
        Ok(self.put(object, None, Deed::Created, actor, at))
    }

    /// Replaces an object, or merges the body into it.
    ///
    /// # Errors
    /// It is not there, or is another one than the body says.
    pub fn update(
        &mut self,
        kind: Kind,
        key: &Arc<str>,
        body: Value,
        merge: bool,
        actor: &Arc<str>,
        at: Duration,
    ) -> Result<Arc<Object>, Refusal> {
        let old = self.get(kind, key).cloned().ok_or_else(|| Refusal::new(404, "NotFound"))?;
        let wanted = body.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if !matches!(wanted, "" | "0") && wanted != old.revision.to_string() {
            return Err(Refusal::new(409, "Conflict"));
        }
        let uid = body.pointer("/metadata/uid").and_then(Value::as_str);
        if uid.is_some_and(|uid| uid != old.uid_text()) {
            return Err(Refusal::new(409, "Conflict"));
        }
        let body = match merge {
            true => {
                let mut merged: Value = serde_json::from_str(&old.text).unwrap_or_default();
                merge_patch(&mut merged, body);
                merged
            }
            false => body,
        };
        let mut object = parse(kind, key.clone(), body);
        (object.uid, object.deleting, object.generation) = (old.uid, old.deleting, old.generation);
        if object.is_same(&old) {
            return Ok(old);
        }
        if object.deleting && object.finalizers.is_empty() {
            return self.remove(&old, actor, at);
        }
        let differs = object.spec_differs(&old);
        if differs {
            object.generation = self.next_generation(&old);
        }
        object.revision = self.next_revision(old.uid);
        let deed = if differs || !kind.has_generation() { Deed::Changed } else { Deed::Touched };
        Ok(self.put(object, Some(old), deed, actor, at))
    }

    /// Deletes an object, or begins to if it has finalizers.
    ///
    /// # Errors
    /// It is not there, or has another version than was wanted.
    pub fn delete(
        &mut self,
        kind: Kind,
        key: &str,
        version: Option<&str>,
        actor: &Arc<str>,
        at: Duration,
    ) -> Result<Arc<Object>, Refusal> {
        let old = self.get(kind, key).cloned().ok_or_else(|| Refusal::new(404, "NotFound"))?;
        if version.is_some_and(|version| version != old.revision.to_string()) {
            return Err(Refusal::new(409, "Conflict"));
        }
        if old.finalizers.is_empty() {
            return self.remove(&old, actor, at);
        }
        if old.deleting {
            return Ok(old);
        }
        let mut object = copy(&old);
        object.deleting = true;
        object.generation = self.next_generation(&old);
        object.revision = self.next_revision(old.uid);
        Ok(self.put(object, Some(old), Deed::Changed, actor, at))
    }

    fn remove(&mut self, old: &Arc<Object>, actor: &Arc<str>, at: Duration) -> Result<Arc<Object>, Refusal> {
        let mut object = copy(old);
        object.revision = self.next_revision(old.uid);
        let object = object.render();
        self.objects.remove(&(old.kind, old.key.clone()));
        let entry = LogEntry { revision: object.revision, object: object.clone(), gone: true, old: Some(old.clone()) };
        self.log.push_back(entry);
        self.remember(object.clone(), Some(old.clone()), Deed::Deleted, actor, at);
        Ok(object)
    }

    fn put(
        &mut self,
        object: Object,
        old: Option<Arc<Object>>,
        deed: Deed,
        actor: &Arc<str>,
        at: Duration,
    ) -> Arc<Object> {
        let object = object.render();
        self.objects.insert((object.kind, object.key.clone()), object.clone());
        let entry = LogEntry { revision: object.revision, object: object.clone(), gone: false, old: old.clone() };
        self.log.push_back(entry);
        self.remember(object.clone(), old, deed, actor, at);
        object
    }

    fn remember(&mut self, object: Arc<Object>, old: Option<Arc<Object>>, deed: Deed, actor: &Arc<str>, at: Duration) {
        self.moment += 1;
        self.history.push(Past { moment: self.moment, at, object, old, deed, actor: actor.clone() });
    }

    /// Deletes the objects all of whose owners are gone. Whether there were any.
    pub fn collect_garbage(&mut self, at: Duration) -> bool {
        let actor: Arc<str> = "".into();
        let lives = |owner: &Owner| self.objects.values().any(|object| object.uid_text() == owner.uid);
        let orphans: Vec<_> = self
            .objects
            .values()
            .filter(|object| !object.owners.is_empty() && !object.owners.iter().any(lives))
            .cloned()
            .collect();
        for orphan in &orphans {
            let _ = self.delete(orphan.kind, &orphan.key, None, &actor, at);
        }
        !orphans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) const AT: Duration = Duration::ZERO;

    pub(super) fn nobody() -> Arc<str> {
        "".into()
    }

    pub(super) fn website(value: u64) -> Value {
        json!({"spec": {"value": value}})
    }

    #[test]
    fn writes_count_versions_and_generations_as_the_api_server_does() {
        let mut cluster = Cluster::default();
        let key: Arc<str> = "a/x".into();
        let first = cluster.create(Kind::Website, key.clone(), website(1), &nobody(), AT).unwrap();
        assert_eq!(cluster.create(Kind::Website, key.clone(), website(1), &nobody(), AT).unwrap_err().code, 409);
        let patch = |body| (Kind::Website, key.clone(), body);
        let (kind, key, body) = patch(json!({"status": {"seen": 1}}));
        let second = cluster.update(kind, &key, body, true, &nobody(), AT).unwrap();
        assert_eq!((second.generation, second.revision), (1, first.revision + 1));
        let third = cluster.update(kind, &key, json!({"spec": {"value": 2}}), true, &nobody(), AT).unwrap();
        assert_eq!((third.generation, third.content["status"]["seen"].as_u64()), (2, Some(1)));
        let same = cluster.update(kind, &key, json!({"spec": {"value": 2}}), true, &nobody(), AT).unwrap();
        assert_eq!(same.revision, third.revision);
        let stale = json!({"metadata": {"resourceVersion": first.revision.to_string()}, "spec": {"value": 3}});
        assert_eq!(cluster.update(kind, &key, stale, false, &nobody(), AT).unwrap_err().reason, "Conflict");
    }

    #[test]
    fn a_finalizer_delays_a_deletion() {
        let mut cluster = Cluster::default();
        let key: Arc<str> = "a/x".into();
        let body = json!({"metadata": {"finalizers": ["f"]}, "spec": {}});
        cluster.create(Kind::Website, key.clone(), body, &nobody(), AT).unwrap();
        assert!(cluster.delete(Kind::Website, &key, None, &nobody(), AT).unwrap().deleting);
        let patch = json!({"metadata": {"finalizers": null}});
        cluster.update(Kind::Website, &key, patch, true, &nobody(), AT).unwrap();
        assert!(cluster.get(Kind::Website, &key).is_none());
        assert_eq!(cluster.history.last().map(|past| past.deed), Some(Deed::Deleted));
    }

    #[test]
    fn objects_go_with_their_owner() {
        let mut cluster = Cluster::default();
        let owner = cluster.create(Kind::Website, "a/x".into(), website(1), &nobody(), AT).unwrap();
        let child = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "demo.wasmop.dev/v1", "kind": "Website", "name": "x", "uid": owner.uid_text()},
        ]}});
        let child = cluster.create(Kind::ConfigMap, "a/y".into(), child, &nobody(), AT).unwrap();
        assert!(child.partial.contains("ownerReferences") && !cluster.collect_garbage(AT));
        cluster.delete(Kind::Website, "a/x", None, &nobody(), AT).unwrap();
        assert!(cluster.collect_garbage(AT) && cluster.objects.is_empty());
    }
}
