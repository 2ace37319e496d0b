//! What holds on a host after every round of its loop.

use wasmop_core::control_loop::{MOST_HELD_BYTES, Phase};

use super::{Home, Host};
use crate::observer::Invariant;

impl Host {
    /// What holds after every round.
    pub(super) fn check(&mut self) {
        for id in self.control.ids() {
            let name = self.control.name(id);
            let held = self.control.held_bytes(id);
            if held > MOST_HELD_BYTES {
                self.violate(Invariant::Bounded, format_args!("{name}: {held} bytes are held for it"));
            }
            if let Some(taken) = self.control.credit_taken(id) {
                if taken < 0 {
                    self.violate(
                        Invariant::Conserved,
                        format_args!("{name}: {} bytes more than were taken were given back", -taken),
                    );
                }
                if taken != 0 && self.control.is_idle(id) && !matches!(self.control.phase(id), Phase::Busy) {
                    self.violate(
                        Invariant::Conserved,
                        format_args!("{name}: it is idle, and {taken} bytes of its credit are gone"),
                    );
                }
            }
            let is_busy = matches!(self.homes[id.index()], Home::Busy);
            let thinks_busy = matches!(self.control.phase(id), Phase::Busy);
            if is_busy != thinks_busy {
                self.violate(
                    Invariant::InstancePlace,
                    format_args!("{name}: with a worker {is_busy}, and the loop says {thinks_busy}"),
                );
            }
        }
        self.world.check_holders();
        let hub = &self.control.environment().inner.hub;
        let subscribed = self.control.subscribed();
        if hub.len() != subscribed.len() {
            let watches = hub.len();
            self.violate(
                Invariant::Subscriptions,
                format_args!("{watches} watches, {} with subscribers", subscribed.len()),
            );
        }
        if let Some(watch) = subscribed.iter().find(|watch| hub.request(**watch).is_none()) {
            self.violate(Invariant::Subscriptions, format_args!("nobody watches {} for its subscribers", watch.0));
        }
    }
}
