//! What is known of one watch: its index, and what whoever listens is told of it. Whatever its upstream learns comes
//! here, and goes on to the [narrower watches](super::following) that follow it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use wasmop_core::watch::{
    Change, Index, ObjectBudget, Replay, Resolved, Seen, WaitReason, Waiting, WatchEvent, WatchId, WatchPosition,
};

use super::flow_control::{Delivery, FlowControl};
use super::journal::Journal;
use followers::{Narrower, Wider};

pub(super) mod followers;

/// What an upstream task and the hub both see. Events are sent with the state locked, so that a
/// replay and the changes after it arrive in order. Of two watches the wider one is locked first.
pub(super) struct Shared {
    pub id: WatchId,
    pub events: UnboundedSender<Delivery>,
    pub state: Mutex<State>,
    /// To be locked before `state`.
    pub journal: Option<Mutex<Journal>>,
    /// Where a host that starts here is in the journal, if there is one.
    pub start: Option<WatchPosition>,
    /// For its whole objects.
    pub room: Arc<ObjectBudget>,
    /// For whole objects on their way to the host's loop.
    pub flow: Arc<FlowControl>,
    /// Tells the upstream that `State::widening` is set.
    pub widened: Notify,
    /// Tells the upstream that a wider watch may be one to follow now.
    pub nudged: Notify,
}

/// A watch, for whoever writes its journal.
#[derive(Clone)]
pub struct Watched(pub(super) Arc<Shared>);

impl Watched {
    /// Writes what the watch has seen since the last time. A [`WatchPosition`] taken before this is in the journal
    /// after it.
    pub fn save(&self) -> io::Result<()> {
        let Some(journal) = &self.0.journal else { return Ok(()) };
        let mut journal = journal.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (to_save, namespaced) = {
            let mut state = self.0.state();
            (journal.to_save(&mut state.index), state.namespaced())
        };
        journal.write(to_save, namespaced)
    }
}

#[derive(Default)]
pub(super) struct State {
    pub index: Index,
    /// The index holds all there is, or did when the watch was last in order.
    pub synced: bool,
    pub waiting: Option<Waiting>,
    /// The index is as the objects were at this resource version, or later; `None` during a list, and if
    /// resource versions are no numbers.
    pub position: Option<u64>,
    /// The last position there was.
    pub reached: Option<u64>,
    pub resolved: Option<Resolved>,
    /// Lists begun.
    pub lists: u64,
    /// As an earlier host has seen it.
    pub was_namespaced: Option<bool>,
    /// What comes has whole objects.
    pub whole: bool,
    /// Whole objects are wanted, of which the index has metadata until the next list.
    pub needs_list: bool,
    /// The upstream has yet to begin with whole objects.
    pub widening: bool,
    /// Nobody wants it any more.
    pub closed: bool,
    /// Those that have all its objects.
    pub wider: Vec<Wider>,
    /// It follows one of them, and asks the API server for nothing.
    pub follows: bool,
    /// Those whose objects it has.
    pub narrower: Vec<Narrower>,
    pub deferred: Vec<Deferred>,
}

/// A replay that waits for the first list.
pub(super) struct Deferred {
    subscriber: u64,
    /// Number of the last change that the subscriber has seen.
    seen: Option<u64>,
    /// Number of the last change before it subscribed.
    until: u64,
}

impl State {
    pub fn namespaced(&self) -> Option<bool> {
        self.resolved.as_ref().map(|resolved| resolved.namespaced).or(self.was_namespaced)
    }
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A list begins; one under way is given up.
    pub fn begin_list(&self) {
        self.begin_list_of(&mut self.state());
    }

    pub fn begin_list_of(&self, state: &mut State) {
        state.index.begin_list();
        state.position = None;
        state.followers().for_each(|(_, watch)| watch.begin_list());
    }

    /// An object was in a list, was added or was modified. `labels`: its `metadata.labels`.
    pub fn apply(&self, seen: Seen, labels: Option<&RawValue>) {
        self.apply_to(&mut self.state(), seen, labels, true);
    }

    /// `has_room`: if it is whole, it may be kept so.
    pub fn apply_to(&self, state: &mut State, mut seen: Seen, labels: Option<&RawValue>, has_room: bool) {
        if !state.whole {
            seen.object = None;
        }
        if !state.is_followed() {
            return self.update(state, |index| index.apply_in(seen, has_room));
        }
        self.update(state, |index| index.apply_in(seen.clone(), has_room));
        let has_room = state.index.object(&seen.key).is_some();
        for (narrowing, watch) in state.followers() {
            if narrowing.contains(&seen.key, labels) {
                watch.apply_to(&mut watch.state(), seen.clone(), labels, has_room);
            } else {
                // It may be one no longer.
                watch.delete(seen.clone());
            }
        }
    }

