//! Accounts for the memory that the host holds for one controller.
//!
//! ```text
//! a call of the guest  ─► open calls, with their requests  ─┐
//! an answer            ─► inbox ─► the next steps           ├─► one sum, one limit
//! a change to map      ─► changes ─► inbox                  ┘
//! ```
//!
//! Only the guest can make it grow without bound, so the limit applies when the guest asks for something. Input from
//! outside is throttled: responses wait for credit, and changes drop their objects.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::registration_id::RegistrationId;
use crate::step::{Event, EventKind};
use crate::watch::{WatchId, gone};
use crate::work_queue::Key;

/// Most bytes that the host holds for one controller. A step can emit as much at once.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Extra bytes for refusals, which are answers too. An instance that needs more is lost.
const MAX_REFUSAL_BYTES: usize = 2 << 20;
/// Limit for changes, which leaves room for calls.
const MAX_WITH_CHANGES_BYTES: usize = MAX_HELD_BYTES / 2;
/// Most calls that are open or whose answer is undelivered.
const MAX_CALLS: usize = 4096;
/// Bookkeeping of an open call in the host: table entries and the request's task.
const CALL_BYTES: usize = 256;

/// Invariants, which every method keeps:
/// * `bytes` is the sum of the costs of all events, open calls and changes.
/// * `answers` counts the events in the inbox that end a call.
/// * `owed` counts the changes without an object.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Events not yet delivered, in order.
    inbox: VecDeque<Event>,
    /// By call id.
    calls: BTreeMap<u64, OpenCall>,
    /// Changes that the guest has yet to map, in order.
    changes: VecDeque<WatchedChange>,
    bytes: usize,
    answers: usize,
    owed: usize,
    /// Registrations whose objects are all to be reconciled because changes were dropped, and when.
    all_due: BTreeMap<RegistrationId, Duration>,
    /// Bytes of responses that have left the inbox, see [`Account::take_credit`].
    credit: usize,
    /// Bytes in the inbox that the host put there without credit. They are settled first.
    uncredited: usize,
}

/// A call whose answer has not ended.
#[derive(Debug)]
pub(super) struct OpenCall {
    /// The task that made the call, 0 if none.
    pub task: u64,
    /// A watch, which may end at any time.
    pub is_watch: bool,
    /// The head of its answer has come.
    pub has_head: bool,
    /// Of the request.
    bytes: usize,
}

/// A change of a watched object that the guest maps to objects.
#[derive(Clone, Debug)]
pub struct WatchedChange {
    /// The registration.
    pub registration: RegistrationId,
    /// Index into the registration's watches.
    pub watch: u32,
    /// The upstream watch.
    pub source: WatchId,
    /// The changed object.
    pub key: Key,
    /// The object was deleted.
    pub gone: bool,
    /// The object as JSON; `None`: looked up at delivery.
    pub object: Option<Bytes>,
}

/// The result of looking up an object.
#[derive(Clone, Debug)]
pub enum Found {
    /// As JSON.
    Object(Bytes),
    /// It exists, but its content is not held.
    WithoutObject,
    /// It does not exist.
    Nothing,
}

impl OpenCall {
    fn cost(&self) -> usize {
        CALL_BYTES + self.bytes
    }
}

impl WatchedChange {
    fn cost(&self) -> usize {
        size_of::<WatchedChange>() + self.key.len() + self.object.as_ref().map_or(0, |object| object.len())
    }

    fn is_of(&self, other: &WatchedChange) -> bool {
        (self.registration, self.watch, &self.key) == (other.registration, other.watch, &other.key)
    }
}

/// The result of opening a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Open,
    /// The number is in use. The guest gets no answer, which it would take for that of the first call.
    Duplicate,
    /// The account is full.
    Full,
}

