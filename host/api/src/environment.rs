//! Implements the control loop's [`Environment`] with the watch hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmop_core::control_loop::{Credit, Environment};
use wasmop_core::watch::{CacheView, Change, Judged, Predicates, WatchId, WatchPosition, WatchRequest};
use wasmop_core::work_queue::Key;

use crate::watch::WatchHub;

/// The watches of a host, and the predicates that filter their changes.
pub struct HubEnvironment {
    /// The upstream watches.
    pub hub: WatchHub,
    predicates: Predicates,
    /// CPU time of this thread.
    cpu_clock: fn() -> Duration,
}

impl HubEnvironment {
    /// `cpu_clock` measures the evaluation of predicates; a simulation passes its own.
    pub fn new(hub: WatchHub, cpu_clock: fn() -> Duration) -> HubEnvironment {
        HubEnvironment { hub, predicates: Predicates::default(), cpu_clock }
    }
}

/// Credit of responses. Requests wait on its semaphore.
#[derive(Clone, Debug)]
pub struct ResponseCredit(Arc<Semaphore>);

impl ResponseCredit {
    /// The semaphore for [`Allowance::credit`](crate::api_requests::Allowance::credit): a permit a byte.
    pub fn semaphore(&self) -> Arc<Semaphore> {
        self.0.clone()
    }
}

impl Credit for ResponseCredit {
    fn try_take(&self, bytes: usize) -> bool {
        let Ok(permits) = u32::try_from(bytes) else { return false };
        self.0.try_acquire_many(permits).map(|taken| taken.forget()).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.add_permits(bytes);
    }

    fn available(&self) -> usize {
        self.0.available_permits()
    }
}

impl Environment for HubEnvironment {
    type Credit = ResponseCredit;

    fn new_credit(&mut self, bytes: usize) -> ResponseCredit {
        ResponseCredit(Arc::new(Semaphore::new(bytes)))
    }

    fn subscribe(&mut self, request: WatchRequest) -> WatchId {
        self.hub.subscribe(request)
    }

    fn release(&mut self, watch: WatchId) {
        self.hub.release(watch);
    }

    fn replay(&mut self, watch: WatchId, subscriber: u64) -> u64 {
        self.hub.replay(watch, subscriber)
    }

    fn recall(&mut self, watch: WatchId, subscriber: u64, place: Option<WatchPosition>) {
        self.hub.recall(watch, subscriber, place);
    }

    fn recovered(&self, watch: WatchId) -> u64 {
        self.hub.recovered(watch)
    }

    fn is_in(&self, place: &WatchPosition, watch: WatchId) -> bool {
        self.hub.is_in(place, watch)
    }

    fn place(&self, watch: WatchId, seen: u64) -> Option<WatchPosition> {
        self.hub.place(watch, seen)
    }

    fn is_recorded(&self, watch: WatchId) -> bool {
        self.hub.watched(watch).is_some()
    }

    fn request(&self, watch: WatchId) -> Option<WatchRequest> {
        self.hub.request(watch).cloned()
    }

    fn plural(&self, watch: WatchId) -> Option<String> {
        self.hub.plural(watch)
    }

    fn namespaced(&self, watch: WatchId) -> Option<bool> {
        self.hub.namespaced(watch)
    }

    fn contains(&self, watch: WatchId, key: &str) -> bool {
        self.hub.contains(watch, key)
    }

    fn keys(&self, watch: WatchId) -> Vec<Key> {
        self.hub.keys(watch)
    }

    fn object(&self, watch: WatchId, key: &str) -> Option<Arc<str>> {
        self.hub.object(watch, key)
    }

    fn look<T>(&self, watch: WatchId, look: impl FnOnce(CacheView<'_>) -> T) -> Option<T> {
        self.hub.look(watch, look)
    }

    fn judge(&mut self, predicate: &str, change: &Change) -> (Judged, Duration) {
        let begun = (self.cpu_clock)();
        let verdict = self.predicates.judge(predicate, change);
        (verdict, (self.cpu_clock)().saturating_sub(begun))
    }

    fn limit_objects(&mut self, bytes: Option<u64>) {
        self.hub.limit_objects(bytes);
    }
}
