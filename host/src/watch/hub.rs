//! Turns requests for watches into upstream watches, each started once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::discovery::Discovery;
pub use super::discovery::Resolved;
use super::upstream::{Pace, Upstream};
use super::{Cause, Change, Index, Waiting, WatchEvent, WatchId, WatchRequest};

/// The upstream watches of a host.
pub struct WatchHub {
    pace: Pace,
    client: kube::Client,
    events: UnboundedSender<WatchEvent>,
    discovery: Arc<Discovery>,
    ids: HashMap<WatchRequest, WatchId>,
    watches: HashMap<WatchId, Watch>,
    next_id: u32,
}

struct Watch {
    request: WatchRequest,
    /// `subscribe`s that were not `release`d.
    subscribers: usize,
    state: Arc<Shared>,
    task: AbortHandle,
}

/// What an upstream task and the hub both see. Events are sent with the state locked, so that a
/// replay and the changes after it arrive in order.
pub(super) struct Shared {
    id: WatchId,
    events: UnboundedSender<WatchEvent>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub index: Index,
    /// The index holds all there is, or did when the watch was last in order.
    pub synced: bool,
    pub waiting: Option<Waiting>,
    pub resolved: Option<Resolved>,
    /// Lists begun.
    pub lists: u64,
}

/// How a watch is, for people.
#[derive(Clone, Debug)]
pub struct WatchStatus {
    /// `websites.demo.wasmop.dev/v1`
    pub resource: String,
    /// Objects that it holds.
    pub objects: usize,
    /// Lists begun: the first, and relists.
    pub lists: u64,
    /// It was in order at least once.
    pub synced: bool,
    pub waiting: Option<Waiting>,
}

impl WatchStatus {
    /// It cannot be had, and not because the API server is away: somebody has to grant or install something.
    pub fn is_refused(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| matches!(w.cause, Cause::Missing | Cause::Forbidden | Cause::Invalid))
    }
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the state and sends what came of it.
    pub fn update<C: IntoIterator<Item = Change>>(&self, change: impl FnOnce(&mut State) -> C) {
        let mut state = self.state();
        for change in change(&mut state) {
            self.send(None, change);
        }
    }

    fn send(&self, subscriber: Option<u64>, change: Change) {
        // Without a receiver the host is shutting down.
        let _ = self.events.send(WatchEvent { watch: self.id, subscriber, change });
    }
}

impl WatchHub {
    /// News of all watches goes to `events`. Must be used within a tokio runtime.
    pub fn new(client: kube::Client, events: UnboundedSender<WatchEvent>) -> Self {
        Self::with_pace(client, events, Pace::default())
    }

    pub(super) fn with_pace(client: kube::Client, events: UnboundedSender<WatchEvent>, pace: Pace) -> Self {
        // Below the shortest jittered delay, so that each look for a missing CRD sees a new answer.
        let discovery = Arc::new(Discovery::new(client.clone(), pace.missing_delay / 2));
        WatchHub { pace, client, events, discovery, ids: HashMap::new(), watches: HashMap::new(), next_id: 0 }
    }

    /// Starts a watch, or joins the one there is for an equal request. One that joins has missed
    /// what came before: `replay` gives it.
    pub fn subscribe(&mut self, request: WatchRequest) -> WatchId {
        if let Some(&id) = self.ids.get(&request) {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.subscribers += 1;
            }
            return id;
        }
        let id = WatchId(self.next_id);
        self.next_id += 1;
        let state = Arc::new(Shared { id, events: self.events.clone(), state: Mutex::default() });
        let (client, discovery) = (self.client.clone(), self.discovery.clone());
        let upstream = Upstream::new(self.pace, client, discovery, request.clone(), state.clone());
        let task = tokio::spawn(upstream.run()).abort_handle();
        self.ids.insert(request.clone(), id);
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
            self.ids.remove(&watch.request);
        }
    }

    /// Sends what is known now, tagged with `subscriber`: `Applied` for every object, then
    /// `Synced` if that was all there is, and `Waiting` if the watch has to wait. If it was not
    /// all, the rest and `Synced` follow untagged, as for everybody.
    pub fn replay(&self, id: WatchId, subscriber: u64) {
        let Some(watch) = self.watches.get(&id) else { return };
        let state = watch.state.state();
        for change in state.index.replay() {
            watch.state.send(Some(subscriber), change);
        }
        if state.synced {
            watch.state.send(Some(subscriber), Change::Synced);
        }
        if let Some(waiting) = &state.waiting {
            watch.state.send(Some(subscriber), Change::Waiting(waiting.clone()));
        }
    }

    /// The resource that is watched, once discovery has answered.
    pub fn resolved(&self, id: WatchId) -> Option<Resolved> {
        self.watches.get(&id)?.state.state().resolved.clone()
    }

    /// Whether the watch holds this object: it exists and matches the selectors.
    pub fn contains(&self, id: WatchId, key: &str) -> bool {
        self.watches.get(&id).is_some_and(|watch| watch.state.state().index.get(key).is_some())
    }

    /// Objects that the watch holds now.
    pub fn objects(&self, id: WatchId) -> usize {
        self.watches.get(&id).map_or(0, |watch| watch.state.state().index.len())
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
            }
        };
        let mut all: Vec<_> = self.watches.values().map(status).collect();
        all.sort_by(|a, b| a.resource.cmp(&b.resource));
        all
    }

    /// Upstream watches there are.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }
}

impl Drop for WatchHub {
    fn drop(&mut self) {
        for watch in self.watches.values() {
            watch.task.abort();
        }
    }
}
