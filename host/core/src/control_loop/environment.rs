//! What the control loop asks of its surroundings and needs an answer to at once. Everything else it wants is an
//! [effect](super::HostEffect).
//!
//! In production the environment is the hub of upstream watches; in tests and in the simulation it is plain data.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::watch::{CacheView, Change, Judged, WatchId, WatchPosition, WatchRequest};
use crate::work_queue::Key;

/// Bytes of responses that one controller may have undelivered in the host: shared by the loop and the requests
/// under way.
pub trait Credit: Clone + Debug {
    /// Takes this many bytes, all or none. Whether there were as many.
    fn try_take(&self, bytes: usize) -> bool;
    /// Gives bytes back, which lets waiting requests go on.
    fn give(&self, bytes: usize);
    /// Bytes that can be taken now.
    fn available(&self) -> usize;
}

/// The watches of a host and what they hold.
pub trait Environment {
    /// The credit that requests take from.
    type Credit: Credit;

    /// A controller's requests begin: room for this many bytes.
    fn new_credit(&mut self, bytes: usize) -> Self::Credit;

    /// Begins a watch, or joins the one there is for the same objects. Undone by [`Environment::release`].
    fn subscribe(&mut self, request: WatchRequest) -> WatchId;

    /// Undoes one [`Environment::subscribe`]. A watch without subscribers ends.
    fn release(&mut self, watch: WatchId);

    /// Sends one subscriber all objects that the watch holds, as events that end with `Replayed`. Returns the number
    /// of the last change that is covered.
    fn replay(&mut self, watch: WatchId, subscriber: u64) -> u64;

    /// Sends one subscriber what an earlier host knew; with `place` only what it has missed. Ends with `Replayed`.
    fn recall(&mut self, watch: WatchId, subscriber: u64, place: Option<WatchPosition>);

    /// The number of the last change that an earlier host has recorded for the watch; 0 without one.
    fn recovered(&self, watch: WatchId) -> u64;

    /// Whether this place is one in this watch.
    fn is_in(&self, place: &WatchPosition, watch: WatchId) -> bool;

    /// How a later host finds the changes after `seen`; `None` if nothing is recorded of the watch.
    fn place(&self, watch: WatchId, seen: u64) -> Option<WatchPosition>;

    /// Whether a later host could continue this watch.
    fn is_recorded(&self, watch: WatchId) -> bool;

    /// What the watch is for.
    fn request(&self, watch: WatchId) -> Option<WatchRequest>;

    /// The plural name of the watched resource, as far as it is known.
    fn plural(&self, watch: WatchId) -> Option<String>;

    /// Whether the watched kind has namespaces, as far as it is known.
    fn namespaced(&self, watch: WatchId) -> Option<bool>;

    /// Whether the watch holds this object.
    fn contains(&self, watch: WatchId, key: &str) -> bool;

    /// All objects that the watch holds.
    fn keys(&self, watch: WatchId) -> Vec<Key>;

    /// The object as JSON, if the watch holds it whole.
    fn object(&self, watch: WatchId, key: &str) -> Option<Arc<str>>;

    /// Calls `look` with the objects of a watch that is in order; `None` if it is not.
    fn look<T>(&self, watch: WatchId, look: impl FnOnce(CacheView<'_>) -> T) -> Option<T>;

    /// Judges a change by a predicate in CEL. Also returns the CPU time that took.
    fn judge(&mut self, predicate: &str, change: &Change) -> (Judged, Duration);

    /// From now on whole objects of all watches may take so many bytes; `None`: unlimited.
    fn limit_objects(&mut self, bytes: Option<u64>);
}
