//! The state behind the simulated API server: objects, resource versions, the log that watches read, and everything
//! that ever changed, for the invariants.
//!
//! ```text
//! write ─► objects ─┬─► log, from `compacted` on        watches
//!                   └─► history, all of it              invariants
//! ```
//!
//! Resource versions go back when etcd is restored. Moments never do: the history is ordered by them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// A kind of objects that the API server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A custom resource with a status.
    Website,
    /// A custom resource without namespaces.
    Zone,
    /// Of the core group: without a generation.
    ConfigMap,
    /// The same.
    Secret,
    /// What hosts elect with.
    Lease,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Website, Kind::Zone, Kind::ConfigMap, Kind::Secret, Kind::Lease];

    /// Group, version, plural and kind.
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Kind::Website => ("demo.wasmop.dev", "v1", "websites", "Website"),
            Kind::Zone => ("demo.wasmop.dev", "v1", "zones", "Zone"),
            Kind::ConfigMap => ("", "v1", "configmaps", "ConfigMap"),
            Kind::Secret => ("", "v1", "secrets", "Secret"),
            Kind::Lease => ("coordination.k8s.io", "v1", "leases", "Lease"),
        }
    }

    /// `v1` or `GROUP/v1`.
    pub fn api_version(self) -> String {
        match self.names() {
            ("", version, ..) => version.into(),
            (group, version, ..) => format!("{group}/{version}"),
        }
    }

    /// Its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        self != Kind::Zone
    }

    /// Its objects have a generation, which counts changes of everything but status and metadata.
    pub fn has_generation(self) -> bool {
        matches!(self, Kind::Website | Kind::Zone)
    }

    /// The path of a collection, or of all collections in all namespaces.
    pub fn path(self, namespace: Option<&str>) -> String {
        let (group, version, plural, _) = self.names();
        let prefix = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{plural}"),
        }
    }

    /// The path of an object.
    pub fn object_path(self, key: &str) -> String {
        let (namespace, name) = split(key);
        format!("{}/{name}", self.path(namespace))
    }
}

/// A key into namespace and name.
pub fn split(key: &str) -> (Option<&str>, &str) {
    key.split_once('/').map_or((None, key), |(namespace, name)| (Some(namespace), name))
}

/// A key out of namespace and name.
pub fn join(namespace: Option<&str>, name: &str) -> Arc<str> {
    namespace.map_or_else(|| name.into(), |namespace| format!("{namespace}/{name}").into())
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Of the owner.
    pub kind: String,
    /// Of the owner.
    pub name: String,
    /// Of the owner.
    pub uid: String,
}

