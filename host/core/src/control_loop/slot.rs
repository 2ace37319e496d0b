//! One controller of the host as the control loop knows it: what it is, where its instance is, and what is under way.
//!
//! A slot is the sum of its parts. Each part keeps its own invariants and has its own file:
//! [`SlotRequests`] the requests, [`Throttles`] the limits, [`Suspension`] the suspend decisions, [`Leadership`]
//! whether this host runs the controller.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use wasmop_package::Tier;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use super::leadership::Leadership;
use super::requests::SlotRequests;
use super::suspension::Suspension;
use super::throttles::Throttles;
use super::{Credit, Environment};
use crate::controller::Controller;
use crate::permissions::{Grant, Permissions};
use crate::registration_id::RegistrationId;
use crate::service_account::ServiceAccount;
use crate::startup::Startup;
use crate::status::counters::Counters;
use crate::watch::{NamespaceLimit, WatchId};

/// Which of the host's controllers: an index that is valid for as long as the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl SlotId {
    /// The smallest id.
    pub const FIRST: SlotId = SlotId(0);

    /// The position among all slots.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the loop has to know of a package. Controllers of one package share it.
#[derive(Clone, Debug)]
pub struct PackageFacts {
    /// The package's name, which the program is told.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// Full: suspended to disk; soft: suspended within the process.
    pub tier: Tier,
    /// Limits after the host's caps.
    pub limits: Limits,
    /// The package's own choice, if it has one.
    pub suspend_policy: Option<Policy>,
    /// Size of the base image's linear memory in bytes; `None` in the soft tier.
    pub base_memory_bytes: Option<u64>,
    /// Bytes of data that every instance holds from its start; `None` in the soft tier.
    pub base_data_bytes: Option<u64>,
    /// What the monotonic clock of a fresh instance shows, in nanoseconds.
    pub first_monotonic_ns: u64,
}

/// Where a controller's instance is.
///
/// The environment holds the instance itself; this is the loop's view of it, replaced whenever one comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Nothing is in memory.
    Suspended {
        /// Bytes of its snapshot; `None`: it starts from the base image.
        snapshot_bytes: Option<u64>,
    },
    /// Alive; an instance of the soft tier stays so while it is suspended.
    Resident(InstanceFacts),
    /// With a worker, which sends it back.
    Busy,
}

impl Phase {
    /// It starts from the base image.
    pub const FRESH: Phase = Phase::Suspended { snapshot_bytes: None };
}

/// A live instance as it was when a worker last had it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstanceFacts {
    /// Bytes that suspending it gives back.
    pub anonymous_bytes: u64,
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Size of its linear memory in bytes.
    pub memory_bytes: u64,
    /// Its log of steps is full: it has to be saved before it goes on.
    pub log_is_full: bool,
    /// It is of the soft tier.
    pub is_soft: bool,
    /// It is suspended within the process (soft tier only).
    pub is_suspended: bool,
}

/// What a controller may do, and where.
pub(super) struct Authority {
    pub permissions: Arc<Permissions>,
    /// As whom its requests are made; `None`: as the host.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// The namespaces whose objects it watches; empty: all.
    pub namespaces: NamespaceLimit,
}

impl Authority {
    pub fn grant(&self) -> Grant {
        Grant {
            rules: self.permissions.granted().cloned(),
            external: self.permissions.external_granted().clone(),
            service_account: self.service_account.clone(),
        }
    }
}

/// The upstream watches of a controller. Invariant: `all` has each watch that any of its subscriptions is on, once.
#[derive(Default)]
pub(super) struct SlotWatches {
    /// Those of each registration's primary kind, one for each of its namespaces.
    pub primaries: Vec<(RegistrationId, WatchId)>,
    pub all: Vec<WatchId>,
}

impl SlotWatches {
    /// The watches of a registration's primary kind.
    pub fn primaries_of(&self, registration: RegistrationId) -> impl Iterator<Item = WatchId> + '_ {
        self.primaries.iter().filter(move |(of, _)| *of == registration).map(|(_, watch)| *watch)
    }

    fn ram_bytes(&self) -> usize {
        self.primaries.capacity() * size_of::<(RegistrationId, WatchId)>() + self.all.capacity() * size_of::<WatchId>()
    }
}

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
