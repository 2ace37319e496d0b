//! The state machine of one controller: its work, its tasks and when it runs next. Pure: events and time in, effects
//! out.
//!
//! A controller is one instance of a package. Each reconciler it registers is a *registration* with its own work queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::excerpt::{MAX_TEXT, excerpt};
use crate::own_writes::Settled;
use crate::registration_id::RegistrationId;
use crate::step::{Call, Event, EventKind};
use crate::work_queue::{Backoff, Key};

/// Most bytes of events delivered in one step. Wasm memory never shrinks, so undelivered events wait in the host.
pub const MAX_STEP_BYTES: usize = 256 << 10;
/// Most events delivered in one step, and most objects handed out for it. Taking in the output blocks the host's loop
/// for a few microseconds an event, and other controllers wait.
pub const MAX_STEP_EVENTS: usize = 16;
/// Limits of names in all work queues that no watched object has: their number, and their bytes.
const MAX_UNKNOWN: usize = 10_000;
const MAX_UNKNOWN_BYTES: usize = 1 << 20;
/// Longest key: names and namespaces have at most 253 characters.
const MAX_KEY_BYTES: usize = 512;
/// A timer this far away counts as none: executors keep a sentinel timer.
pub const NO_DEADLINE: Duration = Duration::from_secs(300 * 86_400);
/// Backoff between restarts of a lost instance.
const RESTART_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

use self::account::Account;
pub use self::account::{Found, MAX_HELD_BYTES, WatchedChange};
pub use self::persisted::ControllerState;
pub use self::registrations::Registration;
use self::registrations::Registrations;

/// Work that the guest has received and not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The registration it belongs to.
    pub registration: RegistrationId,
    /// The object being reconciled; empty for a `map` task.
    pub key: Key,
    /// When the guest received it, on the host's clock; after a restart, when the host started.
    #[serde(skip)]
    pub since: Duration,
    /// Time it took before this host, including time without a host.
    pub before: Duration,
    /// How long the object was ready in the work queue before.
    #[serde(skip)]
    pub waited: Duration,
}

impl Task {
    /// Whether it asks the guest which objects a change concerns.
    fn is_map(&self) -> bool {
        self.key.is_empty()
    }

    /// How long it has taken.
    fn took(&self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.since))
    }
}

/// Work for the host's loop after a step.
#[derive(Debug)]
pub enum Effect {
    /// Send a request.
    Call(Call),
    /// Abort a request and forget it.
    DropCall(u64),
    /// A new registration: watch its kinds and enqueue all its objects.
    Registered(RegistrationId),
    /// The instance did not register this again: stop its watches.
    Unregistered(RegistrationId),
    /// The guest mapped a watched object to these objects.
    Mapped {
        /// The registration.
        registration: RegistrationId,
        /// Keys to reconcile.
        keys: Vec<Key>,
    },
    /// A map function failed: all objects of the registration are reconciled after `retry_after`.
    MapFailed {
        /// The registration.
        registration: RegistrationId,
        /// The error.
        message: String,
        /// Delay.
        retry_after: Duration,
    },
    /// A reconcile ended.
    Reconciled {
        /// The task.
        task: u64,
        /// The registration.
        registration: RegistrationId,
        /// The object.
        key: Key,
        /// How it ended.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
    },
    /// The guest misused the runtime interface: how.
    Misbehaved(String),
}

/// How a reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It succeeded and asks for another reconcile after this time.
    Requeue(Duration),
    /// It failed.
    Error {
        /// The error.
        message: String,
        /// Delay until the next try. `None`: not before a change.
        retry_after: Option<Duration>,
    },
    /// The host cancelled it.
    Cancelled {
        /// Delay until the next try.
        retry_after: Duration,
    },
}

