//! Turns subscriptions into upstream watches; equal subscriptions share one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use wasmop_core::watch::{
    CacheView, Change, ObjectBudget, ObjectUsage, Replay, Resolved, WatchId, WatchPosition, WatchRequest, WatchStatus,
};
use wasmop_core::work_queue::Key;

use super::chance::Chance;
use super::derivation::Derivation;
use super::derived::link;
use super::discovery::Discovery;
use super::flow_control::{Delivery, FlowControl};
use super::journal::{Journals, Recovered};
use super::shared_watch::{SharedWatch, State, Watched};
use super::upstream::{Upstream, UpstreamTimings};

/// Time after which all controllers of a starting host have opened their journals.
const CLEAN_AFTER: Duration = Duration::from_secs(600);

/// The upstream watches of a host.
pub struct WatchHub {
    timings: UpstreamTimings,
    chance: Chance,
    client: kube::Client,
    events: UnboundedSender<Delivery>,
    discovery: Arc<Discovery>,
    /// Whether the API server supports streamed lists, as far as is known.
    pub(super) streaming: Arc<AtomicBool>,
    /// `None`: the next host does not continue the watches.
    journals: Option<Journals>,
    /// The task that removes unused journals.
    cleaning: Option<AbortHandle>,
    /// The budget for whole objects of all watches.
    room: Arc<ObjectBudget>,
    /// Flow control of whole objects on their way to the control loop.
    flow: Arc<FlowControl>,
    /// Watches by request, with `full_objects` cleared.
    ids: HashMap<WatchRequest, WatchId>,
    /// Ordered, so that runs are repeatable.
    watches: BTreeMap<WatchId, Watch>,
    next_id: u32,
}

struct Watch {
    /// Asks for whole objects if any subscriber has asked for them.
    request: WatchRequest,
    /// Calls of `subscribe` without a `release`.
    subscribers: usize,
    state: Arc<SharedWatch>,
    task: AbortHandle,
}

impl WatchHub {
    /// A hub without watches. All watches send their events to `events`, and keep their state in `journals` for the
    /// next host.
    ///
    /// # Panics
    /// It must be used within a tokio runtime.
    pub fn new(client: kube::Client, events: UnboundedSender<Delivery>, journals: Option<Journals>) -> Self {
        Self::with_timings(client, events, journals, UpstreamTimings::default())
    }

    /// As [`WatchHub::new`], with the random numbers of a seed, so that a simulation can repeat a run. It does not
    /// remove old journals, which needs a thread and the time of day.
    pub fn seeded(
        client: kube::Client,
        events: UnboundedSender<Delivery>,
        journals: Option<Journals>,
        seed: u64,
    ) -> Self {
        Self::with_chance(client, events, journals, UpstreamTimings::default(), Chance::seeded(seed))
    }

    pub(super) fn with_timings(
        client: kube::Client,
        events: UnboundedSender<Delivery>,
        journals: Option<Journals>,
        timings: UpstreamTimings,
    ) -> Self {
        let cleaning = journals.clone().map(|journals| tokio::spawn(clean(journals)).abort_handle());
        let mut hub = Self::with_chance(client, events, journals, timings, Chance::new());
        hub.cleaning = cleaning;
        hub
    }

