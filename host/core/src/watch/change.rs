//! What changed of a watched object, and the news of a watch that carry it to the host's loop.

use std::sync::Arc;

use super::object_meta::ObjectMetaLite;
use super::waiting::Waiting;
use crate::work_queue::Key;

/// An upstream watch of a `WatchHub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u32);

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

/// News of a watch.
#[derive(Debug)]
pub struct WatchEvent {
    pub watch: WatchId,
    /// Number of the watch's last change, this one included. Whoever has seen this event and all before
    /// it has seen the changes up to there.
    pub number: u64,
    /// Set if it is for one subscriber only.
    pub replay: Option<Replay>,
    pub change: Change,
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
    pub fn object_bytes(&self) -> usize {
        let len = |object: &Option<Arc<str>>| object.as_ref().map_or(0, |object| object.len());
        match self {
            Change::Applied { object, before: Before::Whole(before), .. } => len(object) + before.len(),
            Change::Applied { object, .. } | Change::Deleted { object, .. } => len(object),
            Change::Synced | Change::Waiting(_) | Change::Replayed => 0,
        }
    }
}
