//! Views of the loop for whoever checks its invariants from outside: tests and the simulation.

use std::collections::BTreeSet;
use std::time::Duration;

use super::parts::SlotId;
use super::{ControlLoop, Credit, Environment, RESPONSE_CREDIT_BYTES};
use crate::controller::MAX_HELD_BYTES;
use crate::watch::WatchId;

/// More than this is never held for a controller: its account, the refusals on top of it, and what came on credit.
pub const MOST_HELD_BYTES: usize = MAX_HELD_BYTES + (4 << 20) + RESPONSE_CREDIT_BYTES;

impl<E: Environment> ControlLoop<E> {
    /// Bytes that a controller makes the host hold; at most [`MOST_HELD_BYTES`], unless one call alone is larger.
    pub fn held_bytes(&self, id: SlotId) -> usize {
        self.slots[id].controller.held_bytes()
    }

    /// Whether nothing waits for a controller and nothing is under way: no events, tasks or requests.
    pub fn is_idle(&self, id: SlotId) -> bool {
        let slot = &self.slots[id];
        slot.controller.is_idle() && slot.requests.in_flight.is_empty() && slot.requests.waiting.is_empty()
    }

    /// Calls of a controller that are open, as its guest knows them.
    pub fn open_calls(&self, id: SlotId) -> usize {
        self.slots[id].controller.calls_in_flight()
    }

    /// Bytes of credit that a controller's requests have taken; `None` without credit.
    pub fn credit_taken(&self, id: SlotId) -> Option<i64> {
        let credit = self.slots[id].requests.credit.as_ref()?;
        Some(RESPONSE_CREDIT_BYTES as i64 - credit.available() as i64)
    }

    /// Whether what a controller does now counts. `boot`: the machine's clock.
    pub fn holds(&self, id: SlotId, boot: Duration) -> bool {
        self.slots[id].leadership.holds(boot)
    }

    /// The watches that somebody is subscribed to.
    pub fn subscribed(&self) -> BTreeSet<WatchId> {
        self.subscriptions.by_watch.keys().copied().collect()
    }

    /// The watches of one controller.
    pub fn watches(&self, id: SlotId) -> &[WatchId] {
        &self.slots[id].watches.all
    }
}
