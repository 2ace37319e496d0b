//! One controller of the host as the control loop knows it: what it is, where its instance is, and what is under way.
//!
//! A slot is the sum of its parts. Each part keeps its own invariants and has its own file:
//! [`SlotRequests`] the requests, [`Throttles`] the limits, [`Suspension`] the suspend decisions, [`Leadership`]
//! whether this host runs the controller.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use wasmop_package::manifest::Limits;

use super::parts::{
    Authority, InstanceFacts, Leadership, PackageFacts, Phase, SlotId, SlotRequests, SlotWatches, Suspension, Throttles,
};
use super::{Credit, Environment};
use crate::controller::Controller;
use crate::startup::Startup;
use crate::status::counters::Counters;

/// A controller and everything the loop keeps for it.
pub(super) struct Slot<C> {
    pub name: Arc<str>,
    pub package: Arc<PackageFacts>,
    /// What its program is started with; one copy for all controllers with the same values.
    pub startup: Arc<Startup>,
    pub authority: Authority,
    pub leadership: Leadership,
    pub controller: Controller,
    pub phase: Phase,
    pub watches: SlotWatches,
    pub requests: SlotRequests<C>,
    pub throttles: Throttles,
    pub suspension: Suspension,
    pub counters: Counters,
    /// When the loop has to look at it again; mirrored by `Timers`.
    pub wake: Option<Duration>,
}

impl<C: Credit> Slot<C> {
    pub fn limits(&self) -> &Limits {
        &self.package.limits
    }

    /// Its instance, if it is not with a worker.
    pub fn instance(&self) -> Option<&InstanceFacts> {
        match &self.phase {
            Phase::Resident(instance) => Some(instance),
            Phase::Suspended { .. } | Phase::Busy => None,
        }
    }

    /// Lets as many response bytes come in as have been delivered.
    pub fn return_credit(&mut self) {
        let bytes = self.controller.take_credit();
        self.requests.give_credit(bytes);
        if self.requests.in_flight.is_empty() && self.controller.is_idle() {
            self.requests.credit = None;
        }
    }

    /// Gives back what empty tables hold, before a long wait.
    pub fn shrink(&mut self) {
        self.return_credit();
        self.requests.shrink();
        self.controller.shrink();
    }

    /// Bytes this controller holds in RAM while it is suspended: an account of its own structures.
    pub fn ram_bytes(&self) -> u64 {
        let own = size_of::<Slot<C>>() - size_of::<Controller>();
        let parts = self.watches.ram_bytes() + self.requests.ram_bytes() + self.throttles.ram_bytes();
        (own + self.name.len() + parts) as u64 + self.controller.ram_bytes()
    }
}

/// All controllers of a host, by [`SlotId`].
pub(super) struct Slots<C>(Vec<Slot<C>>);

impl<C> Slots<C> {
    pub fn new(slots: Vec<Slot<C>>) -> Slots<C> {
        Slots(slots)
    }

    pub fn push(&mut self, slot: Slot<C>) -> SlotId {
        self.0.push(slot);
        SlotId((self.0.len() - 1) as u32)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = SlotId> + use<C> {
        (0..self.0.len() as u32).map(SlotId)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot<C>)> {
        (0..).map(SlotId).zip(&self.0)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SlotId, &mut Slot<C>)> {
        (0..).map(SlotId).zip(&mut self.0)
    }
}

impl<C> Index<SlotId> for Slots<C> {
    type Output = Slot<C>;

    fn index(&self, id: SlotId) -> &Slot<C> {
        &self.0[id.index()]
    }
}

impl<C> IndexMut<SlotId> for Slots<C> {
    fn index_mut(&mut self, id: SlotId) -> &mut Slot<C> {
        &mut self.0[id.index()]
    }
}

/// The slots of a loop with this environment.
pub(super) type SlotsOf<E> = Slots<<E as Environment>::Credit>;
