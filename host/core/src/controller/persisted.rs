//! Saves and restores the host's half of a snapshot: the state of a controller outside its instance.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::registrations::{Registrations, SavedRegistrations};
use super::{Controller, Task};
use crate::step::{Event, EventKind};

/// The state of a controller in a snapshot. Times are relative to the moment of saving.
#[derive(Debug, Serialize, Deserialize)]
pub struct ControllerState {
    pub(super) registrations: SavedRegistrations,
    pub(super) tasks: Vec<(u64, Task)>,
    pub(super) calls: Vec<(u64, u64)>,
    pub(super) next_task: u64,
    pub(super) deadline_ns: Option<u64>,
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
        ControllerState {
            registrations: self.registrations.save(now),
            tasks: self.tasks.iter().filter(|(id, _)| !undelivered(id)).map(|(id, t)| (*id, t.saved(now))).collect(),
            // Calls fail after a restart, even if part of the answer, or all of it, waits in the inbox.
            calls: self
                .account
                .inbox()
                .iter()
                .filter(|e| matches!(e.kind, EventKind::End | EventKind::Failed))
                .map(|e| (e.id, e.task))
                .chain(self.account.calls().iter().map(|(id, call)| (*id, call.task)))
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
        for (call, task) in saved.calls {
            let payload = Bytes::from_static(b"the host was restarted while the request was in flight");
            controller.account.push(Event { kind: EventKind::Failed, id: call, aux: 0, payload, task });
        }
        let left = saved.deadline_ns.map(|ns| Duration::from_nanos(ns).saturating_sub(elapsed));
        controller.deadline = left.map(|left| now.saturating_add(left));
        Ok(controller)
    }
}