    /// An object was deleted, or is no longer one of the watch's.
    pub fn delete(&self, mut seen: Seen) {
        let state = &mut *self.state();
        if !state.whole {
            seen.object = None;
        }
        self.update(state, |index| index.delete(seen.clone()));
        state.followers().for_each(|(_, watch)| watch.delete(seen.clone()));
    }

    /// The list is complete.
    pub fn finish_list(&self) {
        self.finish_list_of(&mut self.state());
    }

    pub fn finish_list_of(&self, state: &mut State) {
        self.update(state, Index::finish_list);
        state.followers().for_each(|(_, watch)| watch.finish_list());
    }

    /// The index is as the objects were at this resource version; `None`: at one that is no number.
    pub fn set_position(&self, position: Option<u64>) {
        self.set_position_of(&mut self.state(), position);
    }

    pub fn set_position_of(&self, state: &mut State, position: Option<u64>) {
        state.position = position;
        state.reached = state.reached.max(position);
        state.followers().for_each(|(_, watch)| watch.set_position(position));
    }

    /// Changes the index and sends what came of it.
    fn update<C: IntoIterator<Item = Change>>(&self, state: &mut State, change: impl FnOnce(&mut Index) -> C) {
        let before = state.index.last();
        for (number, change) in (before + 1..).zip(change(&mut state.index)) {
            self.send(number, None, change);
        }
    }

    /// The watch is in order.
    pub fn synced(&self) {
        self.synced_of(&mut self.state());
    }

    pub fn synced_of(&self, state: &mut State) {
        if state.widening {
            return;
        }
        state.synced = true;
        state.waiting = None;
        self.send(state.index.last(), None, Change::Synced);
        for Deferred { subscriber, seen, until } in std::mem::take(&mut state.deferred) {
            self.replay(state, subscriber, seen, until);
        }
        state.followers().for_each(|(_, watch)| watch.synced());
        state.nudge();
    }

    /// From now on whole objects are wanted, which a list will bring.
    pub fn widen(&self) {
        let mut state = self.state();
        (state.needs_list, state.widening) = (true, true);
        state.synced = false;
        state.position = None;
        drop(state);
        self.widened.notify_one();
    }

    /// Until the upstream is to begin with whole objects.
    pub async fn widened(&self) {
        self.widened.notified().await;
    }

    /// The upstream lists whole objects from now on. What has changed since somebody wanted them came without.
    pub fn begin_whole(&self) {
        let mut state = self.state();
        (state.widening, state.whole) = (false, true);
        let last = state.index.last();
        state.deferred.iter_mut().for_each(|deferred| deferred.until = last);
    }

    /// The watch has to wait; told once for each cause.
    pub fn wait_for(&self, waiting: Waiting) {
        let mut state = self.state();
        if state.waiting.as_ref().is_none_or(|told| told.cause != waiting.cause) {
            state.waiting = Some(waiting.clone());
            self.send(state.index.last(), None, Change::Waiting(waiting.clone()));
            if waiting.cause == WaitReason::Unreachable && state.position.is_some() {
                // So it is for them, and they are not all to ask when it is back.
                state.followers().for_each(|(_, watch)| watch.wait_for(waiting.clone()));
            } else {
                // They may have more luck.
                state.let_go();
            }
        }
    }

    pub fn send(&self, number: u64, replay: Option<Replay>, change: Change) {
        let charge = self.flow.charge(change.object_bytes());
        let event = WatchEvent { watch: self.id, number, replay, change };
        // Without a receiver the host is shutting down.
        let _ = self.events.send(Delivery::new(event, charge));
    }

    /// Number of the last change that an earlier host saw.
    pub fn recovered(&self) -> u64 {
        self.start.map_or(0, |place| place.number)
    }

    /// Tells a subscriber what it has not seen of what was known at `until`.
    fn replay(&self, state: &State, subscriber: u64, seen: Option<u64>, until: u64) {
        let missed = seen.and_then(|seen| state.index.replay_between(seen, until));
        let replay = Some(Replay { subscriber, missed: missed.is_some() });
        let send = |change| self.send(state.index.last(), replay, change);
        match missed {
            Some(changes) => changes.for_each(send),
            None => state.index.replay(until).for_each(send),
        }
        send(Change::Replayed);
    }

    /// The same, after the first list if need be: who is to see all there is does not see what was there
    /// before, and who needs whole objects needs that list.
    pub fn replay_listed(&self, state: &mut State, subscriber: u64, seen: Option<u64>, until: u64) {
        let from_journal_alone = self.recovered() > 0;
        if !state.synced && (state.needs_list || from_journal_alone && seen.is_none()) {
            state.deferred.push(Deferred { subscriber, seen, until });
        } else {
            self.replay(state, subscriber, seen, until);
        }
    }
}
