//! Turns requests for watches into upstream watches, each started once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use wasmop_core::watch::{Change, Known, Place, Replay, Resolved, Room, Usage, WatchId, WatchRequest, WatchStatus};
use wasmop_core::work_queue::Key;

use super::chance::Chance;
use super::derivation::Derivation;
use super::derived::link;
use super::discovery::Discovery;
use super::flow_control::{Delivery, FlowControl};
use super::journal::{Journals, Recovered};
use super::shared_watch::{SharedWatch, State, Watched};
use super::upstream::{Upstream, UpstreamTimings};

/// By then, the controllers of a host that starts have taken up their journals.
const CLEAN_AFTER: Duration = Duration::from_secs(600);

/// The upstream watches of a host.
pub struct WatchHub {
    timings: UpstreamTimings,
    chance: Chance,
    client: kube::Client,
    events: UnboundedSender<Delivery>,
    discovery: Arc<Discovery>,
    /// The API server serves lists as the beginning of a watch, as far as is known.
    pub(super) streaming: Arc<AtomicBool>,
    /// `None`: nothing is kept for the next host.
    journals: Option<Journals>,
    /// Removes journals of watches that there are no longer.
    cleaning: Option<AbortHandle>,
    /// For the whole objects of all watches.
    room: Arc<Room>,
    /// For whole objects on their way to the host's loop.
    flow: Arc<FlowControl>,
    /// By what is asked for, whole objects or not.
    ids: HashMap<WatchRequest, WatchId>,
    /// In order, so that what is done to all of them is done in the same order in each run.
    watches: BTreeMap<WatchId, Watch>,
    next_id: u32,
}

struct Watch {
    /// For whole objects if any subscriber has asked for them.
    request: WatchRequest,
    /// `subscribe`s that were not `release`d.
    subscribers: usize,
    state: Arc<SharedWatch>,
    task: AbortHandle,
}

impl WatchHub {
    /// News of all watches goes to `events`. Must be used within a tokio runtime.
    /// `journals`: where what it learns is kept for the next host.
    pub fn new(client: kube::Client, events: UnboundedSender<Delivery>, journals: Option<Journals>) -> Self {
        Self::with_timings(client, events, journals, UpstreamTimings::default())
    }

    /// As [`WatchHub::new`], with the random numbers of a seed. It does not remove old journals, which takes a thread
    /// and the time of day: on a runtime with one thread and a clock that is stopped, a run can be repeated.
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
        // Below the shortest jittered delay, so that each look for a missing CRD sees a new answer.
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

    /// Starts a watch, or joins the one there is for the same objects. One that joins has missed
    /// what came before: `replay` gives it.
    ///
    /// A watch that has whole objects serves those that want metadata only; one that has not begins to list and watch
    /// them when somebody wants them, which changes nothing for the others. A child watch follows a parent one where
    /// it can.
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
            start = Some(Place { watch: journal.watch(), lineage: journal.lineage(), number: index.last() });
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

    /// Undoes one `subscribe`; a watch that nobody wants any more ends.
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

    /// Sends what is known now to one subscriber: `Synced` if that is all there is, `Waiting` if the watch
    /// has to wait, `Applied` for every object, and `Replayed`. If it was not all, the rest and `Synced` follow
    /// for everybody. Changes up to the number returned are covered, also those still on their way to everybody.
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

    /// Sends what an earlier host knew to one subscriber, who has missed nothing of this one's. With the
    /// place that it had then, only what has changed since, if that is known. Ends with `Replayed`.
    pub fn recall(&self, id: WatchId, subscriber: u64, place: Option<Place>) {
        let Some(watch) = self.watches.get(&id) else { return };
        let seen = place
            .zip(watch.state.journal.as_ref())
            .and_then(|(place, journal)| journal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).number(place));
        watch.state.replay_listed(&mut watch.state.state(), subscriber, seen, watch.state.recovered());
    }

    /// Number of the last change that an earlier host saw: where this one goes on.
    pub fn recovered(&self, id: WatchId) -> u64 {
        self.watches.get(&id).map_or(0, |watch| watch.state.recovered())
    }

    /// What to keep for the next host of who has seen all changes up to `number`.
    pub fn place(&self, id: WatchId, number: u64) -> Option<Place> {
        self.watches.get(&id)?.state.start.map(|start| Place { number, ..start })
    }

    /// Whether a place is one in this watch.
    pub fn is_in(&self, place: &Place, id: WatchId) -> bool {
        self.watches.get(&id).and_then(|watch| watch.state.start).is_some_and(|start| start.watch == place.watch)
    }

    /// What a watch is for.
    pub fn request(&self, id: WatchId) -> Option<&WatchRequest> {
        self.watches.get(&id).map(|watch| &watch.request)
    }

    /// The watch, for its journal.
    pub fn watched(&self, id: WatchId) -> Option<Watched> {
        self.watches.get(&id).map(|watch| Watched(watch.state.clone()))
    }

    /// Whether the watched objects are in namespaces, as far as it is known.
    pub fn namespaced(&self, id: WatchId) -> Option<bool> {
        self.watches.get(&id)?.state.state().namespaced()
    }

    /// All objects that the watch holds now.
    pub fn keys(&self, id: WatchId) -> Vec<Key> {
        self.watches.get(&id).map_or_else(Vec::new, |watch| watch.state.state().index.keys().cloned().collect())
    }

    /// The resource that is watched, once discovery has answered.
    pub fn resolved(&self, id: WatchId) -> Option<Resolved> {
        self.watches.get(&id)?.state.state().resolved.clone()
    }

    /// Whether the watch holds this object: it exists and matches the selectors.
    pub fn contains(&self, id: WatchId, key: &str) -> bool {
        self.watches.get(&id).is_some_and(|watch| watch.state.state().index.get(key).is_some())
    }

    /// The object as JSON, if the watch holds it whole.
    pub fn object(&self, id: WatchId, key: &str) -> Option<Arc<str>> {
        self.watches.get(&id)?.state.state().index.object(key).cloned()
    }

    /// What comes of looking at the objects that the watch holds now; `None` if it is not in order.
    pub fn look<T>(&self, id: WatchId, look: impl FnOnce(Known<'_>) -> T) -> Option<T> {
        let state = self.watches.get(&id)?.state.state();
        let position = state.position.filter(|_| state.synced && state.waiting.is_none())?;
        Some(look(Known { index: &state.index, position }))
    }

    /// The plural of what is watched, as far as it is known.
    pub fn plural(&self, id: WatchId) -> Option<String> {
        let watch = self.watches.get(&id)?;
        if !watch.request.plural.is_empty() {
            return Some(watch.request.plural.clone());
        }
        Some(watch.state.state().resolved.as_ref()?.plural.clone())
    }

    /// Objects that the watch holds now.
    pub fn objects(&self, id: WatchId) -> usize {
        self.watches.get(&id).map_or(0, |watch| watch.state.state().index.len())
    }

    /// Most bytes of whole objects that all watches may keep; `None`: as many as there are. The rest is known by
    /// its metadata.
    pub fn limit_objects(&self, bytes: Option<u64>) {
        self.room.set_limit(bytes);
    }

    /// What whole objects take.
    pub fn objects_usage(&self) -> Usage {
        self.room.usage()
    }

    /// Bytes of whole objects on their way to the host's loop.
    #[cfg(test)]
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.flow.bytes()
    }

    /// How all watches are.
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

    /// Watches there are.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }
}

/// Removes old journals once, some time after the start.
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
