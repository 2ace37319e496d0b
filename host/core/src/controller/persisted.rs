//! Saves and restores the host's half of a snapshot: the state of a controller outside its instance.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::registrations::{Registrations, SavedRegistrations};
use super::{Controller, Task};
use crate::step::{Event, EventKind};

/// Why a call has failed that was open when the host was restarted.
const FAILED: &[u8] = b"the host was restarted while the request was in flight";

/// The state of a controller in a snapshot. Times are relative to the moment of saving.
#[derive(Debug, Serialize, Deserialize)]
pub struct ControllerState {
    pub(super) registrations: SavedRegistrations,
    pub(super) tasks: Vec<(u64, Task)>,
    pub(super) calls: Vec<SavedCall>,
    pub(super) next_task: u64,
    pub(super) deadline_ns: Option<u64>,
}

/// A call whose answer the guest has not got to the end of.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedCall {
    id: u64,
    task: u64,
    /// It is a watch that has begun, which may end at any time. Others have failed.
    ends: bool,
}

impl Task {
    /// The task with the time it has taken until `now`.
    fn saved(&self, now: Duration) -> Task {
        Task { before: self.took(now), ..self.clone() }
    }
}

impl Controller {
    /// The state to save with the instance's memory.
    pub fn save(&self, now: Duration) -> ControllerState {
        // Undelivered tasks are saved as ready.
        let undelivered = |id: &u64| {
            self.account
                .inbox()
                .iter()
                .any(|e| e.task == *id && matches!(e.kind, EventKind::Reconcile | EventKind::Map))
        };
        let begun = |id: &u64| !self.account.inbox().iter().any(|e| e.id == *id && e.kind == EventKind::Head);
        ControllerState {
            registrations: self.registrations.save(now),
            tasks: self.tasks.iter().filter(|(id, _)| !undelivered(id)).map(|(id, t)| (*id, t.saved(now))).collect(),
            // Calls fail after a restart, even if part of the answer, or all of it, waits in the inbox.
            calls: self
                .account
                .inbox()
                .iter()
                .filter(|e| matches!(e.kind, EventKind::End | EventKind::Failed))
                .map(|e| SavedCall { id: e.id, task: e.task, ends: false })
                .chain(self.account.calls().iter().map(|(id, call)| SavedCall {
                    id: *id,
                    task: call.task,
                    ends: call.is_watch && call.has_head && begun(id),
                }))
                .collect(),
            next_task: self.next_task,
            deadline_ns: self.deadline.map(|d| d.saturating_sub(now).as_nanos() as u64),
        }
    }

    /// Restores a controller from a snapshot of another process. Calls in flight have failed. `clock` is the instance's
    /// monotonic clock at `now`, `elapsed` the time since the snapshot.
    ///
    /// # Errors The state is inconsistent.
    pub fn restore(saved: ControllerState, now: Duration, clock: u64, elapsed: Duration) -> Result<Controller, String> {
        let mut controller = Controller::new(now, clock);
        controller.started = true;
        controller.next_task = saved.next_task;
        controller.registrations = Registrations::restore(saved.registrations, now, elapsed)?;
        for (id, mut task) in saved.tasks {
            task.since = now;
            task.before = task.before.saturating_add(elapsed);
            let Some(r) = controller.registrations.get_mut(task.registration) else {
                return Err(format!("task {id} of an unknown registration"));
            };
            if !task.key.is_empty() {
                r.queue.resume(&task.key);
            }
            controller.insert_task(id, task);
        }
        for SavedCall { id, task, ends } in saved.calls {
            let (kind, payload) = match ends {
                true => (EventKind::End, Bytes::new()),
                false => (EventKind::Failed, Bytes::from_static(FAILED)),
            };
            controller.account.push(Event { kind, id, aux: 0, payload, task });
        }
        let left = saved.deadline_ns.map(|ns| Duration::from_nanos(ns).saturating_sub(elapsed));
        controller.deadline = left.map(|left| now.saturating_add(left));
        Ok(controller)
    }
}
