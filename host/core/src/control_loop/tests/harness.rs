//! A control loop with a clock, and with everything that a shell would do on its orders: by hand, step by step.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits};
use wasmop_policy::Policy;

use super::super::*;
use super::environment::{Object, TestCredit, TestEnvironment};
pub use super::setup::*;
use crate::election::Fence;
use crate::permissions::Permissions;
use crate::reply::Reply;
use crate::status::counters::{CachedRead, IgnoredChange};
use crate::status::observed;
use crate::step::{Action, Event, EventKind, StepOutput, StepReport};
use crate::watch::{Waiting, WatchId};

/// What a worker has been ordered to do.
pub enum Order {
    Step { step: Box<Step>, was_suspended: bool, is_new: bool },
    Save(Box<Save>),
    SuspendSoftly(SaveReason),
}

pub struct Harness {
    pub control: ControlLoop<TestEnvironment>,
    pub now: Now,
    /// Orders of instances that are with a worker.
    pub orders: BTreeMap<SlotId, Order>,
    /// Effects that no test has looked at yet.
    pub effects: Vec<HostEffect>,
    /// How long a worker takes to resume or start an instance.
    pub resume_takes: Duration,
    /// What each slot's instance is like after a step.
    pub facts: BTreeMap<SlotId, InstanceFacts>,
    /// Where each instance was when it was not with a worker.
    at_home: BTreeMap<SlotId, Phase>,
    /// Where each request that was sent takes its credit from, by token.
    pub credits: BTreeMap<u64, TestCredit>,
}

impl Harness {
    /// A host whose policy is `never`.
    pub fn new() -> Harness {
        Harness::with(LoopOptions { policy: Policy::Never, ..LoopOptions::default() })
    }

