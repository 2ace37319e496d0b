//! Turns a change of a watched object into the objects to reconcile.

use std::sync::Arc;

use bytes::Bytes;
use wasmop_package::manifest::Relation;

use super::change::Change;
use super::object_meta::ObjectMetaLite;
use crate::work_queue::Key;

/// The kind whose objects are reconciled.
#[derive(Clone, Copy, Debug)]
pub struct Primary<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    pub kind: &'a str,
    /// `None` if it is not known yet: then an owner is taken to be in the namespace of what it
    /// owns. If that was wrong, nothing is lost, since all primary objects are reconciled once
    /// when they become known.
    pub namespaced: Option<bool>,
}

/// The objects that a change concerns, each once. None for `Relation::Map` (the guest knows) and
/// for changes that are not about an object.
///
/// An object that changes owners concerns the old ones as well as the new.
pub fn keys_for(relation: Relation, primary: Primary<'_>, change: &Change) -> Vec<Key> {
    let (key, meta, old) = match change {
        Change::Applied { key, meta, old, .. } => (key, meta, old.as_ref()),
        Change::Deleted { key, meta, .. } => (key, meta, None),
        Change::Synced | Change::Waiting(_) | Change::Replayed => return Vec::new(),
    };
    match relation {
        Relation::Own => vec![key.clone()],
        Relation::Map => Vec::new(),
        Relation::Owner | Relation::Controller => {
            let namespace = key.split_once('/').map(|(namespace, _)| namespace);
            let mut keys = Vec::new();
            for meta in old.into_iter().chain([meta]) {
                for owner in meta.owners.iter() {
                    let is_primary = &*owner.kind.group == primary.group && &*owner.kind.kind == primary.kind;
                    if !is_primary || (relation == Relation::Controller && !owner.controller) {
                        continue;
                    }
                    let key: Key = match namespace {
                        Some(namespace) if primary.namespaced != Some(false) => {
                            format!("{namespace}/{}", owner.name).into()
                        }
                        _ => owner.name.clone(),
                    };
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
            }
            keys
        }
    }
}

/// An object of which only the name is known, as JSON.
pub fn gone(key: &str) -> Bytes {
    let (namespace, name) = key.split_once('/').map_or((None, key), |(ns, name)| (Some(ns), name));
    let object = serde_json::json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": { "name": name, "namespace": namespace },
    });
    object.to_string().into()
}

/// The text as bytes, without a copy.
pub fn shared(text: Arc<str>) -> Bytes {
    struct Text(Arc<str>);
    impl AsRef<[u8]> for Text {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Text(text))
}

/// What a guest maps to keys because of a change. Of an object that went while nobody kept its content, only the name
/// is known: the guest remembers what it mapped it to before.
pub fn to_map(change: &Change) -> Option<Bytes> {
    match change {
        Change::Applied { object: Some(object), .. } | Change::Deleted { object: Some(object), .. } => {
            Some(shared(object.clone()))
        }
        Change::Deleted { key, object: None, .. } => Some(gone(key)),
        Change::Applied { object: None, .. } | Change::Synced | Change::Waiting(_) | Change::Replayed => None,
    }
}

/// What a change is to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It causes a reconcile.
    Counts,
    /// The watch's `generation_changed` leaves it out.
    LeftOut,
    /// No object changed: the state of the watch did.
    NoChange,
}

/// Whether a change causes a reconcile. With `generation_changed`, one that leaves
/// `metadata.generation` as it was does not, unless the object is a new one of the same name or
/// its deletion began. Objects without a generation always pass, as nothing tells what changed.
pub fn passage(generation_changed: bool, change: &Change) -> Passage {
    match change {
        Change::Deleted { .. } | Change::Applied { old: None, .. } => Passage::Counts,
        Change::Applied { meta, old: Some(old), .. } if generation_changed && !differs(old, meta) => Passage::LeftOut,
        Change::Applied { .. } => Passage::Counts,
        Change::Synced | Change::Waiting(_) | Change::Replayed => Passage::NoChange,
    }
}

/// Whether more than status and metadata changed, as far as can be told.
pub(super) fn differs(old: &ObjectMetaLite, new: &ObjectMetaLite) -> bool {
    new.generation == 0 || new.generation != old.generation || new.uid != old.uid || (new.deleting && !old.deleting)
}

#[cfg(test)]
mod tests;
