//! The state of one watch, shared by its upstream task and the hub. Changes go to the subscribers and to the
//! [derived watches](super::derived).

use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use wasmop_core::watch::{
    Change, Index, ObjectBudget, Replay, Resolved, Seen, WaitReason, Waiting, WatchEvent, WatchId, WatchPosition,
};

use super::flow_control::{Delivery, FlowControl};
use super::journal::Journal;
use relatives::{Child, Parent};

pub(super) mod relatives;

/// A watch, shared by its upstream task and the hub.
///
/// Events are sent with the state locked, so that a replay and later changes arrive in order. The state of a parent is
/// locked before that of its child.
pub(super) struct SharedWatch {
    pub id: WatchId,
    pub events: UnboundedSender<Delivery>,
    pub state: Mutex<State>,
    /// Locked before `state`.
    pub journal: Option<Mutex<Journal>>,
    /// The place in the journal at which this host started.
    pub start: Option<WatchPosition>,
    /// The budget for whole objects.
    pub room: Arc<ObjectBudget>,
    /// Flow control of whole objects on their way to the control loop.
    pub flow: Arc<FlowControl>,
    /// Notified when `State::widening` is set.
    pub widened: Notify,
    /// Notified when a parent may have become ready.
    pub parent_changed: Notify,
}

/// A handle of a watch, to save its journal.
#[derive(Clone)]
pub struct Watched(pub(super) Arc<SharedWatch>);

