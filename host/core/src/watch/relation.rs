//! Turns a change of a watched object into the objects to reconcile.

use std::sync::Arc;

use bytes::Bytes;
use wasmop_package::manifest::Relation;

use super::change::Change;
use super::object_meta::ObjectMetaLite;
use crate::work_queue::Key;

/// The kind of the reconciled objects.
#[derive(Clone, Copy, Debug)]
pub struct Primary<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// `None` if not known yet: the host then assumes that an owner is in the namespace of its dependent. A wrong guess
    /// loses nothing, since all primary objects are reconciled once they are known.
    pub namespaced: Option<bool>,
}

/// The objects that a change concerns, without duplicates. Empty for `Relation::Map`, which the guest answers, and for
/// changes of the watch itself.
///
/// If the owners of an object change, both the old and the new ones are concerned.
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

/// The text as bytes, without copying.
pub fn shared(text: Arc<str>) -> Bytes {
    struct Text(Arc<str>);
    impl AsRef<[u8]> for Text {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Text(text))
}

/// The object that the guest maps to keys. Of a deleted object without content only the name is known: the guest
/// remembers the keys it returned before.
pub fn to_map(change: &Change) -> Option<Bytes> {
    match change {
        Change::Applied { object: Some(object), .. } | Change::Deleted { object: Some(object), .. } => {
            Some(shared(object.clone()))
        }
        Change::Deleted { key, object: None, .. } => Some(gone(key)),
        Change::Applied { object: None, .. } | Change::Synced | Change::Waiting(_) | Change::Replayed => None,
    }
}

/// Whether a change causes a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The change causes a reconcile.
    Counts,
    /// `generation_changed` of the watch filters it out.
    LeftOut,
    /// No object changed, only the state of the watch.
    NoChange,
}

/// Whether a change causes a reconcile. `generation_changed` filters out changes that keep `metadata.generation`,
/// unless a new object took the name or a deletion began. Objects without a generation always pass.
pub fn passage(generation_changed: bool, change: &Change) -> Passage {
    match change {
        Change::Deleted { .. } | Change::Applied { old: None, .. } => Passage::Counts,
        Change::Applied { meta, old: Some(old), .. } if generation_changed && !differs(old, meta) => Passage::LeftOut,
        Change::Applied { .. } => Passage::Counts,
        Change::Synced | Change::Waiting(_) | Change::Replayed => Passage::NoChange,
    }
}

/// Whether more than status and metadata changed, or may have changed.
pub(super) fn differs(old: &ObjectMetaLite, new: &ObjectMetaLite) -> bool {
    new.generation == 0 || new.generation != old.generation || new.uid != old.uid || (new.deleting && !old.deleting)
}

#[cfg(test)]
mod tests;
