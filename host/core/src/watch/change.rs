//! Changes of watched objects, and the events that carry them to the host's loop.

use std::sync::Arc;

use super::object_meta::ObjectMetaLite;
use super::waiting::Waiting;
use crate::work_queue::Key;

/// Identifies an upstream watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

/// The state of an object before a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// Unknown.
    #[default]
    Unknown,
    /// The object did not exist: it was created while the watch was synced.
    Absent,
    /// The object as JSON.
    Whole(Arc<str>),
}

/// An event of a watch.
#[derive(Debug)]
pub struct WatchEvent {
    /// The watch.
    pub watch: WatchId,
    /// Number of the watch's last change, including this event. A subscriber that has seen this event and all earlier
    /// ones has seen all changes up to this number.
    pub number: u64,
    /// Set if the event is for one subscriber only.
    pub replay: Option<Replay>,
    /// What changed.
    pub change: Change,
}

/// A replay, which brings one subscriber up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The subscriber.
    pub subscriber: u64,
    /// Whether the replay has only the changes that the subscriber missed. Otherwise it has all objects.
    pub missed: bool,
}

/// A change of a watched object, or of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An object is new (`old` is `None`) or modified.
    Applied {
        /// The object's key.
        key: Key,
        /// Its metadata.
        meta: ObjectMetaLite,
        /// Its metadata before.
        old: Option<ObjectMetaLite>,
        /// The object as JSON, if the watch keeps whole objects.
        object: Option<Arc<str>>,
        /// The object before.
        before: Before,
    },
    /// An object was deleted, or no longer matches the selectors. `meta` is its last known state.
    Deleted {
        /// The object's key.
        key: Key,
        /// Its last known metadata.
        meta: ObjectMetaLite,
        /// The object as JSON, if the watch keeps whole objects.
        object: Option<Arc<str>>,
    },
    /// The subscriber has all objects. Repeated after each relist, and when a watch recovers from `Waiting`.
    Synced,
    /// The watch fails and is retried. Sent once for each reason.
    Waiting(Waiting),
    /// The replay is complete.
    Replayed,
}

impl Change {
    /// The object that changed, if one did.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Change::Applied { key, .. } | Change::Deleted { key, .. } => Some(key),
            Change::Synced | Change::Waiting(_) | Change::Replayed => None,
        }
    }

    /// Bytes of whole objects in the change.
    pub fn object_bytes(&self) -> usize {
        let len = |object: &Option<Arc<str>>| object.as_ref().map_or(0, |object| object.len());
        match self {
            Change::Applied { object, before: Before::Whole(before), .. } => len(object) + before.len(),
            Change::Applied { object, .. } | Change::Deleted { object, .. } => len(object),
            Change::Synced | Change::Waiting(_) | Change::Replayed => 0,
        }
    }
}