    fn with_chance(
        client: kube::Client,
        events: UnboundedSender<Delivery>,
        journals: Option<Journals>,
        timings: UpstreamTimings,
        chance: Chance,
    ) -> Self {
        // Below the shortest jittered delay, so that each attempt to find a missing CRD gets a new answer.
        let discovery = Arc::new(Discovery::new(client.clone(), timings.missing_delay / 2));
        WatchHub {
            timings,
            chance,
            client,
            events,
            discovery,
            streaming: Arc::new(AtomicBool::new(true)),
            journals,
            cleaning: None,
            room: Arc::default(),
            flow: Arc::default(),
            ids: HashMap::new(),
            watches: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Starts a watch, or joins the existing one for the same objects. A subscriber that joins gets earlier objects by
    /// [`WatchHub::replay`].
    ///
    /// A watch of whole objects also serves subscribers that need metadata only. A metadata watch switches to whole
    /// objects for the first subscriber that needs them. A watch derives from a wider one where it can.
    pub fn subscribe(&mut self, request: WatchRequest) -> WatchId {
        let key = WatchRequest { full_objects: false, ..request.clone() };
        if let Some(&id) = self.ids.get(&key) {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.subscribers += 1;
                if request.full_objects && !watch.request.full_objects {
                    watch.request.full_objects = true;
                    watch.state.widen();
                }
            }
            return id;
        }
        let id = WatchId(self.next_id);
        self.next_id += 1;
        let recovered = self.journals.as_ref().map(|journals| journals.recover(&request, self.chance.number()));
        let mut state = State { whole: request.full_objects, ..State::default() };
        let mut start = None;
        let journal = recovered.map(|Recovered { journal, index, namespaced }| {
            start = Some(WatchPosition { watch: journal.watch(), lineage: journal.lineage(), number: index.last() });
            state.needs_list = request.full_objects && !index.is_empty();
            (state.index, state.was_namespaced) = (index, namespaced);
            Mutex::new(journal)
        });
        state.index.keep_in(self.room.clone());
        let state = Arc::new(SharedWatch {
            id,
            events: self.events.clone(),
            state: Mutex::new(state),
            journal,
            start,
            room: self.room.clone(),
            flow: self.flow.clone(),
            widened: Notify::new(),
            parent_changed: Notify::new(),
        });
        for other in self.watches.values() {
            if let Some(derivation) = Derivation::between(&other.request, &request) {
                link(&other.state, &state, derivation);
            } else if let Some(derivation) = Derivation::between(&request, &other.request) {
                link(&state, &other.state, derivation);
            }
        }
        let (client, discovery) = (self.client.clone(), self.discovery.clone());
        let timings = (self.timings, self.chance.clone());
        let upstream =
            Upstream::new(timings, client, discovery, request.clone(), state.clone(), self.streaming.clone());
        let task = tokio::spawn(upstream.run()).abort_handle();
        self.ids.insert(key, id);
        self.watches.insert(id, Watch { request, subscribers: 1, state, task });
        id
    }

    /// Undoes one `subscribe`. A watch without subscribers ends.
    pub fn release(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.subscribers -= 1;
        if watch.subscribers == 0
            && let Some(watch) = self.watches.remove(&id)
        {
            watch.task.abort();
            watch.state.close();
            self.ids.remove(&WatchRequest { full_objects: false, ..watch.request });
        }
    }

    /// Sends the current state to one subscriber: `Synced` if the list is complete, `Waiting` if the watch waits,
    /// `Applied` for every object, and `Replayed`. After an incomplete list the rest and `Synced` follow for all
    /// subscribers. The replay covers all changes up to the number returned, also those still in the channel.
    pub fn replay(&self, id: WatchId, subscriber: u64) -> u64 {
        let Some(watch) = self.watches.get(&id) else { return 0 };
        let mut state = watch.state.state();
        let number = state.index.last();
        let send = |change| watch.state.send(number, Some(Replay { subscriber, missed: false }), change);
        if state.synced {
            send(Change::Synced);
        }
        if let Some(waiting) = &state.waiting {
            send(Change::Waiting(waiting.clone()));
        }
        watch.state.replay_listed(&mut state, subscriber, None, number);
        number
    }

    /// Sends the state from an earlier host to a subscriber that has seen all changes of this host. With its place at
    /// that time it sends only later changes, if the journal has them. Ends with `Replayed`.
    pub fn recall(&self, id: WatchId, subscriber: u64, place: Option<WatchPosition>) {
        let Some(watch) = self.watches.get(&id) else { return };
        let seen = place.zip(watch.state.journal.as_ref()).and_then(|(place, journal)| journal.lock().number(place));
        watch.state.replay_listed(&mut watch.state.state(), subscriber, seen, watch.state.recovered());
    }

    /// Number of the last change of an earlier host, after which this host continues.
    pub fn recovered(&self, id: WatchId) -> u64 {
        self.watches.get(&id).map_or(0, |watch| watch.state.recovered())
    }

    /// The place to save for a subscriber that has seen all changes up to `number`; `None` without a journal.
    pub fn place(&self, id: WatchId, number: u64) -> Option<WatchPosition> {
        self.watches.get(&id)?.state.start.map(|start| WatchPosition { number, ..start })
    }

    /// Whether the place belongs to this watch.
    pub fn is_in(&self, place: &WatchPosition, id: WatchId) -> bool {
        self.watches.get(&id).and_then(|watch| watch.state.start).is_some_and(|start| start.watch == place.watch)
    }

    /// The request of a watch.
    pub fn request(&self, id: WatchId) -> Option<&WatchRequest> {
        self.watches.get(&id).map(|watch| &watch.request)
    }

    /// A handle of the watch, to save its journal.
    pub fn watched(&self, id: WatchId) -> Option<Watched> {
        self.watches.get(&id).map(|watch| Watched(watch.state.clone()))
    }

    /// Whether the watched objects are in namespaces; `None`: not known yet.
    pub fn namespaced(&self, id: WatchId) -> Option<bool> {
        self.watches.get(&id)?.state.state().namespaced()
    }

    /// Keys of all objects in the watch.
    pub fn keys(&self, id: WatchId) -> Vec<Key> {
        self.watches.get(&id).map_or_else(Vec::new, |watch| watch.state.state().index.keys().cloned().collect())
    }

    /// The watched resource, once discovery has found it.
    pub fn resolved(&self, id: WatchId) -> Option<Resolved> {
        self.watches.get(&id)?.state.state().resolved.clone()
    }

    /// Whether the object exists and matches the selectors.
    pub fn contains(&self, id: WatchId, key: &str) -> bool {
        self.watches.get(&id).is_some_and(|watch| watch.state.state().index.get(key).is_some())
    }

    /// The object as JSON, if the watch keeps it whole.
    pub fn object(&self, id: WatchId, key: &str) -> Option<Arc<str>> {
        self.watches.get(&id)?.state.state().index.object(key).cloned()
    }

    /// Calls `look` with the current objects; `None` if the watch is not synced.
    pub fn look<T>(&self, id: WatchId, look: impl FnOnce(CacheView<'_>) -> T) -> Option<T> {
        let state = self.watches.get(&id)?.state.state();
        let position = state.position.filter(|_| state.synced && state.waiting.is_none())?;
        Some(look(CacheView { index: &state.index, position }))
    }

    /// The plural of the watched resource, if it is known.
    pub fn plural(&self, id: WatchId) -> Option<String> {
        let watch = self.watches.get(&id)?;
        if !watch.request.plural.is_empty() {
            return Some(watch.request.plural.clone());
        }
        Some(watch.state.state().resolved.as_ref()?.plural.clone())
    }

    /// Number of objects in the watch.
    pub fn objects(&self, id: WatchId) -> usize {
        self.watches.get(&id).map_or(0, |watch| watch.state.state().index.len())
    }

    /// Limits the bytes of whole objects that all watches keep; `None`: unlimited. Further objects are kept as metadata.
    pub fn limit_objects(&self, bytes: Option<u64>) {
        self.room.set_limit(bytes);
    }

    /// Bytes of whole objects, and how many were refused.
    pub fn objects_usage(&self) -> ObjectUsage {
        self.room.usage()
    }

    /// Bytes of whole objects on their way to the control loop.
    #[cfg(test)]
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.flow.bytes()
    }

    /// The status of all watches, ordered by resource.
    pub fn status(&self) -> Vec<WatchStatus> {
        let status = |watch: &Watch| {
            let state = watch.state.state();
            WatchStatus {
                resource: watch.request.resource(),
                objects: state.index.len(),
                lists: state.lists,
                synced: state.synced,
                waiting: state.waiting.clone(),
                follows: state.derived,
            }
        };
        let mut all: Vec<_> = self.watches.values().map(status).collect();
        all.sort_by(|a, b| a.resource.cmp(&b.resource));
        all
    }

    /// Number of watches.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there are no watches.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }
}

/// Removes old journals once, after [`CLEAN_AFTER`].
async fn clean(journals: Journals) {
    tokio::time::sleep(CLEAN_AFTER).await;
    let removed = tokio::task::spawn_blocking(move || journals.remove_unused(SystemTime::now())).await;
    match removed.map_err(std::io::Error::other).flatten() {
        Ok(0) => {}
        Ok(journals) => tracing::info!(journals, "removed watch journals unused for 30 days"),
        Err(error) => tracing::warn!(%error, "cannot remove old watch journals"),
    }
}

impl Drop for WatchHub {
    fn drop(&mut self) {
        if let Some(cleaning) = &self.cleaning {
            cleaning.abort();
        }
        for watch in self.watches.values() {
            watch.task.abort();
        }
    }
}
