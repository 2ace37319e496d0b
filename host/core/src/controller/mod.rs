//! One controller's state: what waits for it, what it works on, when it must run next. Pure: events
//! and time in, effects out; the host's loop does the rest.
//!
//! A controller here is one instance of a package; the reconcilers it registers are its
//! *registrations*, each with a work queue of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::excerpt::{MAX_TEXT, excerpt};
use crate::own_writes::Settled;
use crate::registration_id::RegistrationId;
use crate::step::{Call, Event, EventKind};
use crate::work_queue::{Backoff, Key};

/// Most bytes of events delivered in one step. Wasm memory never shrinks, so what a guest hasn't
/// asked for yet waits in the host.
pub const MAX_STEP_BYTES: usize = 256 << 10;
/// Most events delivered in one step, and most objects handed out for it: taking in what a step did keeps the host's
/// loop for a few microseconds an event, and other controllers wait meanwhile.
pub const MAX_STEP_EVENTS: usize = 16;
/// Most names in the work queues of all registrations that no watched object has, and most bytes of these names.
const MAX_UNKNOWN: usize = 10_000;
const MAX_UNKNOWN_BYTES: usize = 1 << 20;
/// Longest key: names and namespaces have at most 253 characters.
const MAX_KEY_BYTES: usize = 512;
/// A deadline further away is as good as none (executors keep a sentinel timer).
pub const NO_DEADLINE: Duration = Duration::from_secs(300 * 86_400);
/// Waits between restarts of an instance that could not be kept.
const RESTART_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

use self::account::Account;
pub use self::account::{Found, MAX_HELD_BYTES, WatchedChange};
pub use self::persisted::ControllerState;
pub use self::registrations::Registration;
use self::registrations::Registrations;

/// Work the guest has been given and has not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub registration: RegistrationId,
    /// The object being reconciled; empty for a `map` task.
    pub key: Key,
    /// When it was given, on the host's clock; after a restart, when the host began.
    #[serde(skip)]
    pub since: Duration,
    /// How long it had been under way when this host took it over, the time without a host included.
    pub before: Duration,
    /// How long it had been ready in the work queue then.
    #[serde(skip)]
    pub waited: Duration,
}

impl Task {
    /// It asks the guest which objects a change concerns.
    fn is_map(&self) -> bool {
        self.key.is_empty()
    }

    /// How long it has been under way.
    fn took(&self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.since))
    }
}

/// What the loop must do after a step.
#[derive(Debug)]
pub enum Effect {
    /// Send a request.
    Call(Call),
    /// Abort a request and forget it.
    DropCall(u64),
    /// The instance has registered this: watch for it, and let it see every object.
    Registered(RegistrationId),
    /// The instance has not registered this again: watch for it no longer.
    Unregistered(RegistrationId),
    /// The guest has said which objects a watched object belongs to.
    Mapped { registration: RegistrationId, keys: Vec<Key> },
    /// A map function failed: all objects of the registration are reconciled after this time.
    MapFailed { registration: RegistrationId, message: String, retry_after: Duration },
    /// A reconcile ended.
    Reconciled { task: u64, registration: RegistrationId, key: Key, outcome: Outcome, took: Duration },
    /// The guest said something that makes no sense.
    Misbehaved(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Requeue(Duration),
    Error { message: String, retry_after: Duration },
    Cancelled { retry_after: Duration },
}

#[derive(Debug, Default)]
pub struct Controller {
    /// After a restart from the base image an instance registers again, and queues wait until then.
    registrations: Registrations,
    /// The instance has been given `start`.
    started: bool,
    /// The inbox, open calls and changes to map: what it makes the host hold.
    account: Account,
    /// By task id. A key in here is `processing` in its registration's queue.
    tasks: BTreeMap<u64, Task>,
    /// How many of them are `map` tasks.
    mapping: usize,
    /// Tasks that were taken from the guest: it may say `done` for each once more.
    cancelled: BTreeSet<u64>,
    next_task: u64,
    /// When the guest's earliest timer fires.
    deadline: Option<Duration>,
    /// The instance's monotonic clock is `clock_base + now`, wrapping.
    clock_base: u64,
    /// Restarts from the base image in a row.
    crashes: u32,
    /// When the present instance began, if it began on this host.
    begun: Duration,
    /// Not to be run before this.
    held_until: Option<Duration>,
}

impl Controller {
    /// `clock`: what the instance's monotonic clock shows at `now`, nanoseconds.
    pub fn new(now: Duration, clock: u64) -> Controller {
        let mut controller = Controller { next_task: 1, ..Controller::default() };
        controller.set_clock(now, clock);
        controller
    }

    fn set_clock(&mut self, now: Duration, clock: u64) {
        self.clock_base = clock.wrapping_sub(now.as_nanos() as u64);
    }

    /// The instance's monotonic clock at `now`, nanoseconds.
    pub fn clock(&self, now: Duration) -> u64 {
        self.clock_base.wrapping_add(now.as_nanos() as u64)
    }

