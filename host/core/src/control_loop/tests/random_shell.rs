//! A shell, workers, guests and an API server that do anything at all, as numbers choose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits, Relation, WatchSpec};
use wasmop_policy::Policy;

use super::super::{
    Authorization, Credit, Destination, Gained, HostEvent, InstanceFacts, Leadership, Recovered, SaveReason, Saved,
    Send, Settings, SlotId, Written,
};
use super::environment::{Object, TestCredit, object};
use super::harness::*;
use crate::election::{Fence, Term};
use crate::permissions::Grant;
use crate::reply::Reply;
use crate::step::{Action, EventKind, Lost, StepFault};
use crate::watch::{WaitReason, Waiting, WatchId};

pub const KINDS: [&str; 3] = ["Website", "Deployment", "ConfigMap"];
pub const NAMES: [&str; 5] = ["web/a", "web/b", "web/c", "web/d", "web/e"];
const HOME: &str = "/apis/demo.dev/v1/namespaces/web/websites/a";

/// Numbers that choose; 0 once they are used up.
pub struct Choices(pub VecDeque<u16>);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.pop_front().unwrap_or_default()) % bound.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len());
        all.get(at)
    }
}

/// What a guest knows.
#[derive(Default)]
pub struct Guest {
    pub reconciles: BTreeMap<u64, String>,
    pub maps: BTreeSet<u64>,
    pub calls: BTreeSet<u64>,
    next_call: u64,
}

/// A request that the shell makes.
pub struct Request {
    send: Send,
    /// Where it takes credit from.
    credit: TestCredit,
    has_head: bool,
}

pub struct RandomShell {
    pub host: Harness,
    pub ids: Vec<SlotId>,
    pub guests: BTreeMap<SlotId, Guest>,
    pub requests: Vec<Request>,
    /// Pieces of answers on their way to the loop.
    pub replies: VecDeque<(Send, Vec<Reply>)>,
    fences: BTreeMap<SlotId, (Arc<Term>, Arc<Fence>)>,
    pub version: u64,
    /// Objects of each kind.
    objects: BTreeMap<(&'static str, &'static str), Object>,
    /// Websites that each controller has begun to reconcile since this was last cleared.
    pub reconciled: BTreeSet<(SlotId, String)>,
}

/// Two registrations that are not the same and reconcile the same.
pub fn spec(variant: usize) -> ControllerSpec {
    let primary = WatchSpec { cached: variant == 0, ignore_own_writes: true, ..kind("Website") };
    let mapped = related("ConfigMap", Relation::Map);
    let owned = related("Deployment", Relation::Owner);
    reconciler(primary, if variant == 2 { vec![owned] } else { vec![owned, mapped] })
}

impl RandomShell {
    pub fn new() -> RandomShell {
        let mut host = Harness::new();
        let limits = Limits {
            api_requests_per_second: 5,
            api_burst: 3,
            api_in_flight: 2,
            reconcile_timeout_ns: 20_000_000_000,
            cpu_share_millis: 100,
            log_bytes_per_second: 1000,
            memory_bytes: 100 * MIB,
            ..Limits::NONE
        };
        let policy = |policy| Some(policy);
        let ids = vec![
            host.add(Setup { policy: policy(Policy::Immediate), ..setup("plain") }),
            host.add(Setup { limits, policy: policy(Policy::After(secs(2))), ..setup("limited") }),
            host.add(Setup { tier: Tier::Soft, limits, policy: policy(Policy::Adaptive), ..setup("soft") }),
            host.add(Setup { leadership: Leadership::Standby, limits, ..setup("elected") }),
        ];
        host.start();
        RandomShell {
            host,
            guests: ids.iter().map(|id| (*id, Guest::default())).collect(),
            ids,
            requests: Vec::new(),
            replies: VecDeque::new(),
            fences: BTreeMap::new(),
            version: 0,
            objects: BTreeMap::new(),
            reconciled: BTreeSet::new(),
        }
    }

    /// Takes in what the loop wants of the shell.
    pub fn carry_out(&mut self) {
        let aborted: Vec<(SlotId, u64)> = self.host.aborts();
        for send in self.host.sends() {
            match self.host.credits.get(&send.token).cloned() {
                Some(credit) => self.requests.push(Request { send, credit, has_head: false }),
                None => assert!(aborted.contains(&(send.slot, send.call)), "a request has credit to take"),
            }
        }
        self.requests.retain(|request| !aborted.contains(&(request.send.slot, request.send.call)));
        self.host.effects.clear();
    }

