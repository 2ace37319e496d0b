//! Reconciles and map tasks that take longer than they may.

use std::time::Duration;

use super::{Controller, Effect, Event, EventKind, Task};

/// A reconcile that goes on after a restart of the host has at least this long, also if its time ran out while
/// there was no host: a timer that it waits for fires first.
const CONTINUED: Duration = Duration::from_secs(10);

impl Task {
    /// When it will have taken too long.
    fn ends_at(&self, timeout: Duration) -> Duration {
        let left = timeout.saturating_sub(self.before).max(CONTINUED.min(timeout));
        self.since.saturating_add(left)
    }
}

impl Controller {
    /// The task that has been under way for longest, which ends before the others.
    fn oldest(&self) -> Option<(u64, &Task)> {
        // Ids are given in the order of time. What goes on after a restart began before what is new.
        self.tasks.first_key_value().map(|(id, task)| (*id, task))
    }

    /// When a task will have taken too long.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Duration> {
        self.oldest().map(|(_, task)| task.ends_at(timeout))
    }

    /// A task that has taken too long.
    pub fn overdue(&self, timeout: Duration, now: Duration) -> Option<u64> {
        self.oldest().filter(|(_, task)| task.ends_at(timeout) <= now).map(|(id, _)| id)
    }

    /// Takes a task from the guest, which is told so, and tries it again with backoff. Returns what there is to do:
    /// its calls are dropped.
    pub fn time_out(&mut self, task: u64, now: Duration) -> Vec<Effect> {
        let begins = |event: &Event| matches!(event.kind, EventKind::Reconcile | EventKind::Map);
        let undelivered = self.account.inbox().iter().any(|event| event.task == task && begins(event));
        let calls: Vec<u64> =
            self.account.calls().iter().filter(|(_, of)| of.task == task).map(|(call, _)| *call).collect();
        let mut effects = Vec::with_capacity(calls.len() + 1);
        for call in calls {
            self.account.close(call);
            effects.push(Effect::DropCall(call));
        }
        effects.extend(self.cancelled(task, false, now));
        if !undelivered {
            // Before anything that makes it go on.
            let payload = Default::default();
            self.account.push_front(Event { kind: EventKind::Cancel, id: task, aux: 0, payload, task });
        }
        effects
    }
}
