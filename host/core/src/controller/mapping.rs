//! Asks the guest which objects a change concerns: changes of watched objects into `map` tasks, and their answers.
//!
//! The change behind a `map` task that fails is not kept, and the names that the guest would have returned are unknown.
//! So all objects of the registration are reconciled instead, with backoff:
//!
//! ```text
//! change ─► map task ─┬─ answered ──────────────────────► the objects named
//!                     └─ failed, cancelled or too late ─► all objects of the registration, after 1 s, 2 s, … 5 min
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Controller, Effect, Found, MAX_STEP_BYTES, MAX_STEP_EVENTS, Task, WatchedChange};
use crate::excerpt::excerpt;
use crate::registration_id::RegistrationId;
use crate::step::{Event, EventKind};
use crate::watch::{Change, WatchId, to_map};
use crate::work_queue::{Backoff, Key};

/// Set in the `aux` of a `map` event if the object is gone; more than any watch index.
pub(super) const MAP_GONE: u32 = 1 << 15;
/// Most changes of which a guest is asked at a time whom they concern. The SDKs answer within the step.
pub(super) const MAX_MAPPING: usize = 64;
/// Waits before all objects of a registration are reconciled, while its map function fails time after time. The first
/// wait gathers failures: a map function that always fails costs one round of reconciles for each wait.
const MAP_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

impl WatchedChange {
    /// The change that a watch tells of. The host may not hold the object's content: it is looked up when the guest is
    /// asked. `None` if no object changed.
    pub fn of(registration: RegistrationId, watch: u32, source: WatchId, change: &Change) -> Option<WatchedChange> {
        let key = change.key()?.clone();
        let gone = matches!(change, Change::Deleted { .. });
        Some(WatchedChange { registration, watch, source, key, gone, object: to_map(change) })
    }
}

impl Controller {
    /// The guest is to say which objects a watched object belongs to, or belonged to before it was gone.
    pub fn enqueue_map(&mut self, change: WatchedChange) {
        if self.registrations.index(change.registration).is_some() {
            self.account.queue_change(change);
        }
    }

    /// Whether it can be asked now whom a change concerns.
    pub(super) fn can_ask(&self) -> bool {
        self.account.has_changes() && self.mapping < MAX_MAPPING
    }

    /// Whether the guest has yet to be asked what some change concerns: a snapshot does not have that.
    pub fn has_unasked(&self) -> bool {
        self.account.has_unasked()
    }

    /// Looks up the objects of the changes that the guest is asked about next, if there was no room for them.
    pub fn look_up_changes(&mut self, look: impl Fn(WatchId, &str) -> Found) {
        self.account.look_up_changes(MAX_STEP_EVENTS, MAX_STEP_BYTES, look);
    }

    /// Registrations of which all objects are to be reconciled, and when: in the past means now.
    pub fn take_all_due(&mut self) -> BTreeMap<RegistrationId, Duration> {
        self.account.take_all_due()
    }

    /// An object is to be reconciled at `at`, unless it will be sooner anyway.
    pub fn enqueue_at(&mut self, registration: RegistrationId, key: Key, at: Duration, now: Duration) {
        match self.registrations.get_mut(registration) {
            Some(r) if at > now => r.queue.add_at(key, at),
            Some(r) => r.queue.add(key, now),
            None => {}
        }
    }

    /// Asks whom changes concern, until the inbox has so many events.
    pub(super) fn hand_out_changes(&mut self, until: usize, now: Duration) {
        while self.account.inbox().len() < until && self.can_ask() {
            let Some((change, payload)) = self.account.pop_change() else { return };
            let WatchedChange { registration, watch, gone, .. } = change;
            let Some(index) = self.registrations.index(registration) else { continue };
            let id = self.new_task(Task { registration, key: "".into(), since: now, ..Task::default() });
            let aux = index << 16 | if gone { MAP_GONE } else { 0 } | watch & (MAP_GONE - 1);
            self.account.push(Event { kind: EventKind::Map, id, aux, payload, task: id });
        }
    }

    /// The guest has answered.
    pub(super) fn mapped(&mut self, task: &Task, keys: &str) -> Effect {
        if let Some(r) = self.registrations.get_mut(task.registration) {
            r.map_failures = 0;
        }
        let keys = keys.lines().filter(|key| !key.is_empty()).map(Key::from).collect();
        Effect::Mapped { registration: task.registration, keys }
    }

    /// The guest has said `done` for a map task: good only as the report of a failure.
    pub(super) fn map_done(&mut self, id: u64, task: &Task, error: Option<String>, now: Duration) -> Effect {
        let retry_after = self.map_failed(task.registration, now);
        match error {
            Some(message) => {
                Effect::MapFailed { registration: task.registration, message: excerpt(&message), retry_after }
            }
            None => Effect::Misbehaved(format!("`done` without an error for the map task {id}")),
        }
    }

    /// Which objects a change concerns will not be known: all of them are reconciled after a while, which is returned.
    pub(super) fn map_failed(&mut self, registration: RegistrationId, now: Duration) -> Duration {
        let Some(r) = self.registrations.get_mut(registration) else { return Duration::ZERO };
        r.map_failures = r.map_failures.saturating_add(1);
        let wait = MAP_BACKOFF.delay(r.map_failures);
        self.account.mark_all_due(registration, now.saturating_add(wait));
        wait
    }
}

#[cfg(test)]
mod tests;