impl Watched {
    /// Writes the changes since the last save. A [`WatchPosition`] taken before the call is valid for the next host after it.
    ///
    /// # Errors
    /// The journal cannot be written; the next save writes it completely.
    pub fn save(&self) -> io::Result<()> {
        let Some(journal) = &self.0.journal else { return Ok(()) };
        let mut journal = journal.lock();
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
    /// The index was complete when the watch last worked.
    pub synced: bool,
    pub waiting: Option<Waiting>,
    /// The index is current at this resource version or later; `None` during a list, or if resource versions are not
    /// numbers.
    pub position: Option<u64>,
    /// The highest position so far.
    pub reached: Option<u64>,
    pub resolved: Option<Resolved>,
    /// Number of lists started.
    pub lists: u64,
    /// Whether an earlier host found the objects in namespaces.
    pub was_namespaced: Option<bool>,
    /// The upstream delivers whole objects.
    pub whole: bool,
    /// A subscriber needs whole objects, but the index has metadata until the next list.
    pub needs_list: bool,
    /// The upstream has not switched to whole objects yet.
    pub widening: bool,
    /// The watch has no subscribers.
    pub closed: bool,
    /// Watches that have all objects of this one.
    pub parents: Vec<Parent>,
    /// The watch is attached to a parent, and sends no requests.
    pub derived: bool,
    /// Watches of which this one has all objects.
    pub children: Vec<Child>,
    /// Replays that wait for the first list.
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

impl SharedWatch {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Starts a list, and abandons an unfinished one.
    pub fn begin_list(&self) {
        self.begin_list_of(&mut self.state());
    }

    pub fn begin_list_of(&self, state: &mut State) {
        state.index.begin_list();
        state.position = None;
        state.attached_children().for_each(|(_, watch)| watch.begin_list());
    }

    /// Adds or replaces an object. `labels`: its `metadata.labels`.
    pub fn apply(&self, seen: Seen, labels: Option<&RawValue>) {
        self.apply_to(&mut self.state(), seen, labels, true);
    }

    /// `has_room`: the budget allows to keep the object whole.
    pub fn apply_to(&self, state: &mut State, mut seen: Seen, labels: Option<&RawValue>, has_room: bool) {
        if !state.whole {
            seen.object = None;
        }
        if !state.has_attached_children() {
            return self.update(state, |index| index.apply_in(seen, has_room));
        }
        self.update(state, |index| index.apply_in(seen.clone(), has_room));
        let has_room = state.index.object(&seen.key).is_some();
        for (derivation, watch) in state.attached_children() {
            if derivation.contains(&seen.key, labels) {
                watch.apply_to(&mut watch.state(), seen.clone(), labels, has_room);
            } else {
                // The object may have matched before.
                watch.delete(seen.clone());
            }
        }
    }

    /// Removes an object that was deleted or no longer matches.
    pub fn delete(&self, mut seen: Seen) {
        let state = &mut *self.state();
        if !state.whole {
            seen.object = None;
        }
        self.update(state, |index| index.delete(seen.clone()));
        state.attached_children().for_each(|(_, watch)| watch.delete(seen.clone()));
    }

    /// Completes a list: objects that were not in it are deleted.
    pub fn finish_list(&self) {
        self.finish_list_of(&mut self.state());
    }

    pub fn finish_list_of(&self, state: &mut State) {
        self.update(state, Index::finish_list);
        state.attached_children().for_each(|(_, watch)| watch.finish_list());
    }

    /// Sets the resource version at which the index is current; `None`: it is not a number.
    pub fn set_position(&self, position: Option<u64>) {
        self.set_position_of(&mut self.state(), position);
    }

    pub fn set_position_of(&self, state: &mut State, position: Option<u64>) {
        state.position = position;
        state.reached = state.reached.max(position);
        state.attached_children().for_each(|(_, watch)| watch.set_position(position));
    }

    /// Updates the index, and sends the resulting changes.
    fn update<C: IntoIterator<Item = Change>>(&self, state: &mut State, change: impl FnOnce(&mut Index) -> C) {
        let before = state.index.last();
        for (number, change) in (before + 1..).zip(change(&mut state.index)) {
            self.send(number, None, change);
        }
    }

    /// Marks the watch as working and complete, and sends deferred replays.
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
        state.attached_children().for_each(|(_, watch)| watch.synced());
        state.notify_children();
    }

    /// Requests whole objects, which the next list brings.
    pub fn widen(&self) {
        let mut state = self.state();
        (state.needs_list, state.widening) = (true, true);
        state.synced = false;
        state.position = None;
        drop(state);
        self.widened.notify_one();
    }

    /// Waits until whole objects are requested.
    pub async fn widened(&self) {
        self.widened.notified().await;
    }

    /// Switches to whole objects. Deferred replays cover the changes so far, which came without whole objects.
    pub fn begin_whole(&self) {
        let mut state = self.state();
        (state.widening, state.whole) = (false, true);
        let last = state.index.last();
        state.deferred.iter_mut().for_each(|deferred| deferred.until = last);
    }

    /// Reports why the watch waits, once for each cause.
    pub fn wait_for(&self, waiting: Waiting) {
        let mut state = self.state();
        if state.waiting.as_ref().is_none_or(|reported| reported.cause != waiting.cause) {
            state.waiting = Some(waiting.clone());
            self.send(state.index.last(), None, Change::Waiting(waiting.clone()));
            if waiting.cause == WaitReason::Unreachable && state.position.is_some() {
                // Children cannot reach the API server either, and should not all reconnect at once.
                state.attached_children().for_each(|(_, watch)| watch.wait_for(waiting.clone()));
            } else {
                // Children may have access where the parent has none.
                state.detach_children();
            }
        }
    }

    pub fn send(&self, number: u64, replay: Option<Replay>, change: Change) {
        let charge = self.flow.charge(change.object_bytes());
        let event = WatchEvent { watch: self.id, number, replay, change };
        // The receiver is gone while the host shuts down.
        let _ = self.events.send(Delivery::new(event, charge));
    }

    /// Number of the last change that an earlier host saw.
    pub fn recovered(&self) -> u64 {
        self.start.map_or(0, |place| place.number)
    }

    /// Sends a subscriber the changes after `seen` up to `until`, or all objects if those changes are not known.
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

    /// Replays at once or after the first list. A subscriber of all objects must not get stale ones from the journal,
    /// and whole objects come only with a list.
    pub fn replay_listed(&self, state: &mut State, subscriber: u64, seen: Option<u64>, until: u64) {
        let from_journal_alone = self.recovered() > 0;
        if !state.synced && (state.needs_list || from_journal_alone && seen.is_none()) {
            state.deferred.push(Deferred { subscriber, seen, until });
        } else {
            self.replay(state, subscriber, seen, until);
        }
    }
}
