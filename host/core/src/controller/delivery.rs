//! Selects the events of the next step: the start event, answers, changes to map and objects to reconcile.

use std::time::Duration;

use bytes::Bytes;

use super::{Controller, MAX_STEP_BYTES, MAX_STEP_EVENTS, Task};
use crate::step::{Event, EventKind};

impl Controller {
    /// The events of the next step; `None` if there is nothing to run. At most [`MAX_STEP_BYTES`], unless a single
    /// event is larger.
    pub fn take_batch(&mut self, now: Duration) -> Option<Vec<Event>> {
        if !self.is_runnable(now) {
            return None;
        }
        self.held_until = None;
        if !self.started {
            (self.started, self.begun) = (true, now);
            let payload = Bytes::new();
            return Some(vec![Event { kind: EventKind::Start, id: 0, aux: 0, payload, task: 0 }]);
        }
        self.hand_out(now);
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some(event) = self.account.inbox().front() {
            bytes += event.cost();
            if batch.len() >= MAX_STEP_EVENTS || bytes > MAX_STEP_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(self.account.pop());
        }
        self.account.shrink();
        Some(batch)
    }

    /// Moves changes and ready objects into the inbox: as many as the next step takes, from each registration in turn.
    fn hand_out(&mut self, now: Duration) {
        // Changes get at most half of a step while objects are ready.
        self.hand_out_changes(MAX_STEP_EVENTS / 2, now);
        self.hand_out_reconciles(now);
        self.hand_out_changes(MAX_STEP_EVENTS, now);
    }

    fn hand_out_reconciles(&mut self, now: Duration) {
        // Rotate the start, so that one busy registration does not fill every step.
        let first = self.next_task as usize;
        let mut empty = 0;
        for turn in 0.. {
            if empty >= self.registrations.len() || self.account.inbox().len() >= MAX_STEP_EVENTS {
                return;
            }
            let taken = self.registrations.in_turn(first.wrapping_add(turn)).and_then(|(index, registration)| {
                let ready_since = registration.queue.ready_since(now);
                Some((index, registration.id, ready_since, registration.queue.take(now)?))
            });
            let Some((index, registration, ready_since, key)) = taken else {
                empty += 1;
                continue;
            };
            empty = 0;
            let payload = Bytes::copy_from_slice(key.as_bytes());
            let id = self.new_task(Task {
                registration,
                key,
                since: now,
                before: Duration::ZERO,
                waited: now.saturating_sub(ready_since.unwrap_or(now)),
            });
            self.account.push(Event { kind: EventKind::Reconcile, id, aux: index, payload, task: id });
        }
    }
}
