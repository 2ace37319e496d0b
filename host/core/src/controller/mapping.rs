//! Asks the guest which objects a change concerns: changes become `map` tasks, answers become keys.
//!
//! If a `map` task fails, its change and the keys it would have returned are lost. So all objects of the registration
//! are reconciled with backoff:
//!
//! ```text
//! change ─► map task ─┬─ answered ────────────────────────► these objects
//!                     └─ failed, cancelled or timed out ──► all objects of the registration, after 1 s, 2 s, … 5 min
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Controller, Effect, Found, MAX_STEP_BYTES, MAX_STEP_EVENTS, Task, WatchedChange};
use crate::excerpt::excerpt;
use crate::registration_id::RegistrationId;
use crate::step::{Event, EventKind};
use crate::watch::{Change, WatchId, to_map};
use crate::work_queue::{Backoff, Key};

/// Flag in the `aux` of a `map` event: the object was deleted. Greater than any watch index.
pub(super) const MAP_GONE: u32 = 1 << 15;
/// Most `map` tasks in progress. The SDKs answer within the step.
pub(super) const MAX_MAPPING: usize = 64;
/// Backoff of reconciling all objects while a map function keeps failing. The first delay gathers failures: a broken
/// map function costs one round of reconciles per delay.
const MAP_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

impl WatchedChange {
    /// The change behind a watch event; `None` if no object changed. If the host does not hold the object, it is looked
    /// up at delivery.
    pub fn of(registration: RegistrationId, watch: u32, source: WatchId, change: &Change) -> Option<WatchedChange> {
        let key = change.key()?.clone();
        let gone = matches!(change, Change::Deleted { .. });
        Some(WatchedChange { registration, watch, source, key, gone, object: to_map(change) })
    }
}

impl Controller {
    /// Queues a change for the guest to map.
    pub fn enqueue_map(&mut self, change: WatchedChange) {
        if self.registrations.index(change.registration).is_some() {
            self.account.queue_change(change);
        }
    }

    /// Whether the guest can map another change now.
    pub(super) fn can_ask(&self) -> bool {
        self.account.has_changes() && self.mapping < MAX_MAPPING
    }

    /// Whether changes wait to be mapped. A snapshot does not include them.
    pub fn has_unasked(&self) -> bool {
        self.account.has_unasked()
    }

    /// Looks up missing objects of the changes that come next.
    pub fn look_up_changes(&mut self, look: impl Fn(WatchId, &str) -> Found) {
        self.account.look_up_changes(MAX_STEP_EVENTS, MAX_STEP_BYTES, look);
    }

    /// Registrations whose objects are all to be reconciled, and when; a time in the past means now.
    pub fn take_all_due(&mut self) -> BTreeMap<RegistrationId, Duration> {
        self.account.take_all_due()
    }

    /// Enqueues an object for `at`, unless it is pending earlier.
    pub fn enqueue_at(&mut self, registration: RegistrationId, key: Key, at: Duration, now: Duration) {
        match self.registrations.get_mut(registration) {
            Some(r) if at > now => r.queue.add_at(key, at),
            Some(r) => r.queue.add(key, now),
            None => {}
        }
    }

    /// Moves changes into the inbox until it has `until` events.
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

    /// The guest answered.
    pub(super) fn mapped(&mut self, task: &Task, keys: &str) -> Effect {
        if let Some(r) = self.registrations.get_mut(task.registration) {
            r.map_failures = 0;
        }
        let keys = keys.lines().filter(|key| !key.is_empty()).map(Key::from).collect();
        Effect::Mapped { registration: task.registration, keys }
    }

    /// The guest reported `done` for a map task, which is valid only as an error.
    pub(super) fn map_done(&mut self, id: u64, task: &Task, error: Option<String>, now: Duration) -> Effect {
        let retry_after = self.map_failed(task.registration, now);
        match error {
            Some(message) => {
                Effect::MapFailed { registration: task.registration, message: excerpt(&message), retry_after }
            }
            None => Effect::Misbehaved(format!("`done` without an error for the map task {id}")),
        }
    }

    /// A map task failed. Returns the delay after which all objects are reconciled.
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