/// An object as it was at one resource version.
#[derive(Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// `namespace/name`, or `name`.
    pub key: Arc<str>,
    /// Tells it from an earlier object of the same name.
    pub uid: u64,
    /// Its resource version.
    pub revision: u64,
    /// 0 for kinds that have none.
    pub generation: i64,
    /// It is to go, and waits for its finalizers.
    pub deleting: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.ownerReferences`.
    pub owners: Vec<Owner>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    annotations: Value,
    /// Everything but `apiVersion`, `kind` and `metadata`.
    pub content: Map<String, Value>,
    /// As JSON.
    pub text: Arc<str>,
    /// Its metadata alone, as JSON.
    pub partial: Arc<str>,
}

impl Object {
    /// Its UID as it is written.
    pub fn uid_text(&self) -> String {
        uid_text(self.uid)
    }

    /// A field of a field; null if there is none.
    pub fn field(&self, outer: &str, inner: &str) -> &Value {
        self.content.get(outer).and_then(|value| value.get(inner)).unwrap_or(&Value::Null)
    }

    fn owners_json(&self) -> Value {
        let owner = |owner: &Owner| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.names().3 == owner.kind).unwrap_or(Kind::Website);
            json!({
                "apiVersion": kind.api_version(),
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
            })
        };
        self.owners.iter().map(owner).collect()
    }

    /// Writes the texts anew.
    fn render(mut self) -> Arc<Object> {
        let (namespace, name) = split(&self.key);
        let mut meta = json!({
            "name": name,
            "uid": self.uid_text(),
            "resourceVersion": self.revision.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.into();
        }
        if self.generation > 0 {
            meta["generation"] = self.generation.into();
        }
        if self.deleting {
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if !self.labels.is_empty() {
            meta["labels"] = json!(self.labels);
        }
        if !self.owners.is_empty() {
            meta["ownerReferences"] = self.owners_json();
        }
        if !self.finalizers.is_empty() {
            meta["finalizers"] = json!(self.finalizers);
        }
        if !self.annotations.is_null() {
            meta["annotations"] = self.annotations.clone();
        }
        let mut text = format!(
            r#"{{"apiVersion":"{}","kind":"{}","metadata":{meta}"#,
            self.kind.api_version(),
            self.kind.names().3
        );
        for (field, value) in &self.content {
            text.push_str(&format!(r#","{field}":{value}"#));
        }
        text.push('}');
        self.partial =
            format!(r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{meta}}}"#).into();
        self.text = text.into();
        Arc::new(self)
    }

    /// Whether it differs in anything but resource version and generation.
    fn is_same(&self, other: &Object) -> bool {
        (&self.labels, &self.owners, &self.finalizers, &self.annotations, self.deleting)
            == (&other.labels, &other.owners, &other.finalizers, &other.annotations, other.deleting)
            && self.content == other.content
    }

    fn spec_differs(&self, other: &Object) -> bool {
        let spec = |object: &Object| {
            let fields = object.content.iter().filter(|(field, _)| *field != "status");
            fields.map(|(field, value)| (field.clone(), value.clone())).collect::<Vec<_>>()
        };
        spec(self) != spec(other)
    }
}

fn uid_text(uid: u64) -> String {
    format!("00000000-0000-4000-8000-{uid:012x}")
}

/// What the log tells watches.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Of the change.
    pub revision: u64,
    /// The object as it is, or as it was before it went.
    pub object: Arc<Object>,
    /// It went.
    pub gone: bool,
    /// As it was before; `None`: it was created.
    pub old: Option<Arc<Object>>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is new.
    Created,
    /// More than status and metadata changed, or its deletion began.
    Changed,
    /// Status or metadata changed.
    Touched,
    /// It is gone.
    Deleted,
}

/// A change, for the invariants.
#[derive(Clone, Debug)]
pub struct Past {
    /// Orders all changes.
    pub moment: u64,
    /// The time in the world.
    pub at: Duration,
    /// What it is now, or what it was before it went.
    pub object: Arc<Object>,
    /// What it was before.
    pub old: Option<Arc<Object>>,
    /// What happened.
    pub deed: Deed,
    /// The controller that did it; empty for anybody else.
    pub actor: Arc<str>,
}

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

/// Objects as they were at some resource version.
#[derive(Clone, Debug)]
struct Checkpoint {
    revision: u64,
    objects: BTreeMap<(Kind, Arc<str>), Arc<Object>>,
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
    checkpoints: Vec<Checkpoint>,
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
            checkpoints: Vec::new(),
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

    /// Watches can no longer begin before this moment.
    pub fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.revision;
    }

    /// What can be restored later.
    pub fn checkpoint(&mut self) {
        self.checkpoints.push(Checkpoint { revision: self.revision, objects: self.objects.clone() });
    }

    /// Goes back to the last checkpoint. Leases stay as they are: hosts that would trust restored ones are another
    /// matter. Whether there was one.
    pub fn restore(&mut self, at: Duration) -> bool {
        let Some(Checkpoint { revision, objects }) = self.checkpoints.pop() else { return false };
        let leases: Vec<_> = self.of(Kind::Lease).cloned().collect();
        for past in &self.history {
            if past.object.revision > revision {
                self.forgotten.insert((past.object.uid, past.object.revision));
                let highest = self.forgotten_generations.entry(past.object.uid).or_default();
                *highest = past.object.generation.max(*highest);
            }
        }
        let before = std::mem::replace(&mut self.objects, objects);
        self.objects.retain(|(kind, _), _| *kind != Kind::Lease);
        self.objects.extend(leases.into_iter().map(|lease| ((lease.kind, lease.key.clone()), lease)));
        (self.revision, self.compacted) = (revision, revision);
        self.log.clear();
        self.epoch += 1;
        let nobody: Arc<str> = "".into();
        let keys: BTreeSet<_> = before.keys().chain(self.objects.keys()).cloned().collect();
        for key in keys {
            let (old, new) = (before.get(&key).cloned(), self.objects.get(&key).cloned());
            match (old, new) {
                (Some(old), Some(new)) if old.uid == new.uid && old.revision == new.revision => {}
                (Some(old), Some(new)) if old.uid == new.uid => {
                    let is_same = new.kind.has_generation() && old.generation == new.generation;
                    let deed = if is_same { Deed::Touched } else { Deed::Changed };
                    self.remember(new, Some(old), deed, &nobody, at);
                }
                (old, Some(new)) => self.remember(new, old, Deed::Created, &nobody, at),
                (Some(old), None) => self.remember(old.clone(), Some(old), Deed::Deleted, &nobody, at),
                (None, None) => {}
            }
        }
        true
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

fn copy(old: &Object) -> Object {
    Object {
        kind: old.kind,
        key: old.key.clone(),
        uid: old.uid,
        revision: old.revision,
        generation: old.generation,
        deleting: old.deleting,
        labels: old.labels.clone(),
        owners: old.owners.clone(),
        finalizers: old.finalizers.clone(),
        annotations: old.annotations.clone(),
        content: old.content.clone(),
        text: old.text.clone(),
        partial: old.partial.clone(),
    }
}

/// What a client sent, without what the API server decides.
fn parse(kind: Kind, key: Arc<str>, body: Value) -> Object {
    let Value::Object(mut content) = body else { return parse(kind, key, json!({})) };
    content.remove("apiVersion");
    content.remove("kind");
    let meta = content.remove("metadata").unwrap_or_default();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let labels = meta["labels"].as_object().into_iter().flatten();
    let owners = meta["ownerReferences"].as_array().into_iter().flatten();
    let finalizers = meta["finalizers"].as_array().into_iter().flatten();
    Object {
        kind,
        key,
        uid: 0,
        revision: 0,
        generation: 0,
        deleting: false,
        labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().into())).collect(),
        owners: owners
            .map(|owner| Owner { kind: text(owner, "kind"), name: text(owner, "name"), uid: text(owner, "uid") })
            .collect(),
        finalizers: finalizers.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        annotations: meta["annotations"].clone(),
        content,
        text: "".into(),
        partial: "".into(),
    }
}

/// RFC 7386.
fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (field, value) in patch {
        match value {
            Value::Null => {
                target.remove(&field);
            }
            value => merge_patch(target.entry(field).or_insert(Value::Null), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::ZERO;

    fn nobody() -> Arc<str> {
        "".into()
    }

    fn website(value: u64) -> Value {
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
    fn a_restored_cluster_gives_no_object_a_version_that_it_had_before() {
        let mut cluster = Cluster::default();
        let key: Arc<str> = "a/x".into();
        cluster.create(Kind::Website, key.clone(), website(1), &nobody(), AT).unwrap();
        cluster.checkpoint();
        let lost = cluster.update(Kind::Website, &key, website(2), false, &nobody(), AT).unwrap();
        assert!(cluster.restore(AT) && cluster.revision < lost.revision);
        let other = cluster.update(Kind::Website, &key, website(3), false, &nobody(), AT).unwrap();
        assert_ne!(other.revision, lost.revision);
        assert!(cluster.history.iter().map(|past| past.moment).is_sorted());
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
