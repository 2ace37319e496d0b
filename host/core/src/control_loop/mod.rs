//! The control loop of a host as a function: an event and the time in, effects out.
//!
//! ```text
//!              ┌──────────────── ControlLoop ────────────────┐
//!  HostEvent ─►│ on(event, now) ─► slots that may have work  │─► HostEffect: step, save, send, publish, …
//!  (watch,     │ dispatch(now)  ─► what each does next       │   carried out by the shell, in order
//!   stepped,   └──────────────────────┬──────────────────────┘
//!   replies…)                         └─ Environment: what the watches hold, answered at once
//! ```
//!
//! Nothing here does I/O, reads a clock or draws a random number, so that a run can be repeated bit for bit. The
//! shell reads events from channels, hands them in, and carries out effects on threads and in tasks.
//!
//! Each controller is a slot made of parts. Its instance is in one place at a time: with the shell
//! ("at home") or with a worker (`Phase::Busy`), and the loop orders nothing of an instance that is with a worker.

mod cached_answers;
mod effect;
mod environment;
mod event;
mod host_state;
mod inspection;
mod leadership;
mod notices;
mod parts;
mod requests;
mod restarts;
mod settings;
mod slot;
mod status;
mod stepping;
mod subscriptions;
mod suspension;
#[cfg(test)]
mod tests;
mod throttles;
mod timers;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use wasmop_package::manifest::Limits;
use wasmop_policy::{Policy, Prices};

pub use self::effect::{Destination, HostEffect, Notice, ReconcileBegun, Save, Send, SpanEvent, Step};
pub use self::environment::{Credit, Environment};
pub use self::event::{Gained, HostEvent, Now, Saved, Stepped, Written};
pub use self::host_state::HostState;
pub use self::inspection::MOST_HELD_BYTES;
use self::parts::{Authority, SlotRequests, SlotWatches, Suspension, Throttles};
pub use self::parts::{InstanceFacts, Leadership, PackageFacts, Phase, Recovered, SaveReason, SlotId};
pub use self::settings::{Authorization, BudgetTooSmall, Settings};
use self::slot::{Slot, SlotsOf};
use self::subscriptions::Subscriptions;
use self::timers::Timers;
use crate::cached_reads::{Resource, Writes};
use crate::limits::problem::ProblemReports;
use crate::limits::write_storm::WriteStorms;
use crate::own_writes::OwnWrites;
use crate::permissions::Permissions;
use crate::permissions::learn::Learning;
use crate::service_account::ServiceAccount;
use crate::startup::Startup;
use crate::status::counters::{Counters, Totals};
use crate::step::EventKind;
use crate::watch::{NamespaceLimit, WatchEvent};

/// Undelivered bytes of responses of one controller that may wait in the host.
pub const RESPONSE_CREDIT_BYTES: usize = 1 << 20;

/// What a loop is created with, besides its controllers.
#[derive(Debug, Default)]
pub struct LoopOptions {
    /// When idle instances are suspended, where neither the owner nor the package says so for a controller.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: unlimited.
    pub memory_budget: Option<u64>,
    /// The most detailed level of a controller's own lines that is logged, for controllers without a level of their
    /// own; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// No controller's limits are higher.
    pub limit_caps: Limits,
    /// Notes what permissions are needed instead of refusing what is not granted.
    pub learning: Option<Learning>,
    /// Whether there is anybody to tell about spans.
    pub is_traced: bool,
}

/// A controller to run.
#[derive(Debug)]
pub struct NewController {
    /// Its name, unique within the host.
    pub name: Arc<str>,
    /// Its package.
    pub package: Arc<PackageFacts>,
    /// What its program is started with.
    pub startup: Arc<Startup>,
    /// What it may do.
    pub permissions: Arc<Permissions>,
    /// As whom its requests are made; `None`: as the host.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// The namespaces whose objects it watches.
    pub namespaces: NamespaceLimit,
    /// When it is suspended; `None`: as the package or the host says.
    pub policy: Option<Policy>,
    /// `Alone` or `Standby`.
    pub leadership: Leadership,
    /// What it reads from the cache.
    pub cached: Arc<[Resource]>,
    /// What it watches without its own writes.
    pub ignored: Arc<[Resource]>,
    /// What it continues with.
    pub recovered: Recovered,
}

/// The state of a host and every decision about it.
///
/// Invariants:
/// * `timers` mirrors `Slot::wake`; only `ControlLoop::schedule` changes either.
/// * `touched` holds the slots that may have something to do; [`ControlLoop::dispatch`] empties it.
/// * `effects` are in the order in which they have to be carried out; whoever calls [`ControlLoop::dispatch`] gets all.
/// * `now` is the moment of the event that is being handled.
pub struct ControlLoop<E: Environment> {
    slots: SlotsOf<E>,
    environment: E,
    subscriptions: Subscriptions,
    timers: Timers,
    policy: Policy,
    prices: Prices,
    memory_budget: Option<u64>,
    cache_memory: Option<u64>,
    guest_log_level: Option<LevelFilter>,
    limit_caps: Limits,
    learning: Option<Learning>,
    is_traced: bool,
    /// When owners were last told of which problem.
    published: ProblemReports,
    write_storms: WriteStorms,
    totals: Totals,
    next_token: u64,
    is_shutting_down: bool,
    now: Now,
    touched: BTreeSet<SlotId>,
    effects: Vec<HostEffect>,
}