    pub fn watches(&self, kind: &str) -> Vec<WatchId> {
        let all = self.host.control.environment().watches.iter();
        all.filter(|(_, watch)| watch.request.kind == kind).map(|(id, _)| *id).collect()
    }

    pub fn happen(&mut self, choices: &mut Choices) {
        match choices.below(16) {
            0..3 => self.change(choices),
            3 => self.relist(choices),
            4..6 => self.deliver(choices),
            6..9 => self.step(choices),
            9 => self.save(choices),
            10..12 => self.reply(choices),
            12 => {
                let times = [ms(1), ms(100), secs(1), secs(5), secs(15), secs(70)];
                let time = times[choices.below(times.len())];
                self.host.advance(time);
            }
            13 => self.elect(choices),
            14 => self.configure(choices),
            _ => self.host.event(HostEvent::MemoryPressure),
        }
        self.carry_out();
    }

    /// An object is created, modified or deleted.
    fn change(&mut self, choices: &mut Choices) {
        let (kind, name) = (KINDS[choices.below(3)], NAMES[choices.below(5)]);
        let is_deleted = choices.below(4) == 0;
        self.version += 1;
        let owner = NAMES[choices.below(5)].trim_start_matches("web/");
        let changed = object(name).version(self.version).spec(json!(self.version)).owned_by("Website", owner, true);
        for watch in self.watches(kind) {
            let environment = self.host.control.environment_mut();
            match is_deleted {
                true => environment.delete(watch, &changed),
                false => environment.apply(watch, &changed),
            }
        }
        match is_deleted {
            true => drop(self.objects.remove(&(kind, name))),
            false => drop(self.objects.insert((kind, name), changed)),
        }
    }

    /// A watch is listed, or cannot be had.
    fn relist(&mut self, choices: &mut Choices) {
        let kind = KINDS[choices.below(3)];
        let is_refused = choices.below(3) == 1;
        for watch in self.watches(kind) {
            if is_refused {
                let waiting = Waiting {
                    resource: kind.into(),
                    cause: WaitReason::Unreachable,
                    message: "away".into(),
                    service_account: None,
                };
                self.host.control.environment_mut().fail(watch, waiting);
            } else {
                self.list(watch, kind);
            }
        }
    }

    pub fn list(&mut self, watch: WatchId, kind: &str) {
        let objects: Vec<Object> =
            self.objects.iter().filter(|((of, _), _)| *of == kind).map(|(_, object)| object.clone()).collect();
        self.host.control.environment_mut().list(watch, &objects);
    }

    /// Some events of watches arrive, together or one by one.
    fn deliver(&mut self, choices: &mut Choices) {
        let (count, are_together) = (choices.below(5), choices.below(2) == 0);
        for _ in 0..count {
            let Some(event) = self.host.control.environment_mut().sent.pop_front() else { break };
            self.host.control.take(HostEvent::Watch(event), self.host.now);
            if !are_together {
                self.host.dispatch();
            }
        }
        self.host.dispatch();
    }

