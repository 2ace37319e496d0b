//! One controller of the host: what it is, where its instance is, and what is under way for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use wasmop_api::connections::Share;
use wasmop_core::cached_reads::{Resource, Writes};
use wasmop_core::controller::Controller;
use wasmop_core::limits::cpu_share::Pace;
use wasmop_core::limits::liveness::Liveness;
use wasmop_core::limits::log_rate::Lines;
use wasmop_core::limits::request_rate::Requests;
use wasmop_core::limits::self_trigger::{SelfTriggers, version_in};
use wasmop_core::own_writes::{OwnWrites, Settled};
use wasmop_core::permissions::{Allowed, Grant, Permissions};
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::reply::Reply;
use wasmop_core::service_account::ServiceAccount;
use wasmop_core::startup::Startup;
use wasmop_core::status::counters::{Avoided, Counters};
use wasmop_core::watch::{NamespaceLimit, WatchId};
use wasmop_core::work_queue::Key;
use wasmop_package::manifest::{ControllerSpec, WatchSpec};
use wasmop_snapshot::ControllerStore;
use wasmop_vm::compiled_package::InstalledPackage;
use wasmop_vm::instance::{Instance, Origin};
use wasmop_vm::wasi::WasiGrant;

use super::deciding::Deciding;
use super::leading::Lead;
use crate::traces::RequestSpan;

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
    /// What its program is started with; one copy for all controllers with the same.
    pub(super) startup: Arc<Startup>,
    /// Whose objects it watches; empty: those of all.
    pub(super) namespaces: NamespaceLimit,
    pub(super) controller: Controller,
    pub(super) phase: Phase,
    /// The watches of each registration's primary kind, one for each of its namespaces.
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
    /// Objects whose reconciles may cause themselves; only there while some have written.
    pub(super) self_triggers: Option<Box<SelfTriggers>>,
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
    Resident(Box<Instance>),
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
    /// If it writes in a reconcile, until the version is known that it has made.
    pub(super) write: Option<Box<Write>>,
}

/// A request that writes in a reconcile.
pub(super) struct Write {
    /// What is reconciled: registration and key.
    pub(super) object: (RegistrationId, Key),
    /// What is written: `websites/status web/home`.
    pub(super) target: String,
}

impl Write {
    /// Of a request that is allowed, made in the reconcile of `object`; `None` if it writes no version.
    pub(super) fn of(allowed: &Allowed, object: Option<(RegistrationId, Key)>) -> Option<Box<Write>> {
        let object = object.filter(|_| matches!(allowed.verb, "create" | "update" | "patch"))?;
        let mut target = allowed.resource.clone();
        if !allowed.subresource.is_empty() {
            target = format!("{target}/{}", allowed.subresource);
        }
        if let Some(name) = &allowed.name {
            target.push(' ');
            if let Some(namespace) = &allowed.namespace {
                target.push_str(&format!("{namespace}/"));
            }
            target.push_str(name);
        }
        Some(Box::new(Write { object, target }))
    }
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
    pub(super) fn live(&self) -> Option<&Instance> {
        match &self.phase {
            Phase::Resident(instance) => Some(instance),
            Phase::Suspended(_) | Phase::Busy => None,
        }
    }

    /// Follows the writes that a registration wants followed: a package that registers late has said nothing of them
    /// when it was built.
    pub(super) fn follow_writes(&mut self, spec: &ControllerSpec) {
        let resources = |wanted: fn(&WatchSpec) -> bool| {
            spec.all_watches().filter(|watch| wanted(watch)).map(Resource::of).collect::<Vec<_>>()
        };
        let cached = resources(WatchSpec::keeps_objects);
        match &mut self.writes {
            Some(writes) => writes.extend(&cached),
            None => self.writes = Writes::of(&cached.into()).map(Box::new),
        }
        let ignored = resources(|watch| watch.ignore_own_writes);
        match &mut self.own_writes {
            Some(own_writes) => own_writes.extend(&ignored),
            None => self.own_writes = OwnWrites::of(&ignored.into()).map(Box::new),
        }
    }

    /// The watches of a registration's primary kind.
    pub(super) fn primaries_of(&self, registration: RegistrationId) -> impl Iterator<Item = WatchId> + '_ {
        self.primaries.iter().filter(move |(of, _)| *of == registration).map(|(_, watch)| *watch)
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

    /// A piece of the answer to a request has come: it may say which version a write has made.
    pub(super) fn follow_write(&mut self, call: u64, reply: &Reply) {
        let Some(write) = self.requests.get_mut(&call).map(|request| &mut request.write) else { return };
        match reply {
            Reply::Head { status, .. } if !(200..300).contains(status) => *write = None,
            Reply::Body(bytes) => {
                let Some(version) = write.as_ref().and_then(|_| version_in(bytes)) else { return };
                if let (Some(write), Some(triggers)) = (write.take(), &mut self.self_triggers) {
                    triggers.wrote(&write.object, version, &write.target);
                }
            }
            _ => {}
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
        if let Some(triggers) = &mut self.self_triggers {
            triggers.shrink();
        }
        self.self_triggers.take_if(|triggers| triggers.is_empty());
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
            + self.own_writes.as_ref().map_or(0, |own| size_of::<OwnWrites>() + own.bytes())
            + self.self_triggers.as_ref().map_or(0, |triggers| triggers.bytes());
        let liveness = self.liveness.as_ref().map_or(0, |liveness| liveness.bytes());
        (own + liveness + self.name.len() + requests + watches + writes) as u64 + self.controller.ram_bytes()
    }
}