    /// How often the present instance has registered, also what was refused.
    pub fn registered(&self) -> u32 {
        self.registrations.calls()
    }

    /// Whether the present instance has registered anything to reconcile.
    pub fn has_registered(&self) -> bool {
        self.registrations.live().next().is_some()
    }

    /// All registrations, also those that the present instance has yet to register again.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter()
    }

    pub fn registration(&self, id: RegistrationId) -> Option<&Registration> {
        self.registrations.get(id)
    }

    pub fn registration_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        self.registrations.get_mut(id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = u64> + '_ {
        self.tasks.keys().copied()
    }

    /// Objects being reconciled.
    pub fn active(&self) -> usize {
        self.tasks.values().filter(|task| !task.is_map()).count()
    }

    pub fn calls_in_flight(&self) -> usize {
        self.account.calls().len()
    }

    /// Bytes that it makes the host hold: undelivered events, open calls, changes to map.
    pub fn held_bytes(&self) -> usize {
        self.account.bytes()
    }

    /// It was refused calls so often that not even the refusals have room: its instance is to be lost.
    pub fn is_overdrawn(&self) -> bool {
        self.account.is_overdrawn()
    }

    /// Nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.account.inbox().is_empty()
            && self.tasks.is_empty()
            && self.account.calls().is_empty()
            && !self.account.has_changes()
    }

    /// Whether a `take_batch` now would return something.
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

    /// When it will become runnable by time alone; `None` if only an event can do that.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let timers = self.registrations.live().filter_map(|r| r.queue.next_at()).chain(self.deadline).min();
        match self.held_until.filter(|t| *t > now) {
            Some(held) if !self.started || !self.account.inbox().is_empty() || self.can_ask() => Some(held),
            Some(held) => timers.map(|t| t.max(held)),
            None => timers,
        }
    }

    /// Something is to be reconciled because a watched object changed.
    pub fn enqueue(&mut self, registration: RegistrationId, key: Key, now: Duration) {
        if let Some(r) = self.registrations.get_mut(registration) {
            r.queue.add(key, now);
        }
    }

    /// The same for a name that a map function returned and that no watched object has. Returns `None` if it is no
    /// key, and `Some(false)` if it is dropped because too many of them are queued already.
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

    /// The same, for a change that may turn out to be the controller's own write. Whether it can be taken back.
    pub fn enqueue_held(&mut self, registration: RegistrationId, key: Key, now: Duration) -> bool {
        self.registrations.get_mut(registration).is_some_and(|r| r.queue.add_held(key, now))
    }

    /// It is known whose the held changes were. Whether that spares a reconcile.
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

    /// Something is to be reconciled because a new instance is to see every object. Not one that waits
    /// for its backoff: it will be seen then.
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

    /// A piece of the answer to a call, for which credit was taken. `false` if the guest has dropped it.
    pub fn answer(&mut self, call: u64, kind: EventKind, aux: u32, payload: Bytes) -> bool {
        let Some(event) = self.answer_event(call, kind, aux, payload) else { return false };
        self.account.push(event);
        true
    }

    /// The same, of an answer that the host makes itself.
    pub fn answer_itself(&mut self, call: u64, kind: EventKind, aux: u32, payload: Bytes) -> bool {
        let Some(event) = self.answer_event(call, kind, aux, payload) else { return false };
        self.account.push_own(event);
        true
    }

    fn answer_event(&mut self, call: u64, kind: EventKind, aux: u32, mut payload: Bytes) -> Option<Event> {
        let task = self.account.calls().get(&call)?.task;
        if matches!(kind, EventKind::End | EventKind::Failed) {
            self.account.close(call);
        }
        // Why a request failed may repeat what the guest wrote.
        if kind == EventKind::Failed && payload.len() > MAX_TEXT {
            payload = excerpt(&String::from_utf8_lossy(&payload)).into();
        }
        Some(Event { kind, id: call, aux, payload, task })
    }

    /// The events of the next step; `None` if there is nothing to run. Never more than
    /// [`MAX_STEP_BYTES`], unless a single event is larger.
    pub fn take_batch(&mut self, now: Duration) -> Option<Vec<Event>> {
        if !self.is_runnable(now) {
            return None;
        }
        self.held_until = None;
        if !self.started {
            (self.started, self.begun) = (true, now);
            let payload = Bytes::new();
            return Some(vec![Event { kind: EventKind::Start, id: 0, aux: 0, payload, task: 0 }]);
        }
        self.hand_out(now);
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some(event) = self.account.inbox().front() {
            bytes += event.cost();
            if batch.len() >= MAX_STEP_EVENTS || bytes > MAX_STEP_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(self.account.pop());
        }
        self.account.shrink();
        Some(batch)
    }

    /// Puts what the guest is to be asked and what is to be reconciled into the inbox: as much as the next step takes,
    /// of each registration in turn.
    fn hand_out(&mut self, now: Duration) {
        // Changes do not keep reconciles waiting: at most half of a step is for them, unless nothing else is ready.
        self.hand_out_changes(MAX_STEP_EVENTS / 2, now);
        self.hand_out_reconciles(now);
        self.hand_out_changes(MAX_STEP_EVENTS, now);
    }

    fn hand_out_reconciles(&mut self, now: Duration) {
        // Not always the same first, in case there is enough of one to fill every step.
        let first = self.next_task as usize;
        let mut empty = 0;
        for turn in 0.. {
            if empty >= self.registrations.len() || self.account.inbox().len() >= MAX_STEP_EVENTS {
                return;
            }
            let taken = self.registrations.in_turn(first.wrapping_add(turn)).and_then(|(index, registration)| {
                let ready_since = registration.queue.ready_since(now);
                Some((index, registration.id, ready_since, registration.queue.take(now)?))
            });
            let Some((index, registration, ready_since, key)) = taken else {
                empty += 1;
                continue;
            };
            empty = 0;
            let payload = Bytes::copy_from_slice(key.as_bytes());
            let id = self.new_task(Task {
                registration,
                key,
                since: now,
                before: Duration::ZERO,
                waited: now.saturating_sub(ready_since.unwrap_or(now)),
            });
            self.account.push(Event { kind: EventKind::Reconcile, id, aux: index, payload, task: id });
        }
    }

    /// Bytes of responses that have left the inbox since this was last asked, delivered or not:
    /// as many more may be received.
    pub fn take_credit(&mut self) -> usize {
        self.account.take_credit()
    }

    /// The object a task reconciles, for people: empty if it is unknown or a map task.
    pub fn object_of(&self, task: u64) -> Key {
        self.tasks.get(&task).map_or_else(|| "".into(), |t| t.key.clone())
    }

    /// The same of the task that a call was made for.
    pub fn call_object(&self, call: u64) -> Option<(RegistrationId, Key)> {
        self.account.calls().get(&call).and_then(|call| self.task_object(call.task))
    }

    /// A task that reconciles an object, with its registration.
    pub fn reconcile(&self, task: u64) -> Option<(&Task, &Registration)> {
        let task = self.tasks.get(&task).filter(|task| !task.is_map())?;
        Some((task, self.registrations.get(task.registration)?))
    }

    /// The registration and object of a task, if it reconciles one.
    pub fn task_object(&self, task: u64) -> Option<(RegistrationId, Key)> {
        self.tasks.get(&task).filter(|t| !t.is_map()).map(|t| (t.registration, t.key.clone()))
    }

    /// What is to blame if a task fails: the object that it reconciles, or with an empty key the map function of its
    /// registration.
    pub fn blamed(&self, task: u64) -> Option<(RegistrationId, Key)> {
        self.tasks.get(&task).map(|t| (t.registration, t.key.clone()))
    }

    /// The instance is lost: the next one starts from the base image, at once or, after failures,
    /// with backoff. Everything under way is tried again. Returns what there is to do about calls and registrations.
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
        let retired = self.registrations.begin_anew().into_iter().map(Effect::Unregistered);
        if failed {
            self.crashes += 1;
            self.held_until = Some(now + RESTART_BACKOFF.delay(self.crashes));
        }
        self.set_clock(now, clock);
        calls.into_iter().map(Effect::DropCall).chain(retired).collect()
    }

    /// What failed may have failed because of the instance: all of it is tried again now.
    pub fn retry_now(&mut self, now: Duration) {
        self.registrations.iter_mut().for_each(|registration| registration.queue.retry_now(now));
    }

    /// Whether a reconcile waits for the answer to a call.
    pub fn is_waiting(&self, task: u64) -> bool {
        self.account.calls().values().any(|call| call.task == task)
    }

    /// When the guest may run again after a restart with backoff.
    pub fn held_until(&self) -> Option<Duration> {
        self.held_until
    }

    /// Gives back what empty tables hold, before a long wait.
    pub fn shrink(&mut self) {
        if self.tasks.is_empty() {
            self.tasks = BTreeMap::new();
        }
        self.account.shrink();
        for r in self.registrations.iter_mut() {
            r.queue.shrink();
        }
    }

    /// The invariants of what is counted, counted anew.
    #[cfg(test)]
    fn check_account(&self) {
        self.account.check();
        assert_eq!(self.mapping, self.tasks.values().filter(|task| task.is_map()).count());
    }

    /// Bytes this controller holds in RAM besides its instance.
    pub fn ram_bytes(&self) -> u64 {
        let registrations: usize =
            self.registrations.iter().map(|r| size_of::<Registration>() + r.queue.len() * 96).sum();
        let tasks = self.tasks.len() * (size_of::<Task>() + 64);
        (size_of::<Controller>() + registrations + self.account.bytes() + tasks) as u64
    }
}

mod account;
mod commit;
mod mapping;
mod overdue;
mod persisted;
mod registrations;
#[cfg(test)]
mod tests;