    /// A step that is under way ends somehow.
    fn step(&mut self, choices: &mut Choices) {
        let stepping: Vec<SlotId> = self.ids.iter().copied().filter(|id| self.host.is_stepping(*id)).collect();
        let Some(&id) = choices.of(&stepping) else { return };
        self.see(id);
        let is_start = self.host.kinds(id).contains(&EventKind::Start);
        let guest = self.guests.get_mut(&id).unwrap();
        let mut actions = Vec::new();
        if is_start {
            actions.push(register(&spec(choices.below(3))));
        }
        let mut did = Did::default();
        match choices.below(12) {
            0 => did.lost = Some(Lost::Snapshot("torn".into())),
            1 => did.lost = Some(Lost::NoCulprit),
            2 if self.host.facts[&id].is_soft => did.lost = Some(Lost::NotUndone),
            3 => {
                let culprit = choices.of(&guest.reconciles.keys().copied().collect::<Vec<_>>()).copied();
                if let Some(task) = culprit {
                    guest.reconciles.remove(&task);
                    did.failures.push(failure(StepFault::Trap, Some(task)));
                }
            }
            _ => {}
        }
        for _ in 0..choices.below(6) {
            let task = choices.of(&guest.reconciles.keys().copied().collect::<Vec<_>>()).copied();
            match choices.below(10) {
                0..3 => actions.extend(task.map(done)),
                3 => actions.extend(task.map(|task| requeue(task, secs(3)))),
                4 => actions.extend(task.map(fails)),
                5 => {
                    if let Some(map) = guest.maps.pop_first() {
                        let keys = ["web/a", "web/b\nweb/z", "a/b/c", ""][choices.below(4)];
                        actions.push(Action::Mapped { task: map, keys: keys.into() });
                    }
                }
                6 => actions.extend(guest.maps.pop_first().map(fails)),
                7 => {
                    let call = guest.call();
                    let path = ["/api/v1/pods?watch=true", "/api/v1/pods", HOME, "//"][choices.below(4)];
                    let path = if choices.below(3) == 0 { format!("{HOME}?resourceVersion=0") } else { path.into() };
                    actions.push(super::setup::call(call, task.unwrap_or_default(), "GET", &path));
                }
                8 => {
                    let call = guest.call();
                    let text = json!({ "metadata": { "resourceVersion": self.version.to_string() } }).to_string();
                    actions.push(put(call, task.unwrap_or_default(), HOME, &text));
                }
                _ => {
                    let call = choices.of(&guest.calls.iter().copied().collect::<Vec<_>>()).copied();
                    actions.extend(call.map(drop_call));
                    call.map(|call| guest.calls.remove(&call));
                }
            }
            if let Some(Action::Done { task, .. }) = actions.last() {
                guest.reconciles.remove(task);
            }
        }
        if did.lost.is_some() {
            *guest = Guest { next_call: guest.next_call, ..Guest::default() };
            actions.clear();
        }
        did.park = (choices.below(4) == 0).then_some(secs(2));
        did.cpu = [ms(0), ms(1), ms(1500)][choices.below(3)];
        let memory_bytes = [1, 60, 95][choices.below(3)] * MIB;
        let log_is_full = choices.below(5) == 0 && !self.host.facts[&id].is_soft;
        did.instance = Some(InstanceFacts { memory_bytes, log_is_full, ..self.host.facts[&id] });
        did.actions = actions;
        self.host.does(id, did);
    }

    /// The guest takes in the events of the step that is under way.
    pub fn see(&mut self, id: SlotId) {
        let guest = self.guests.get_mut(&id).unwrap();
        for event in self.host.events(id) {
            match event.kind {
                EventKind::Start => *guest = Guest { next_call: guest.next_call, ..Guest::default() },
                EventKind::Reconcile => {
                    let object = String::from_utf8(event.payload.to_vec()).unwrap();
                    self.reconciled.insert((id, object.clone()));
                    assert!(guest.reconciles.insert(event.task, object).is_none(), "a task is given once");
                }
                EventKind::Map => assert!(guest.maps.insert(event.task)),
                EventKind::Cancel => {
                    guest.reconciles.remove(&event.id);
                    guest.maps.remove(&event.id);
                }
                EventKind::End | EventKind::Failed => drop(guest.calls.remove(&event.id)),
                // Of a call that the guest has dropped, too, if the answer was complete before.
                EventKind::Head | EventKind::Body | EventKind::Nothing => {}
            }
        }
    }

    /// An instance has been saved, or could not be.
    fn save(&mut self, choices: &mut Choices) {
        let saving: Vec<SlotId> = self.ids.iter().copied().filter(|id| self.host.saving(*id).is_some()).collect();
        let Some(&id) = choices.of(&saving) else { return };
        match choices.below(4) {
            0 => self.host.save_fails(id, io::Error::from(io::ErrorKind::StorageFull)),
            _ => self.save_of(id),
        }
    }

    pub fn save_of(&mut self, id: SlotId) {
        if self.host.saving(id) == Some(SaveReason::LogFull) {
            // It goes on with an empty log.
            self.host.orders.remove(&id);
            let result = Ok(Written::default());
            let instance = Some(self.host.facts[&id]);
            let saved = Saved { slot: id, reason: SaveReason::LogFull, instance, result, took: ms(1) };
            return self.host.event(HostEvent::Saved(Box::new(saved)));
        }
        self.host.saved(id);
    }

