//! Watches the API server for all packages: one upstream watch a (kind, scope, selector, identity) however
//! many controllers want it, and only what changed comes out.
//!
//! ```text
//! subscribe ─► hub ─► upstream task: list, watch, relist ─► index ─► WatchEvent ─► host's loop
//!                     or follow a wider watch ◄── following ──┤                       │
//! replay ────► hub ──────── the index's content ──────────────┘                       │
//!                                              passage, keys_for ► work queues ◄──────┘
//! ```

mod definition;
mod discovery;
mod failure;
mod flow_control;
mod following;
mod hub;
mod index;
mod journal;
mod meta;
mod narrowing;
mod predicates;
mod relation;
mod room;
mod scope;
mod shared;
mod upstream;

use std::sync::Arc;

use wasmop_package::manifest::WatchSpec;

pub(crate) use failure::chain;
pub use failure::{Cause, Waiting};
use flow_control::Charge;
pub use hub::{Resolved, WatchHub, WatchStatus};
pub use index::Index;
pub use journal::{Journals, Place};
pub(crate) use meta::hash;
pub use meta::{GroupKind, ObjectMetaLite, OwnerRef, Reader, ResourceVersion, Seen};
pub(crate) use predicates::{Judged, Predicates};
pub use relation::{Passage, Primary, gone, keys_for, passage, shared, to_map};
pub use room::Usage;
pub use scope::{LimitPlace, NamespaceLimit, Scope, namespaces};
pub use shared::{Known, Watched};

use crate::identity::ServiceAccount;
use crate::queue::Key;

/// An upstream watch of a `WatchHub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

/// What to watch. Requests for the same objects share one upstream, whole ones or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchRequest {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// As in URLs; empty: taken from discovery.
    pub plural: String,
    /// `None` for all. Of a kind without namespaces all are watched in any case.
    pub namespace: Option<String>,
    /// Of several namespaces of a controller, not the first. Of a kind without namespaces this watch has no objects: the
    /// first has them all.
    pub further: bool,
    pub label_selector: String,
    pub field_selector: String,
    /// Keep whole objects; otherwise only metadata is asked for.
    pub full_objects: bool,
    /// As whom; `None`: the host. What one identity may see is never shown to another.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl WatchRequest {
    /// What a controller of this namespace (none or empty: all) needs for this watch. A guest that maps objects to
    /// keys itself needs to see them whole, as does one that reads them from the cache, and a predicate.
    pub fn new(spec: &WatchSpec, namespace: Option<&str>, service_account: Option<Arc<ServiceAccount>>) -> Self {
        WatchRequest {
            group: spec.group.clone(),
            version: spec.version.clone(),
            kind: spec.kind.clone(),
            plural: spec.plural.clone(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Into::into),
            further: false,
            label_selector: spec.label_selector.clone(),
            field_selector: spec.field_selector.clone(),
            full_objects: spec.keeps_objects(),
            service_account,
        }
    }

    /// `websites.demo.wasmop.dev/v1`; with the kind if the plural is not known. Parts that are too long are cut.
    pub fn resource(&self) -> String {
        let WatchRequest { group, version, kind, plural, .. } = self;
        let name = failure::excerpt(if plural.is_empty() { kind } else { plural });
        let (group, version) = (failure::excerpt(group), failure::excerpt(version));
        if group.is_empty() { format!("{name}/{version}") } else { format!("{name}.{group}/{version}") }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// What is known of an object before a change, as far as whole objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// It was another or none, of which nothing more is known.
    #[default]
    Unknown,
    /// It was created while the watch was in order.
    Absent,
    Whole(Arc<str>),
}

/// News of a watch. Its whole objects count as in flight until it is dropped.
#[derive(Debug)]
pub struct WatchEvent {
    pub watch: WatchId,
    /// Number of the watch's last change, this one included. Whoever has seen this event and all before
    /// it has seen the changes up to there.
    pub number: u64,
    /// Set if it is for one subscriber only.
    pub replay: Option<Replay>,
    pub change: Change,
    _charge: Charge,
}

/// Of events that tell one subscriber what the others know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    pub subscriber: u64,
    /// What it has missed while it was away; otherwise all there is.
    pub missed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object is new (`old` is `None`) or differs from before.
    Applied { key: Key, meta: ObjectMetaLite, old: Option<ObjectMetaLite>, object: Option<Arc<str>>, before: Before },
    /// An object is gone, or no longer matches the selectors. `meta` is its last known state.
    Deleted { key: Key, meta: ObjectMetaLite, object: Option<Arc<str>> },
    /// All objects there are have been given out. Comes again after each relist and when a watch
    /// goes on after `Waiting`.
    Synced,
    /// The watch cannot be had now; it is tried again until it can. Once for each cause.
    Waiting(Waiting),
    /// A replay is complete.
    Replayed,
}

impl Change {
    /// The object that it is about, if it is about one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Change::Applied { key, .. } | Change::Deleted { key, .. } => Some(key),
            Change::Synced | Change::Waiting(_) | Change::Replayed => None,
        }
    }

    /// Bytes of the whole objects in it.
    fn object_bytes(&self) -> usize {
        let len = |object: &Option<Arc<str>>| object.as_ref().map_or(0, |object| object.len());
        match self {
            Change::Applied { object, before: Before::Whole(before), .. } => len(object) + before.len(),
            Change::Applied { object, .. } | Change::Deleted { object, .. } => len(object),
            Change::Synced | Change::Waiting(_) | Change::Replayed => 0,
        }
    }
}

#[cfg(test)]
mod tests;