/// The state of one controller.
#[derive(Debug, Default)]
pub struct Controller {
    /// A restarted instance registers again; queues wait until then.
    registrations: Registrations,
    /// The instance has received `start`.
    started: bool,
    /// Inbox, open calls and changes to map.
    account: Account,
    /// By task id. A key in here is `processing` in its registration's queue.
    tasks: BTreeMap<u64, Task>,
    /// Number of `map` tasks among them.
    mapping: usize,
    /// Cancelled tasks: the guest may still report `done` for each.
    cancelled: BTreeSet<u64>,
    next_task: u64,
    /// The guest's earliest timer.
    deadline: Option<Duration>,
    /// The instance's monotonic clock is `clock_base + now`, wrapping.
    clock_base: u64,
    /// Restarts from the base image in a row.
    crashes: u32,
    /// When this instance started, if it started on this host.
    begun: Duration,
    /// Earliest time of the next step.
    held_until: Option<Duration>,
}

impl Controller {
    /// A controller without work. `clock`: the instance's monotonic clock at `now`, in nanoseconds.
    pub fn new(now: Duration, clock: u64) -> Controller {
        let mut controller = Controller { next_task: 1, ..Controller::default() };
        controller.set_clock(now, clock);
        controller
    }

    fn set_clock(&mut self, now: Duration, clock: u64) {
        self.clock_base = clock.wrapping_sub(now.as_nanos() as u64);
    }

    /// The instance's monotonic clock at `now`, in nanoseconds.
    pub fn clock(&self, now: Duration) -> u64 {
        self.clock_base.wrapping_add(now.as_nanos() as u64)
    }

    /// Registrations of this instance, including rejected ones.
    pub fn registered(&self) -> u32 {
        self.registrations.calls()
    }

    /// Whether this instance has registered a reconciler.
    pub fn has_registered(&self) -> bool {
        self.registrations.live().next().is_some()
    }

