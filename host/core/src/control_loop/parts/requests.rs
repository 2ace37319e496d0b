//! The requests of one controller, and what it is known to have written.

use std::collections::BTreeMap;

use wasmop_package::manifest::{ControllerSpec, WatchSpec};

use crate::cached_reads::{Resource, Writes};
use crate::control_loop::environment::Credit;
use crate::limits::request_rate::RequestThrottle;
use crate::limits::self_trigger::SelfTriggers;
use crate::own_writes::OwnWrites;
use crate::permissions::Allowed;
use crate::registration_id::RegistrationId;
use crate::reply::Reply;
use crate::work_queue::Key;

/// The requests of one controller, and what it is known to have written.
///
/// Invariants: a call is in `in_flight` or in `waiting`, never in both; `credit` is there while any request of the
/// present instance has taken some, and only what was taken from it is given back.
pub(in crate::control_loop) struct SlotRequests<C> {
    /// By the guest's call id.
    pub in_flight: BTreeMap<u64, InFlight>,
    /// Those that wait until the limits let them go.
    pub waiting: RequestThrottle,
    pub credit: Option<C>,
    /// Requests with a lower token have taken from an earlier credit.
    credit_since: u64,
    /// What its cached reads must not be older than; only if it watches whole objects.
    pub writes: Option<Box<Writes>>,
    /// What it has changed itself; only if it ignores such changes somewhere.
    pub own_writes: Option<Box<OwnWrites>>,
    /// Objects whose reconciles may trigger themselves; only while some have written.
    pub self_triggers: Option<Box<SelfTriggers>>,
}

/// A request under way.
pub(in crate::control_loop) struct InFlight {
    /// A watch or a log that is followed: it lasts.
    pub is_stream: bool,
    /// Tells this request from an earlier one with the same call id.
    pub token: u64,
    /// If it writes in a reconcile, until the version that it has made is known.
    pub write: Option<Box<Write>>,
}

/// A write in a reconcile.
pub(in crate::control_loop) struct Write {
    /// The object that is reconciled.
    pub object: (RegistrationId, Key),
    /// What is written: `websites/status web/home`.
    pub target: String,
}

impl Write {
    /// Of a permitted request that is made while `object` is reconciled; `None` if it writes no version.
    pub fn of(allowed: &Allowed, object: Option<(RegistrationId, Key)>) -> Option<Box<Write>> {
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

impl<C: Credit> SlotRequests<C> {
    pub fn new(writes: Option<Box<Writes>>, own_writes: Option<Box<OwnWrites>>) -> SlotRequests<C> {
        SlotRequests {
            in_flight: BTreeMap::new(),
            waiting: RequestThrottle::default(),
            credit: None,
            credit_since: 0,
            writes,
            own_writes,
            self_triggers: None,
        }
    }

    /// The present credit, which `new` creates if there is none. `next_token`: the token of the next request.
    pub fn credit_or_insert(&mut self, next_token: u64, new: impl FnOnce() -> C) -> &C {
        let since = &mut self.credit_since;
        self.credit.get_or_insert_with(|| {
            *since = next_token;
            new()
        })
    }

    /// Open streams, the waiting ones included.
    pub fn streams(&self) -> usize {
        self.in_flight.values().filter(|request| request.is_stream).count() + self.waiting.streams()
    }

    /// Requests under way that end by themselves.
    pub fn unary_in_flight(&self) -> usize {
        self.in_flight.values().filter(|request| !request.is_stream).count()
    }

    /// Whether an answer is due without anything else happening.
    pub fn awaits_answers(&self) -> bool {
        self.unary_in_flight() > 0 || !self.waiting.is_empty()
    }

    pub fn give_credit(&self, bytes: usize) {
        if let Some(credit) = &self.credit {
            credit.give(bytes);
        }
    }

    /// Pieces of an answer that nobody waits for any more have come.
    pub fn drop_replies(&self, token: u64, replies: &[Reply]) {
        if token >= self.credit_since {
            self.give_credit(replies.iter().map(Reply::credited_bytes).sum());
        }
    }

    /// Tracks the writes that a registration's watches need tracked. A package that registers late did not declare
    /// them at build time.
    pub fn track_writes(&mut self, spec: &ControllerSpec) {
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

    /// Gives back what empty tables hold.
    pub fn shrink(&mut self) {
        if self.in_flight.is_empty() {
            self.in_flight = BTreeMap::new();
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
    }

    pub fn ram_bytes(&self) -> usize {
        let writes = self.writes.as_ref().map_or(0, |writes| writes.bytes())
            + self.own_writes.as_ref().map_or(0, |own| size_of::<OwnWrites>() + own.bytes())
            + self.self_triggers.as_ref().map_or(0, |triggers| triggers.bytes());
        self.in_flight.len() * (size_of::<InFlight>() + 16) + writes
    }
}