impl Account {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= MAX_HELD_BYTES
    }

    /// Whether not even refusals have room.
    pub fn is_overdrawn(&self) -> bool {
        self.bytes > MAX_HELD_BYTES + MAX_REFUSAL_BYTES
    }

    // --- the inbox

    /// Undelivered events, in order.
    pub fn inbox(&self) -> &VecDeque<Event> {
        &self.inbox
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        self.enter(&event);
        self.inbox.push_back(event);
    }

    /// Adds an event before all others.
    pub fn push_front(&mut self, event: Event) {
        self.enter(&event);
        self.inbox.push_front(event);
    }

    /// Adds an event that the host made, which took no credit.
    pub fn push_own(&mut self, event: Event) {
        self.uncredited += credited_bytes(&event);
        self.push(event);
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<Event> {
        let event = self.inbox.pop_front()?;
        self.leave(&event);
        Some(event)
    }

    /// Drops the events for which `dropped` is true.
    pub fn drop_events(&mut self, dropped: impl Fn(&Event) -> bool) {
        for event in std::mem::take(&mut self.inbox) {
            if dropped(&event) {
                self.leave(&event);
            } else {
                self.inbox.push_back(event);
            }
        }
    }

    fn enter(&mut self, event: &Event) {
        self.bytes += event.cost();
        self.answers += usize::from(is_last(event.kind));
    }

    fn leave(&mut self, event: &Event) {
        self.bytes -= event.cost();
        self.answers -= usize::from(is_last(event.kind));
        let bytes = credited_bytes(event);
        let paid = bytes.min(self.uncredited);
        self.uncredited -= paid;
        self.credit += bytes - paid;
    }

    /// Bytes of responses that left the inbox since the last call, delivered or not. As many more may be received.
    /// Never more than were received on credit.
    pub fn take_credit(&mut self) -> usize {
        std::mem::take(&mut self.credit)
    }

    // --- calls

    /// Open calls, by id.
    pub fn calls(&self) -> &BTreeMap<u64, OpenCall> {
        &self.calls
    }

    /// Opens a call. `bytes`: size of the request.
    pub fn open(&mut self, id: u64, task: u64, is_watch: bool, bytes: usize) -> Opened {
        if self.calls.contains_key(&id) {
            return Opened::Duplicate;
        }
        let call = OpenCall { task, is_watch, has_head: false, bytes };
        // A single large call is always allowed.
        let has_room = self.has_room(call.cost()) || self.calls.is_empty() && self.inbox.is_empty();
        if !has_room || self.calls.len() + self.answers >= MAX_CALLS {
            return Opened::Full;
        }
        self.bytes += call.cost();
        self.calls.insert(id, call);
        Opened::Open
    }

    /// Notes that the answer to a call has begun.
    pub fn answered(&mut self, id: u64) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.has_head = true;
        }
    }

    /// Closes a call. Returns its task if it was open.
    pub fn close(&mut self, id: u64) -> Option<u64> {
        let call = self.calls.remove(&id)?;
        self.bytes -= call.cost();
        Some(call.task)
    }

    // --- changes

    /// Whether changes wait to be mapped.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether the guest has yet to learn of a change.
    pub fn has_unasked(&self) -> bool {
        !self.changes.is_empty()
            || !self.all_due.is_empty()
            || self.inbox.iter().any(|event| event.kind == EventKind::Map)
    }

    /// Takes in a change. If room is short, it drops the object, which is looked up later. If even the name has no
    /// room, all objects of the registration are reconciled.
    pub fn queue_change(&mut self, mut change: WatchedChange) {
        let has_room = |change: &WatchedChange| self.bytes + change.cost() <= MAX_WITH_CHANGES_BYTES;
        if !has_room(&change) {
            change.object = None;
            if !has_room(&change) {
                self.mark_all_due(change.registration, Duration::ZERO);
                return;
            }
            // The earlier change will look up the current state of the object. It is near the end, as objects change in
            // bursts.
            let before = self.changes.iter().rev().take(MAX_COMPARED).find(|other| other.is_of(&change));
            if !change.gone && before.is_some_and(|before| before.object.is_none() && !before.gone) {
                return;
            }
        }
        self.owed += usize::from(change.object.is_none());
        self.bytes += change.cost();
        self.changes.push_back(change);
    }

    /// The next change with its object; `None` if the object has to be looked up first.
    pub fn pop_change(&mut self) -> Option<(WatchedChange, Bytes)> {
        let mut change = self.changes.pop_front_if(|change| change.object.is_some())?;
        self.bytes -= change.cost();
        let object = change.object.take()?;
        Some((change, object))
    }

    /// Looks up missing objects of the next changes: of `next` changes, up to `bytes` bytes. A change of an object
    /// without content becomes a reconcile of all objects.
    pub fn look_up_changes(&mut self, next: usize, bytes: usize, look: impl Fn(WatchId, &str) -> Found) {
        let (mut at, mut found) = (0, 0);
        while self.owed > 0 && found < bytes && at < next.min(self.changes.len()) {
            let change = &mut self.changes[at];
            if change.object.is_none() {
                self.owed -= 1;
                self.bytes -= change.cost();
                let found = if change.gone { Found::Nothing } else { look(change.source, &change.key) };
                match found {
                    Found::Object(object) => change.object = Some(object),
                    Found::Nothing => (change.gone, change.object) = (true, Some(gone(&change.key))),
                    Found::WithoutObject => {
                        let registration = change.registration;
                        self.changes.remove(at);
                        self.mark_all_due(registration, Duration::ZERO);
                        continue;
                    }
                }
                self.bytes += change.cost();
            }
            found += change.cost();
            at += 1;
        }
    }

    /// All objects of a registration are to be reconciled at `at` or earlier.
    pub fn mark_all_due(&mut self, registration: RegistrationId, at: Duration) {
        let due = self.all_due.entry(registration).or_insert(at);
        *due = at.min(*due);
    }

    /// Registrations whose objects are all to be reconciled, and when. Empty until all earlier changes are mapped.
    pub fn take_all_due(&mut self) -> BTreeMap<RegistrationId, Duration> {
        match self.changes.is_empty() {
            true => std::mem::take(&mut self.all_due),
            false => BTreeMap::new(),
        }
    }

    // --- the whole account

    /// Drops everything, because the instance is gone. Returns the calls that were open.
    pub fn clear(&mut self) -> Vec<u64> {
        self.drop_events(|_| true);
        let calls: Vec<u64> = std::mem::take(&mut self.calls).into_keys().collect();
        *self = Account { credit: self.credit, ..Account::default() };
        calls
    }

    /// Frees the memory of empty tables.
    pub fn shrink(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
        if self.calls.is_empty() {
            self.calls = BTreeMap::new();
        }
        if self.changes.is_empty() {
            self.changes = VecDeque::new();
        }
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub fn check(&self) {
        let events: usize = self.inbox.iter().map(Event::cost).sum();
        let calls: usize = self.calls.values().map(OpenCall::cost).sum();
        let changes: usize = self.changes.iter().map(WatchedChange::cost).sum();
        assert_eq!(self.bytes, events + calls + changes);
        assert_eq!(self.answers, self.inbox.iter().filter(|event| is_last(event.kind)).count());
        assert_eq!(self.owed, self.changes.iter().filter(|change| change.object.is_none()).count());
        let credited: usize = self.inbox.iter().map(credited_bytes).sum();
        assert!(self.uncredited <= credited, "only credit that was taken is returned");
    }
}

/// Most changes that a new one without room is compared with.
const MAX_COMPARED: usize = 64;

/// Bytes of a response that took credit.
fn credited_bytes(event: &Event) -> usize {
    if matches!(event.kind, EventKind::Head | EventKind::Body) { event.payload.len() } else { 0 }
}

fn is_last(kind: EventKind) -> bool {
    matches!(kind, EventKind::End | EventKind::Failed)
}

#[cfg(test)]
mod tests;