    /// Whether this instance has begun to run.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// All registrations, including those that a restarted instance has yet to repeat.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter()
    }

    /// A registration.
    pub fn registration(&self, id: RegistrationId) -> Option<&Registration> {
        self.registrations.get(id)
    }

    /// A registration, mutable.
    pub fn registration_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        self.registrations.get_mut(id)
    }

    /// Ids of all tasks.
    pub fn tasks(&self) -> impl Iterator<Item = u64> + '_ {
        self.tasks.keys().copied()
    }

    /// Objects being reconciled.
    pub fn active(&self) -> usize {
        self.tasks.values().filter(|task| !task.is_map()).count()
    }

    /// Open calls.
    pub fn calls_in_flight(&self) -> usize {
        self.account.calls().len()
    }

    /// Bytes that the host holds for the guest: undelivered events, open calls, changes to map.
    pub fn held_bytes(&self) -> usize {
        self.account.bytes()
    }

    /// Whether not even the refusals of its calls have room, so that its instance has to be lost.
    pub fn is_overdrawn(&self) -> bool {
        self.account.is_overdrawn()
    }

    /// Whether nothing waits and nothing is in progress.
    pub fn is_idle(&self) -> bool {
        self.account.inbox().is_empty()
            && self.tasks.is_empty()
            && self.account.calls().is_empty()
            && !self.account.has_changes()
    }

    /// Whether `take_batch` would return events.
    pub fn is_runnable(&self, now: Duration) -> bool {
        if self.held_until.is_some_and(|t| t > now) {
            return false;
        }
        !self.started
            || !self.account.inbox().is_empty()
            || self.can_ask()
            || self.deadline.is_some_and(|d| d <= now)
            || self.registrations.live().any(|r| r.queue.has_ready(now))
    }

    /// When it becomes runnable by time alone; `None` if only an event can make it so.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let timers = self.registrations.live().filter_map(|r| r.queue.next_at()).chain(self.deadline).min();
        match self.held_until.filter(|t| *t > now) {
            Some(held) if !self.started || !self.account.inbox().is_empty() || self.can_ask() => Some(held),
            Some(held) => timers.map(|t| t.max(held)),
            None => timers,
        }
    }

    /// Enqueues an object because a watched object changed.
    pub fn enqueue(&mut self, registration: RegistrationId, key: Key, now: Duration) {
        if let Some(r) = self.registrations.get_mut(registration) {
            r.queue.add(key, now);
        }
    }

    /// As `enqueue`, for a name from a map function that no watched object has. `None` if it is not a valid key;
    /// `Some(false)` if too many such names are queued.
    pub fn enqueue_unknown(&mut self, registration: RegistrationId, key: Key, now: Duration) -> Option<bool> {
        let is_key = key.len() <= MAX_KEY_BYTES && key.split('/').count() <= 2 && !key.split('/').any(str::is_empty);
        let (names, bytes) = self.unknown();
        let r = self.registrations.get_mut(registration).filter(|_| is_key)?;
        let has_room = names < MAX_UNKNOWN && bytes + key.len() <= MAX_UNKNOWN_BYTES || r.queue.contains(&key);
        if has_room {
            r.queue.add_unknown(key, now);
        }
        Some(has_room)
    }

    /// Names in the work queues that no watched object has, and their bytes.
    fn unknown(&self) -> (usize, usize) {
        let each = self.registrations.iter().map(|r| r.queue.unknown());
        each.fold((0, 0), |(names, bytes), (n, b)| (names + n, bytes + b))
    }

    /// Forgets an object that is not to be reconciled any more.
    pub fn drop_object(&mut self, registration: RegistrationId, key: &str) {
        if let Some(r) = self.registrations.get_mut(registration) {
            r.queue.remove(key);
        }
    }

    /// As `enqueue`, for a change that may be the controller's own write. Returns whether it can be taken back.
    pub fn enqueue_held(&mut self, registration: RegistrationId, key: Key, now: Duration) -> bool {
        self.registrations.get_mut(registration).is_some_and(|r| r.queue.add_held(key, now))
    }

    /// Confirms or takes back held changes. Returns whether that saves a reconcile.
    pub fn settle(&mut self, settled: &Settled) -> bool {
        let (Settled::Own((registration, key)) | Settled::Other((registration, key))) = settled;
        let Some(r) = self.registrations.get_mut(*registration) else { return false };
        match settled {
            Settled::Own(_) => r.queue.take_back(key),
            Settled::Other(_) => {
                r.queue.keep_held(key);
                false
            }
        }
    }

    /// Enqueues an object because a new instance has to see all objects. An object in backoff is left out: its retry
    /// comes.
    pub fn enqueue_listed(&mut self, registration: RegistrationId, key: Key, now: Duration) {
        let backing_off = self.registrations.get(registration).is_some_and(|r| r.queue.is_backing_off(&key));
        if !backing_off {
            self.enqueue(registration, key, now);
        }
    }

    fn new_task(&mut self, task: Task) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        self.insert_task(id, task);
        id
    }

    fn insert_task(&mut self, id: u64, task: Task) {
        self.mapping += usize::from(task.is_map());
        self.tasks.insert(id, task);
    }

    fn remove_task(&mut self, id: u64) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.mapping -= usize::from(task.is_map());
        Some(task)
    }

    /// Queues a piece of an answer, for which credit was taken. `false` if the guest dropped the call.
    pub fn answer(&mut self, call: u64, kind: EventKind, aux: u32, payload: Bytes) -> bool {
        let Some(event) = self.answer_event(call, kind, aux, payload) else { return false };
        self.account.push(event);
        true
    }

    /// As `answer`, for an answer of the host's own.
    pub fn answer_itself(&mut self, call: u64, kind: EventKind, aux: u32, payload: Bytes) -> bool {
        let Some(event) = self.answer_event(call, kind, aux, payload) else { return false };
        self.account.push_own(event);
        true
    }

    fn answer_event(&mut self, call: u64, kind: EventKind, aux: u32, mut payload: Bytes) -> Option<Event> {
        let task = self.account.calls().get(&call)?.task;
        match kind {
            EventKind::End | EventKind::Failed => {
                self.account.close(call);
            }
            EventKind::Head => self.account.answered(call),
            _ => {}
        }
        // The reason may repeat text of the guest.
        if kind == EventKind::Failed && payload.len() > MAX_TEXT {
            payload = excerpt(&String::from_utf8_lossy(&payload)).into();
        }
        Some(Event { kind, id: call, aux, payload, task })
    }

    /// Bytes of responses that left the inbox since the last call, delivered or not. As many more may be received.
    pub fn take_credit(&mut self) -> usize {
        self.account.take_credit()
    }

    /// The object of a task, for people; empty if unknown or for a map task.
    pub fn object_of(&self, task: u64) -> Key {
        self.tasks.get(&task).map_or_else(|| "".into(), |t| t.key.clone())
    }

    /// The registration and object of a call's task.
    pub fn call_object(&self, call: u64) -> Option<(RegistrationId, Key)> {
        self.account.calls().get(&call).and_then(|call| self.task_object(call.task))
    }

    /// A task that reconciles an object, and its registration.
    pub fn reconcile(&self, task: u64) -> Option<(&Task, &Registration)> {
        let task = self.tasks.get(&task).filter(|task| !task.is_map())?;
        Some((task, self.registrations.get(task.registration)?))
    }

    /// The registration and object of a task that reconciles one.
    pub fn task_object(&self, task: u64) -> Option<(RegistrationId, Key)> {
        self.tasks.get(&task).filter(|t| !t.is_map()).map(|t| (t.registration, t.key.clone()))
    }

    /// The object to blame if a task fails. An empty key stands for the map function of the registration.
    pub fn blamed(&self, task: u64) -> Option<(RegistrationId, Key)> {
        self.tasks.get(&task).map(|t| (t.registration, t.key.clone()))
    }

    /// The instance is lost. The next one starts from the base image, after failures with backoff. All tasks are
    /// retried. Returns effects for calls and registrations.
    pub fn reset(&mut self, failed: bool, now: Duration, clock: u64) -> Vec<Effect> {
        let tasks = std::mem::take(&mut self.tasks);
        for Task { registration, key, .. } in tasks.into_values() {
            if let Some(r) = self.registrations.get_mut(registration).filter(|_| !key.is_empty()) {
                match failed {
                    true => {
                        r.queue.retry(key.clone(), now);
                    }
                    false => r.queue.add(key.clone(), now),
                }
                r.queue.done(&key, now);
            }
        }
        self.mapping = 0;
        let calls = self.account.clear();
        self.cancelled = BTreeSet::new();
        self.deadline = None;
        self.started = false;
        let retired = self.registrations.begin_restart().into_iter().map(Effect::Unregistered);
        if failed {
            self.crashes += 1;
            self.held_until = Some(now + RESTART_BACKOFF.delay(self.crashes));
        }
        self.set_clock(now, clock);
        calls.into_iter().map(Effect::DropCall).chain(retired).collect()
    }

    /// Retries all failed objects now, because the old instance may have been the cause.
    pub fn retry_now(&mut self, now: Duration) {
        self.registrations.iter_mut().for_each(|registration| registration.queue.retry_now(now));
    }

    /// Whether a task waits for an answer.
    pub fn is_waiting(&self, task: u64) -> bool {
        self.account.calls().values().any(|call| call.task == task)
    }

    /// When the guest may run again, during a restart with backoff.
    pub fn held_until(&self) -> Option<Duration> {
        self.held_until
    }

    /// Frees the memory of empty tables, before a long wait.
    pub fn shrink(&mut self) {
        if self.tasks.is_empty() {
            self.tasks = BTreeMap::new();
        }
        self.account.shrink();
        for r in self.registrations.iter_mut() {
            r.queue.shrink();
        }
    }

    /// Checks the counters.
    #[cfg(test)]
    fn check_account(&self) {
        self.account.check();
        assert_eq!(self.mapping, self.tasks.values().filter(|task| task.is_map()).count());
    }

    /// Bytes of RAM besides the instance.
    pub fn ram_bytes(&self) -> u64 {
        let registrations: usize =
            self.registrations.iter().map(|r| size_of::<Registration>() + r.queue.len() * 96).sum();
        let tasks = self.tasks.len() * (size_of::<Task>() + 64);
        (size_of::<Controller>() + registrations + self.account.bytes() + tasks) as u64
    }
}

mod account;
mod commit;
mod delivery;
mod mapping;
mod overdue;
mod persisted;
mod registrations;
#[cfg(test)]
mod tests;
