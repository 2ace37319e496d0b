//! Cancels reconciles and map tasks that exceed `limits.reconcile-timeout`.

use std::time::Duration;

use super::{Controller, Effect, Event, EventKind, Task};

/// Least time for a reconcile that continues after a restart of the host, even if its time ran out while no host ran:
/// its timers fire first.
const CONTINUED: Duration = Duration::from_secs(10);

impl Task {
    /// When the task times out.
    fn ends_at(&self, timeout: Duration) -> Duration {
        let left = timeout.saturating_sub(self.before).max(CONTINUED.min(timeout));
        self.since.saturating_add(left)
    }
}

impl Controller {
    /// The oldest task, which times out first.
    fn oldest(&self) -> Option<(u64, &Task)> {
        // Ids are given in order. Tasks that continue after a restart began before new ones.
        self.tasks.first_key_value().map(|(id, task)| (*id, task))
    }

    /// When the next task times out.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Duration> {
        self.oldest().map(|(_, task)| task.ends_at(timeout))
    }

    /// A task that has timed out.
    pub fn overdue(&self, timeout: Duration, now: Duration) -> Option<u64> {
        self.oldest().filter(|(_, task)| task.ends_at(timeout) <= now).map(|(id, _)| id)
    }

    /// Cancels a task, notifies the guest and retries with backoff. Returns effects that drop its calls.
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
            // Before events that would continue it.
            let payload = Default::default();
            self.account.push_front(Event { kind: EventKind::Cancel, id: task, aux: 0, payload, task });
        }
        effects
    }
}
