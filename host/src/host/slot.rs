//! One controller of the host: what it is, where its instance is, and what is under way for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::deciding::Deciding;
use super::leading::Lead;
use crate::cache::Writes;
use crate::code::InstalledPackage;
use crate::connections::Share;
use crate::controller::{Controller, RegistrationId};
use crate::identity::ServiceAccount;
use crate::instance::Origin;
use crate::limits::lines::Lines;
use crate::limits::liveness::Liveness;
use crate::limits::pace::Pace;
use crate::limits::requests::Requests;
use crate::live::Live;
use crate::own_writes::{OwnWrites, Settled};
use crate::permissions::{Grant, Permissions};
use crate::snapshot::ControllerStore;
use crate::status::counters::{Avoided, Counters};
use crate::traces::RequestSpan;
use crate::wasi::WasiGrant;
use crate::watch::WatchId;

/// A controller and where its instance is.
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) package: Arc<InstalledPackage>,
    pub(super) lead: Lead,
    pub(super) store: Arc<ControllerStore>,
    pub(super) permissions: Arc<Permissions>,
    /// As whom its requests are made; `None`: the host.
    pub(super) service_account: Option<Arc<ServiceAccount>>,
    pub(super) wasi: Option<Arc<WasiGrant>>,
    pub(super) controller: Controller,
    pub(super) phase: Phase,
    /// The watch of each registration's primary kind, where it may be watched.
    pub(super) primaries: Vec<(RegistrationId, WatchId)>,
    /// All of its watches, each once.
    pub(super) watches: Vec<WatchId>,
    /// Requests in flight by the guest's call id.
    pub(super) requests: BTreeMap<u64, Request>,
    /// Those that wait until they may be made.
    pub(super) waiting: Requests,
    /// What its cached reads must not be older than; only if it watches something with objects.
    pub(super) writes: Option<Box<Writes>>,
    /// What it has changed itself; only if it watches something without that.
    pub(super) own_writes: Option<Box<OwnWrites>>,
    pub(super) pace: Pace,
    /// Only while something goes wrong.
    pub(super) liveness: Option<Box<Liveness>>,
    pub(super) lines: Lines,
    /// Shared by its requests; only there while some are in flight.
    pub(super) credit: Option<Arc<Semaphore>>,
    /// Of the host's connections; only there while requests are in flight.
    pub(super) share: Option<Share>,
    pub(super) wake: Option<Duration>,
    pub(super) deciding: Deciding,
    /// No suspending before this: the last attempt failed.
    pub(super) save_after: Duration,
    pub(super) counters: Counters,
}

pub(super) enum Phase {
    /// Nothing in memory.
    Suspended(Origin),
    /// Alive; one of the soft tier stays so while it is suspended.
    Resident(Box<Live>),
    /// With a worker.
    Busy,
}

pub(super) struct Request {
    /// A watch or a log that is followed: it lasts.
    pub(super) stream: bool,
    /// Tells this request from an earlier one of the same call id.
    pub(super) token: u64,
    pub(super) task: AbortHandle,
    pub(super) span: Option<Box<RequestSpan>>,
}

impl Slot {
    pub(super) fn grant(&self) -> Grant {
        Grant {
            rules: self.permissions.granted().cloned(),
            external: self.permissions.external_granted().clone(),
            service_account: self.service_account.clone(),
        }
    }

    /// Its instance, if it is at home.
    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Resident(instance) => Some(instance),
            Phase::Suspended(_) | Phase::Busy => None,
        }
    }

    /// The watch of a registration's primary kind.
    pub(super) fn primary(&self, registration: RegistrationId) -> Option<WatchId> {
        self.primaries.iter().find(|(of, _)| *of == registration).map(|(_, watch)| *watch)
    }

    /// Cuts all requests under way, whose answers nobody gets.
    pub(super) fn abort_requests(&mut self) {
        for (call, request) in std::mem::take(&mut self.requests) {
            request.task.abort();
            self.request_failed(call);
        }
    }

    /// A request ends without the whole of an answer: what it wrote is not known.
    pub(super) fn request_failed(&mut self, call: u64) {
        if let Some(writes) = &mut self.writes {
            writes.failed(call);
        }
        let settled = self.own_writes.as_mut().and_then(|own| own.failed(call));
        self.settle(settled);
    }

    /// It is known whose changes were that may have been the controller's own.
    pub(super) fn settle(&mut self, settled: Option<Settled>) {
        if settled.is_some_and(|settled| self.controller.settle(&settled)) {
            self.counters.avoided(Avoided::OwnWrite);
        }
    }

    /// Lets as many bytes of responses come in as have gone.
    pub(super) fn return_credit(&mut self) {
        let bytes = self.controller.take_credit();
        if let Some(credit) = &self.credit {
            credit.add_permits(bytes);
        }
        if self.requests.is_empty() && self.controller.is_idle() {
            self.credit = None;
        }
    }

    /// Gives back what empty tables hold, before a long wait.
    pub(super) fn shrink(&mut self) {
        if self.requests.is_empty() {
            (self.credit, self.share) = (None, None);
            self.requests = BTreeMap::new();
        }
        self.waiting.shrink();
        if let Some(writes) = &mut self.writes {
            writes.shrink();
        }
        if let Some(own_writes) = &mut self.own_writes {
            own_writes.shrink();
        }
        self.controller.shrink();
    }

    /// Bytes this controller holds in RAM while it is suspended: an account of its own structures.
    pub(super) fn ram_bytes(&self) -> u64 {
        let own = size_of::<Slot>() - size_of::<Controller>();
        let requests = self.requests.len() * (size_of::<Request>() + 16);
        let watches = self.primaries.capacity() * size_of::<(RegistrationId, WatchId)>()
            + self.watches.capacity() * size_of::<WatchId>();
        let writes = self.writes.as_ref().map_or(0, |writes| writes.bytes())
            + self.own_writes.as_ref().map_or(0, |own| size_of::<OwnWrites>() + own.bytes());
        let liveness = self.liveness.as_ref().map_or(0, |liveness| liveness.bytes());
        (own + liveness + self.name.len() + requests + watches + writes) as u64 + self.controller.ram_bytes()
    }
}
