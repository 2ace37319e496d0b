//! What the control loop of a simulated host asks of the watches: the real hub, and planted bugs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmop_api::environment::{HubEnvironment, ResponseCredit};
use wasmop_core::control_loop::{Credit, Environment};
use wasmop_core::watch::{CacheView, Change, Judged, WatchId, WatchPosition, WatchRequest};
use wasmop_core::work_queue::Key;

use crate::plant::Plant;

/// The watches of a simulated host.
pub struct SimulatedEnvironment {
    /// The real ones.
    pub inner: HubEnvironment,
    plant: Option<Plant>,
}

/// The real credit.
#[derive(Clone, Debug)]
pub struct SimulatedCredit {
    inner: ResponseCredit,
    plant: Option<Plant>,
}

impl SimulatedCredit {
    /// For requests.
    pub fn semaphore(&self) -> Arc<Semaphore> {
        self.inner.semaphore()
    }
}

impl Credit for SimulatedCredit {
    fn try_take(&self, bytes: usize) -> bool {
        self.inner.try_take(bytes)
    }

    fn give(&self, bytes: usize) {
        let twice = if self.plant == Some(Plant::GiveCreditTwice) { bytes } else { 0 };
        self.inner.give(bytes + twice);
    }

    fn available(&self) -> usize {
        self.inner.available()
    }
}

impl SimulatedEnvironment {
    /// The hub's, with a bug.
    pub fn new(inner: HubEnvironment, plant: Option<Plant>) -> SimulatedEnvironment {
        SimulatedEnvironment { inner, plant }
    }
}

impl Environment for SimulatedEnvironment {
    type Credit = SimulatedCredit;

    fn new_credit(&mut self, bytes: usize) -> SimulatedCredit {
        SimulatedCredit { inner: self.inner.new_credit(bytes), plant: self.plant }
    }

    fn subscribe(&mut self, request: WatchRequest) -> WatchId {
        self.inner.subscribe(request)
    }

    fn release(&mut self, watch: WatchId) {
        if self.plant != Some(Plant::KeepWatches) {
            self.inner.release(watch);
        }
    }

    fn replay(&mut self, watch: WatchId, subscriber: u64) -> u64 {
        self.inner.replay(watch, subscriber)
    }

    fn recall(&mut self, watch: WatchId, subscriber: u64, place: Option<WatchPosition>) {
        // The controller that has seen most of it is at the end of the journal.
        let number = self.inner.recovered(watch);
        let swapped = |place: WatchPosition| {
            if self.plant == Some(Plant::SwapPlaces) { WatchPosition { number, ..place } } else { place }
        };
        self.inner.recall(watch, subscriber, place.map(swapped));
    }

    fn recovered(&self, watch: WatchId) -> u64 {
        self.inner.recovered(watch)
    }

    fn is_in(&self, place: &WatchPosition, watch: WatchId) -> bool {
        self.inner.is_in(place, watch)
    }

    fn place(&self, watch: WatchId, seen: u64) -> Option<WatchPosition> {
        self.inner.place(watch, seen)
    }

    fn is_recorded(&self, watch: WatchId) -> bool {
        self.inner.is_recorded(watch)
    }

    fn request(&self, watch: WatchId) -> Option<WatchRequest> {
        self.inner.request(watch)
    }

    fn plural(&self, watch: WatchId) -> Option<String> {
        self.inner.plural(watch)
    }

    fn namespaced(&self, watch: WatchId) -> Option<bool> {
        self.inner.namespaced(watch)
    }

    fn contains(&self, watch: WatchId, key: &str) -> bool {
        self.inner.contains(watch, key)
    }

    fn keys(&self, watch: WatchId) -> Vec<Key> {
        self.inner.keys(watch)
    }

    fn object(&self, watch: WatchId, key: &str) -> Option<Arc<str>> {
        self.inner.object(watch, key)
    }

    fn look<T>(&self, watch: WatchId, look: impl FnOnce(CacheView<'_>) -> T) -> Option<T> {
        self.inner.look(watch, look)
    }

    fn judge(&mut self, predicate: &str, change: &Change) -> (Judged, Duration) {
        self.inner.judge(predicate, change)
    }

    fn limit_objects(&mut self, bytes: Option<u64>) {
        self.inner.limit_objects(bytes);
    }
}