impl<E: Environment> ControlLoop<E> {
    /// A host without controllers.
    pub fn new(environment: E, options: LoopOptions) -> ControlLoop<E> {
        let LoopOptions { policy, memory_budget, guest_log_level, limit_caps, learning, is_traced } = options;
        ControlLoop {
            slots: SlotsOf::<E>::new(Vec::new()),
            environment,
            subscriptions: Subscriptions { is_starting: true, ..Subscriptions::default() },
            timers: Timers::default(),
            policy,
            prices: Prices::default(),
            memory_budget,
            cache_memory: None,
            guest_log_level,
            limit_caps,
            learning,
            is_traced,
            published: ProblemReports::default(),
            write_storms: WriteStorms::default(),
            totals: Totals::default(),
            next_token: 0,
            is_shutting_down: false,
            now: Now::default(),
            touched: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Adds a controller, before [`ControlLoop::start`].
    pub fn add(&mut self, new: NewController) -> SlotId {
        let recovered = new.recovered;
        let mut counters = Counters::default();
        if let Some(bytes) = recovered.snapshot_bytes {
            counters.on_disk(bytes);
        }
        if let Some(learning) = &self.learning {
            learning.add(&new.name, &new.permissions);
        }
        let policy = new.policy.or(new.package.suspend_policy).unwrap_or(self.policy);
        let writes = Writes::of(&new.cached).map(Box::new);
        let own_writes = OwnWrites::of(&new.ignored).map(Box::new);
        let id = self.slots.push(Slot {
            name: new.name,
            package: new.package,
            startup: new.startup,
            authority: Authority {
                permissions: new.permissions,
                service_account: new.service_account,
                namespaces: new.namespaces,
            },
            leadership: new.leadership,
            controller: recovered.controller,
            phase: Phase::Suspended { snapshot_bytes: recovered.snapshot_bytes },
            watches: SlotWatches::default(),
            requests: SlotRequests::new(writes, own_writes),
            throttles: Throttles::default(),
            suspension: Suspension::new(policy, recovered.predictor),
            counters,
            wake: None,
        });
        if !recovered.places.is_empty() {
            self.subscriptions.returning.insert(id, recovered.places);
        }
        id
    }

    /// All controllers are there: subscribes them to their watches. Effects come with the next dispatch.
    pub fn start(&mut self, now: Now) {
        self.now = now;
        for id in self.slots.ids() {
            self.span_continued(id);
            self.watch_registered(id);
            self.touched.insert(id);
        }
        self.subscriptions.is_starting = false;
        self.subscriptions.returning = Default::default();
    }

    /// Handles an event and decides what each controller does next: [`ControlLoop::take`], then
    /// [`ControlLoop::dispatch`].
    pub fn on(&mut self, event: HostEvent, now: Now) -> Vec<HostEffect> {
        self.take(event, now);
        self.dispatch(now)
    }

    /// Handles an event. Several events that are there together are worth one dispatch: one step instead of several.
    pub fn take(&mut self, event: HostEvent, now: Now) {
        self.now = now;
        match event {
            HostEvent::Watch(event) => self.on_watch(&event),
            HostEvent::Stepped(stepped) => {
                self.touched.insert(stepped.slot);
                self.on_stepped(*stepped);
            }
            HostEvent::Replies { slot, call, token, replies } => {
                self.touched.insert(slot);
                self.on_replies(slot, call, token, replies);
            }
            HostEvent::Saved(saved) => {
                self.touched.insert(saved.slot);
                self.on_saved(*saved);
            }
            HostEvent::Synced { slot, result } => self.on_synced(slot, &result),
            HostEvent::MemoryPressure => self.on_pressure(),
            HostEvent::Gained(gained) => {
                self.touched.insert(gained.slot);
                self.on_gained(*gained);
            }
            HostEvent::GiveUp { slot } => {
                self.touched.insert(slot);
                self.on_give_up(slot);
            }
            HostEvent::LeaseLost { slot } => {
                self.touched.insert(slot);
                self.on_lease_lost(slot);
            }
            HostEvent::Settings(settings) => self.apply(settings),
            HostEvent::Shutdown => self.shut_down(),
        }
    }

    /// A watch has news, as [`HostEvent::Watch`]: the event need not be moved.
    pub fn take_watch(&mut self, event: &WatchEvent, now: Now) {
        self.now = now;
        self.on_watch(event);
    }

    /// Decides what each controller does next that may have something to do. Returns the effects of this and of all
    /// events since the last dispatch.
    pub fn dispatch(&mut self, now: Now) -> Vec<HostEffect> {
        self.now = now;
        while let Some(id) = self.timers.pop_due(now.host) {
            self.slots[id].wake = None;
            self.touched.insert(id);
        }
        for id in std::mem::take(&mut self.touched) {
            self.pump(id);
        }
        std::mem::take(&mut self.effects)
    }

    /// When the loop has to be dispatched though nothing happens; on the host's clock.
    pub fn next_wake(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Charges a controller for CPU time that the loop has spent on it.
    pub fn charge(&mut self, id: SlotId, cpu: Duration, now: Now) {
        let slot = &mut self.slots[id];
        slot.throttles.cpu_share.used(&slot.package.limits, cpu, now.host);
    }

    /// Every instance is to be suspended.
    fn shut_down(&mut self) {
        self.is_shutting_down = true;
        for id in self.slots.ids() {
            self.touched.insert(id);
            self.schedule(id, None);
            let calls = self.slots[id].requests.in_flight.keys();
            self.effects.extend(calls.map(|call| HostEffect::Abort { slot: id, call: *call }));
        }
    }

    /// What the watches hold.
    pub fn environment(&self) -> &E {
        &self.environment
    }

    /// What the watches hold.
    pub fn environment_mut(&mut self) -> &mut E {
        &mut self.environment
    }

    /// All controllers.
    pub fn ids(&self) -> impl Iterator<Item = SlotId> + use<E> {
        self.slots.ids()
    }

    /// How many controllers there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no controllers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A controller's name.
    pub fn name(&self, id: SlotId) -> &Arc<str> {
        &self.slots[id].name
    }

    /// Where a controller's instance is.
    pub fn phase(&self, id: SlotId) -> Phase {
        self.slots[id].phase
    }

    /// The credit of a controller's requests, while it has any.
    pub fn credit(&self, id: SlotId) -> Option<&E::Credit> {
        self.slots[id].requests.credit.as_ref()
    }

    /// Sums over all controllers.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Bytes that instances may hold; `None`: unlimited.
    pub fn memory_budget(&self) -> Option<u64> {
        self.memory_budget
    }

    /// Bytes that whole objects of watches may take; `None`: unlimited.
    pub fn cache_memory(&self) -> Option<u64> {
        self.cache_memory
    }

    /// Gives a controller whatever is to be done next, if its instance is not with a worker.
    fn pump(&mut self, id: SlotId) {
        if !self.leads(id) {
            return self.step_down(id);
        }
        let now = self.now.host;
        // Before requests are sent: what ends now makes none.
        self.end_overdue(id);
        self.send_waiting(id);
        self.complete_changes(id);
        let slot = &mut self.slots[id];
        slot.return_credit();
        let may_save = slot.suspension.save_after <= now;
        let ready = match &slot.phase {
            Phase::Busy => return self.schedule(id, None),
            // At shutdown a failed attempt is not repeated.
            Phase::Resident(_) if self.is_shutting_down && !may_save => return,
            Phase::Resident(_) if self.is_shutting_down => return self.save(id, SaveReason::Shutdown),
            // After the disk has refused it, it goes on.
            Phase::Resident(instance) if instance.log_is_full && may_save => {
                return self.save(id, SaveReason::LogFull);
            }
            Phase::Suspended { .. } if self.is_shutting_down => return,
            Phase::Resident(_) | Phase::Suspended { .. } => {
                if let Some(until) = self.held_back(id) {
                    return self.schedule(id, Some(until));
                }
                self.slots[id].controller.take_batch(now)
            }
        };
        let slot = &mut self.slots[id];
        if let Some(mut events) = ready {
            if let Some(trigger) = slot.suspension.on_event(now) {
                self.effects.push(HostEffect::RecordActivity { slot: id, at: now, trigger });
            }
            if let [start] = &mut events[..]
                && start.kind == EventKind::Start
            {
                start.payload = slot.startup.payload(&slot.package.name).into();
            }
            self.report_loops(id, &events);
            self.step(id, Some(events));
        } else if self.is_expected(id) {
            self.step(id, None);
        } else if let Some(wake) = self.decide(id) {
            self.schedule(id, wake);
        }
    }

    /// Looks at a slot again at `wake`, or earlier if a limit demands it. Limits are not enforced on a controller that is
    /// about to stop: what is overdue would stay so.
    fn schedule(&mut self, id: SlotId, wake: Option<Duration>) {
        let slot = &mut self.slots[id];
        let is_limited = slot.leadership.is_active() && !self.is_shutting_down;
        let limits_wake = is_limited.then(|| slot.limits_wake()).flatten();
        let wake = wake.into_iter().chain(limits_wake).min();
        self.timers.set(id, &mut slot.wake, wake);
    }
}
