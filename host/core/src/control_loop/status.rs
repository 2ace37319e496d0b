//! What the loop knows of its controllers, for metrics, probes and the page.

use std::time::Duration;

use wasmop_package::manifest::Mode;

use super::parts::{Leadership, Phase, SlotId};
use super::slot::Slot;
use super::{ControlLoop, Credit, Environment};
use crate::status::observed::{Controller, Queue, Unwatched};
use crate::status::state::State;

impl<E: Environment> ControlLoop<E> {
    /// All controllers at this moment.
    pub fn observe(&self) -> Vec<Controller> {
        self.slots.iter().map(|(id, slot)| slot.observe(self.unwatched(id))).collect()
    }

    /// What a controller needs and cannot watch.
    fn unwatched(&self, id: SlotId) -> Option<Box<Unwatched>> {
        if let Some(unwatched) = self.subscriptions.first_unwatched(id) {
            let waiting = &unwatched.waiting;
            let (reason, message) = (waiting.cause.reason(), waiting.to_string().into());
            return Some(Box::new(Unwatched { reason, message, since: unwatched.since }));
        }
        let slot = &self.slots[id];
        let mut registrations = slot.controller.registrations();
        let denied = registrations.find(|registration| slot.watches.primaries_of(registration.id).next().is_none())?;
        let message = format!("it is not granted to watch {}", denied.spec.primary.kind).into();
        Some(Box::new(Unwatched { reason: "NotGranted", message, since: Duration::ZERO }))
    }
}

impl<C: Credit> Slot<C> {
    fn observe(&self, unwatched: Option<Box<Unwatched>>) -> Controller {
        let mut queue = Queue::default();
        for registration in self.controller.registrations() {
            let (ready, delayed, adds, retries) = registration.queue.counts();
            queue.depth += ready;
            queue.delayed += delayed;
            queue.adds += u64::from(adds);
            queue.retries += u64::from(retries);
        }
        Controller {
            name: self.name.clone(),
            tier: self.package.tier,
            state: match &self.phase {
                _ if matches!(self.leadership, Leadership::Standby) => State::Standby,
                Phase::Suspended { .. } => State::Suspended,
                Phase::Resident(instance) if instance.is_suspended => State::Suspended,
                Phase::Resident(_) => State::Resident,
                Phase::Busy => State::Busy,
            },
            resident_bytes: self.resident_bytes() + self.kept_bytes(),
            queue,
            active: self.controller.active(),
            requests: self.requests.in_flight.len(),
            // A guest-driven package registers nothing.
            registered: match self.package.mode {
                Mode::HostDriven => self.controller.has_registered(),
                Mode::GuestDriven => self.controller.has_started(),
            },
            unwatched,
            counters: self.counters.clone(),
        }
    }
}