    /// A request is answered in part or to its end, or what is on its way arrives.
    fn reply(&mut self, choices: &mut Choices) {
        if choices.below(2) == 0 {
            return self.arrive();
        }
        let at = choices.below(self.requests.len());
        let what = choices.below(6);
        self.answer(at, what);
    }

    pub fn answer(&mut self, at: usize, what: usize) {
        let Some(request) = self.requests.get_mut(at) else { return };
        let text = json!({ "metadata": { "name": "a", "uid": "u", "resourceVersion": self.version.to_string() } });
        let mut replies = Vec::new();
        if !std::mem::replace(&mut request.has_head, true) {
            replies.push(Reply::Head { status: if what == 5 { 409 } else { 200 }, headers: "a: b\n".into() });
        }
        match what {
            0 => replies.push(Reply::Body(Bytes::from(vec![b' '; 60_000]))),
            1 => replies.push(Reply::Failed("reset".into())),
            2 => replies.push(Reply::TooLarge),
            _ => replies.extend([Reply::Body(text.to_string().into()), Reply::End]),
        }
        let bytes = replies.iter().map(Reply::credited_bytes).sum();
        if !request.credit.try_take(bytes) {
            // It waits for credit; the head is sent again in this model.
            request.has_head = false;
            return;
        }
        let send = copy(&request.send);
        if what != 0 {
            self.requests.remove(at);
        }
        self.replies.push_back((send, replies));
    }

    pub fn arrive(&mut self) {
        if let Some((Send { slot, call, token, .. }, replies)) = self.replies.pop_front() {
            self.host.event(HostEvent::Replies { slot, call, token, replies });
        }
    }

    /// The lease of the elected controller changes hands.
    fn elect(&mut self, choices: &mut Choices) {
        let id = self.ids[3];
        match choices.below(5) {
            0..2 => self.gain(id),
            2 => self.host.event(HostEvent::GiveUp { slot: id }),
            3 => self.host.event(HostEvent::LeaseLost { slot: id }),
            _ => {
                self.host.now.boot += secs(30);
                self.host.dispatch();
            }
        }
    }

    pub fn gain(&mut self, id: SlotId) {
        if self.host.control.may_gain(id) {
            let term = Arc::new(Term::new(self.host.now.boot + secs(10_000)));
            let fence = Arc::new(Fence::new(term.clone()));
            self.guests.insert(id, Guest { next_call: self.guests[&id].next_call, ..Guest::default() });
            let recovered = Recovered::fresh(self.host.now.host, 1000);
            let gained = Gained { slot: id, fence: fence.clone(), transitions: 1, recovered };
            self.fences.insert(id, (term, fence));
            self.host.event(HostEvent::Gained(Box::new(gained)));
        }
    }

    fn configure(&mut self, choices: &mut Choices) {
        let all = rule("*", "*", &["*"]);
        let rules = match choices.below(4) {
            0 => Some(vec![]),
            1 => Some(vec![rule("demo.dev", "websites", &["list", "watch"])]),
            2 => Some(vec![all]),
            _ => None,
        };
        let budget = [None, Some(3 * MIB), Some(MIB)][choices.below(3)];
        let name = self.host.control.name(self.ids[choices.below(4)]).to_string();
        self.settle(name, rules, budget);
    }

    pub fn settle(
        &mut self,
        name: String,
        rules: Option<Vec<wasmop_package::manifest::PolicyRule>>,
        budget: Option<u64>,
    ) {
        let grant = Grant { rules: rules.map(Into::into), ..Grant::all() };
        let controllers = [(name, Authorization { policy: Some(Policy::Immediate), grant })].into();
        let settings =
            Settings { policy: Policy::Immediate, memory_budget: budget, controllers, ..Settings::default() };
        self.host.event(HostEvent::Settings(settings));
    }
}

impl Guest {
    fn call(&mut self) -> u64 {
        self.next_call += 1;
        self.calls.insert(self.next_call);
        self.next_call
    }
}

/// What tells the loop which request a reply is for.
fn copy(send: &Send) -> Send {
    Send {
        slot: send.slot,
        call: send.call,
        task: send.task,
        token: send.token,
        is_stream: send.is_stream,
        keeps_up: send.keeps_up,
        fence: None,
        service_account: None,
        destination: Destination::ApiServer,
        method: String::new(),
        path: String::new(),
        headers: String::new(),
        body: Bytes::new(),
        max_bytes: 0,
    }
}