    pub fn with(mut options: LoopOptions) -> Harness {
        options.limit_caps = Limits::NONE;
        Harness {
            control: ControlLoop::new(TestEnvironment::default(), options),
            now: Now { host: secs(1), boot: secs(1) },
            orders: BTreeMap::new(),
            effects: Vec::new(),
            resume_takes: ms(1),
            facts: BTreeMap::new(),
            at_home: BTreeMap::new(),
            credits: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, setup: Setup) -> SlotId {
        let asked = setup.external.iter().map(|host| host.parse().unwrap()).collect();
        let permissions = Permissions::new(setup.rules).with_external(asked);
        let is_full = setup.tier == Tier::Full;
        let package = PackageFacts {
            name: format!("package-{}", setup.name),
            version: "1.0.0".into(),
            tier: setup.tier,
            mode: setup.mode,
            has_kept_up_watches: setup.has_kept_up_watches,
            limits: setup.limits,
            suspend_policy: setup.package_policy,
            base_memory_bytes: is_full.then_some(setup.base_memory_bytes),
            base_data_bytes: is_full.then_some(setup.base_data_bytes),
            first_monotonic_ns: 1000,
        };
        let recovered = setup.recovered.unwrap_or_else(|| Recovered::fresh(self.now.host, 1000));
        let id = self.control.add(NewController {
            name: setup.name.into(),
            package: Arc::new(package),
            startup: Arc::new(setup.startup),
            permissions: Arc::new(permissions),
            service_account: None,
            namespaces: setup.namespaces,
            policy: setup.policy,
            leadership: setup.leadership,
            cached: Arc::default(),
            ignored: Arc::default(),
            recovered,
        });
        let facts =
            InstanceFacts { anonymous_bytes: MIB, memory_bytes: MIB, is_soft: !is_full, ..InstanceFacts::default() };
        self.facts.insert(id, facts);
        id
    }

    /// Subscribes all controllers, delivers what the watches recall, and orders the first steps.
    pub fn start(&mut self) {
        self.note_phases();
        self.control.start(self.now);
        self.dispatch();
        self.deliver();
    }

    /// A host with one controller that has registered this.
    pub fn running(spec: &ControllerSpec) -> (Harness, SlotId) {
        Harness::running_with(setup("web"), spec)
    }

    pub fn running_with(setup: Setup, spec: &ControllerSpec) -> (Harness, SlotId) {
        let mut host = Harness::new();
        let id = host.add(setup);
        host.start();
        host.boot(id, spec);
        (host, id)
    }

    /// Answers the first step of an instance: it registers this, and its watches are listed without objects.
    pub fn boot(&mut self, id: SlotId, spec: &ControllerSpec) {
        assert_eq!(self.kinds(id), [EventKind::Start]);
        self.does(id, vec![register(spec)]);
        self.list_new();
    }

    /// A running controller of websites whose guest has made these calls.
    pub fn calling(setup: Setup, actions: Vec<Action>) -> (Harness, SlotId) {
        let mut host = Harness::new();
        let id = host.add(setup);
        host.start();
        host.does(id, [vec![register(&websites())], actions].concat());
        host.list_new();
        (host, id)
    }

    /// Lists those watches without objects that were not listed before.
    pub fn list_new(&mut self) {
        let watches = &self.control.environment().watches;
        let new: Vec<WatchId> = watches.iter().filter(|(_, watch)| !watch.is_synced).map(|(id, _)| *id).collect();
        for watch in new {
            self.control.environment_mut().list(watch, &[]);
        }
        self.deliver();
    }

    // --- events

    pub fn event(&mut self, event: HostEvent) {
        self.control.take(event, self.now);
        self.dispatch();
    }

    /// Hands in what the watches have sent, each event by itself.
    pub fn deliver(&mut self) {
        while let Some(event) = self.control.environment_mut().sent.pop_front() {
            self.event(HostEvent::Watch(event));
        }
    }

    /// Hands in what the watches have sent, with one dispatch.
    pub fn deliver_together(&mut self) {
        while let Some(event) = self.control.environment_mut().sent.pop_front() {
            self.control.take(HostEvent::Watch(event), self.now);
        }
        self.dispatch();
    }

    pub fn watch(&self, kind: &str) -> WatchId {
        self.control.environment().watch_of(kind, None)
    }

    pub fn list(&mut self, kind: &str, objects: &[Object]) {
        let watch = self.watch(kind);
        self.control.environment_mut().list(watch, objects);
        self.deliver();
    }

    pub fn apply(&mut self, kind: &str, object: &Object) {
        let watch = self.watch(kind);
        self.control.environment_mut().apply(watch, object);
        self.deliver();
    }

    pub fn delete(&mut self, kind: &str, object: &Object) {
        let watch = self.watch(kind);
        self.control.environment_mut().delete(watch, object);
        self.deliver();
    }

    pub fn fail_watch(&mut self, kind: &str, waiting: Waiting) {
        let watch = self.watch(kind);
        self.control.environment_mut().fail(watch, waiting);
        self.deliver();
    }

    /// Time passes, and the loop is dispatched once at its end.
    pub fn advance(&mut self, by: Duration) {
        self.now.host += by;
        self.now.boot += by;
        self.dispatch();
    }

    /// As a shell does: dispatches, and again for as long as the loop says that something is due.
    pub fn dispatch(&mut self) {
        let is_due = |host: &Harness| host.control.next_wake().is_some_and(|at| at <= host.now.host);
        for _ in 0..3 {
            let effects = self.control.dispatch(self.now);
            self.absorb(effects);
            if !is_due(self) {
                return;
            }
        }
        panic!("the loop is dispatched again and again: {:?} at {:?}", self.control.timers.all(), self.now);
    }

    // --- what workers do

    /// The events of the step that is under way.
    pub fn events(&self, id: SlotId) -> &[Event] {
        match self.orders.get(&id) {
            Some(Order::Step { step, .. }) => step.events.as_deref().unwrap_or_default(),
            _ => panic!("no step is under way"),
        }
    }

    pub fn is_stepping(&self, id: SlotId) -> bool {
        matches!(self.orders.get(&id), Some(Order::Step { .. }))
    }

    /// Why the instance is being written to disk or suspended softly, if it is.
    pub fn saving(&self, id: SlotId) -> Option<SaveReason> {
        match self.orders.get(&id)? {
            Order::Step { .. } => None,
            Order::Save(save) => Some(save.reason),
            Order::SuspendSoftly(reason) => Some(*reason),
        }
    }

    pub fn kinds(&self, id: SlotId) -> Vec<EventKind> {
        self.events(id).iter().map(|event| event.kind).collect()
    }

    /// Tasks and objects of the reconciles in the step that is under way.
    pub fn begun(&self, id: SlotId) -> Vec<(u64, String)> {
        let reconciles = self.events(id).iter().filter(|event| event.kind == EventKind::Reconcile);
        reconciles.map(|event| (event.task, String::from_utf8(event.payload.to_vec()).unwrap())).collect()
    }

    /// The task of the only event of this kind in the step that is under way.
    pub fn task(&self, id: SlotId, kind: EventKind) -> u64 {
        let tasks: Vec<u64> =
            self.events(id).iter().filter(|event| event.kind == kind).map(|event| event.task).collect();
        assert_eq!(tasks.len(), 1, "{:?}", self.kinds(id));
        tasks[0]
    }

    /// The step that is under way ends.
    pub fn does(&mut self, id: SlotId, did: impl Into<Did>) {
        let Some(Order::Step { step, was_suspended, is_new }) = self.orders.remove(&id) else {
            panic!("no step is under way")
        };
        let Did { actions, logs, park, refused_memory, failures, lost, cpu, instance } = did.into();
        let is_lost = lost.is_some();
        let output = StepOutput { actions, logs, park, refused_memory };
        let report = StepReport {
            outputs: if is_lost && output.actions.is_empty() { Vec::new() } else { vec![output] },
            failures,
            lost,
            resume: is_new.then_some(self.resume_takes),
            step: ms(1),
            cpu,
        };
        self.event(HostEvent::Stepped(Box::new(Stepped {
            slot: id,
            stepped_at: step.at,
            was_suspended,
            events: step.events.map_or(0, |events| events.len()),
            instance: (!is_lost).then(|| instance.unwrap_or(self.facts[&id])),
            report,
        })));
    }

    /// Ends steps with `done` for each reconcile until there is none under way. Returns the objects, in order.
    pub fn reconciled(&mut self, id: SlotId) -> Vec<String> {
        let mut objects = Vec::new();
        while self.is_stepping(id) {
            let begun = self.begun(id);
            self.does(id, begun.iter().map(|(task, _)| done(*task)).collect::<Vec<_>>());
            objects.extend(begun.into_iter().map(|(_, object)| object));
        }
        objects
    }

    /// The instance has been written, or suspended softly.
    pub fn saved(&mut self, id: SlotId) {
        let (reason, instance) = match self.orders.remove(&id) {
            Some(Order::Save(save)) => (save.reason, (save.reason == SaveReason::LogFull).then(|| self.facts[&id])),
            Some(Order::SuspendSoftly(reason)) => {
                (reason, Some(InstanceFacts { is_suspended: true, ..self.facts[&id] }))
            }
            _ => panic!("nothing is being saved"),
        };
        let result = Ok(Written { dirty_bytes: 4096, written_bytes: 8192, disk_bytes: 16384 });
        self.event(HostEvent::Saved(Box::new(Saved { slot: id, reason, instance, result, took: ms(1) })));
    }

    /// The instance could not be written.
    pub fn save_fails(&mut self, id: SlotId, error: io::Error) {
        let reason = self.saving(id).expect("it is being saved");
        self.orders.remove(&id);
        let instance = Some(self.facts[&id]);
        let result = Err(error);
        self.event(HostEvent::Saved(Box::new(Saved { slot: id, reason, instance, result, took: ms(1) })));
    }

    /// Pieces of the answer to a request, which take credit as the requests under way do.
    pub fn reply(&mut self, send: &Send, replies: Vec<Reply>) {
        let bytes: usize = replies.iter().map(Reply::credited_bytes).sum();
        if let Some(credit) = self.control.credit(send.slot) {
            assert!(credit.try_take(bytes), "a request waits for credit");
        }
        let Send { slot, call, token, .. } = *send;
        self.event(HostEvent::Replies { slot, call, token, replies });
    }

    /// The whole answer to a request.
    pub fn respond(&mut self, send: &Send, status: u16, text: &str) {
        let mut replies = vec![head(status)];
        if !text.is_empty() {
            replies.push(body(text));
        }
        replies.push(Reply::End);
        self.reply(send, replies);
    }

    // --- effects

    /// Routes orders to workers and keeps the rest for tests.
    fn absorb(&mut self, effects: Vec<HostEffect>) {
        for effect in effects {
            match effect {
                HostEffect::Step(step) => {
                    let before = self.at_home[&step.slot];
                    let was_suspended = match before {
                        Phase::Suspended { snapshot_bytes } => snapshot_bytes.is_some(),
                        Phase::Resident(instance) => instance.is_suspended,
                        Phase::Busy => unreachable!("only where instances are at home is noted"),
                    };
                    let is_new = was_suspended || matches!(before, Phase::Suspended { .. });
                    self.order(step.slot, Order::Step { step, was_suspended, is_new });
                }
                HostEffect::Save(save) => self.order(save.slot, Order::Save(save)),
                HostEffect::SuspendSoftly { slot, reason } => self.order(slot, Order::SuspendSoftly(reason)),
                HostEffect::Discard { slot } => {
                    assert!(!self.orders.contains_key(&slot), "an instance with a worker cannot be discarded");
                    self.at_home.insert(slot, Phase::FRESH);
                    self.effects.push(effect);
                }
                HostEffect::Send(send) => {
                    // Without credit it is aborted at once.
                    if let Some(credit) = self.control.credit(send.slot).cloned() {
                        let before = self.credits.insert(send.token, credit);
                        assert!(before.is_none(), "a token names one request");
                    }
                    self.effects.push(HostEffect::Send(send));
                }
                effect => self.effects.push(effect),
            }
        }
        self.note_phases();
        self.check();
    }

    fn order(&mut self, id: SlotId, order: Order) {
        let before = self.orders.insert(id, order);
        assert!(before.is_none(), "an instance that is with a worker is ordered nothing");
    }

    fn note_phases(&mut self) {
        for id in self.control.ids() {
            match self.control.phase(id) {
                Phase::Busy => {}
                phase => {
                    self.at_home.insert(id, phase);
                }
            }
        }
    }

    // --- state

    pub fn observe(&self, id: SlotId) -> observed::Controller {
        self.control.observe().swap_remove(id.index())
    }

    pub fn ignored(&self, id: SlotId, why: IgnoredChange) -> u64 {
        self.observe(id).counters.changes_ignored(why)
    }

    /// What became of reads that a cache may answer, without those that never happened.
    pub fn cached_reads(&self, id: SlotId) -> Vec<(CachedRead, u64)> {
        let counters = self.observe(id).counters;
        counters.cached_reads().filter(|(_, count)| *count > 0).collect()
    }

    /// Keys of limits that were met, and how often.
    pub fn limit_hits(&self, id: SlotId) -> Vec<(&'static str, u64)> {
        let counters = self.observe(id).counters;
        counters.trouble().map_or_else(Vec::new, |trouble| {
            trouble.limit_hits().map(|(limit, count)| (limit.as_str(), count)).collect()
        })
    }

    pub fn restarts(&self, id: SlotId) -> u32 {
        self.observe(id).counters.trouble().map_or(0, |trouble| trouble.restarts)
    }

    pub fn last_error(&self, id: SlotId) -> String {
        self.observe(id).counters.last_error().unwrap_or_default().to_owned()
    }

    pub fn is_suspended(&self, id: SlotId) -> bool {
        self.observe(id).state == crate::status::state::State::Suspended
    }

    pub fn leadership(&self, id: SlotId) -> &Leadership {
        &self.control.slots[id].leadership
    }

    // --- leadership

    /// This host runs the controller from now on.
    pub fn gain(&mut self, id: SlotId, fence: &Arc<Fence>, recovered: Recovered) {
        let gained = Gained { slot: id, fence: fence.clone(), transitions: 1, recovered };
        self.event(HostEvent::Gained(Box::new(gained)));
        self.deliver();
    }
}
