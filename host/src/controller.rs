//! One controller's state: what waits for it, what it works on, when it must run next. Pure: events
//! and time in, effects out; the host's loop does the rest.
//!
//! A controller here is one instance of a package; the reconcilers it registers are its
//! *registrations*, each with a work queue of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmop_package::manifest::ControllerSpec;

use crate::guest::{Action, Call, Event, EventKind, StepOutput};
use crate::own_writes::Settled;
use crate::queue::{Backoff, Key, WorkQueue};
use crate::watch::WatchId;

/// Most bytes of events delivered in one step. Wasm memory never shrinks, so what a guest hasn't
/// asked for yet waits in the host.
pub const MAX_STEP_BYTES: usize = 256 << 10;
/// Most events delivered in one step, and most objects handed out for it: taking in what a step did keeps the host's
/// loop for a few microseconds an event, and other controllers wait meanwhile.
pub const MAX_STEP_EVENTS: usize = 16;
/// Most registrations of one controller.
const MAX_REGISTRATIONS: usize = 256;
/// Most watches of one controller, those of all its registrations together.
const MAX_WATCHES: usize = 64;
/// Most objects that a work queue knows of while names are added to it that no watched object has.
const MAX_UNKNOWN: usize = 10_000;
/// Longest key: names and namespaces have at most 253 characters.
const MAX_KEY_BYTES: usize = 512;
/// Set in the `aux` of a `map` event if the object is gone; more than any watch index.
const MAP_GONE: u32 = 1 << 15;
/// Most bytes of a registration.
const MAX_SPEC_BYTES: usize = 64 << 10;
/// Most changes of which a guest is asked at a time whom they concern. The SDKs answer within the step.
const MAX_MAPPING: usize = 64;
/// Most bytes of what a guest says that are logged or kept.
const MAX_TEXT: usize = 4096;
/// Tasks remembered of which the guest may not yet know that they were cancelled.
const MAX_CANCELLED: usize = 256;
/// A deadline further away is as good as none (executors keep a sentinel timer).
const NO_DEADLINE: Duration = Duration::from_secs(300 * 86_400);
/// Waits between restarts of an instance that could not be kept.
const RESTART_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) };

/// Waits of an object that has cost its controller the instance: the others are to get on meanwhile, and a
/// new instance first waits itself.
const CULPRIT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), max: Duration::from_secs(600) };

use self::account::{Account, Opened};
pub use self::account::{Found, MAX_HELD_BYTES, WatchedChange};
pub use self::saved::Saved;

pub struct Registration {
    pub spec: Arc<ControllerSpec>,
    pub queue: WorkQueue,
}

/// Work the guest has been given and has not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub registration: u32,
    /// The object being reconciled; empty for a `map` task.
    pub key: Key,
    /// When it was given, on the host's clock; after a restart, when the host began.
    #[serde(skip)]
    pub since: Duration,
    /// How long it had been ready in the work queue then.
    #[serde(skip)]
    pub waited: Duration,
}

/// What the loop must do after a step.
#[derive(Debug)]
pub enum Effect {
    /// Send a request.
    Call(Call),
    /// Abort a request and forget it.
    DropCall(u64),
    /// Registration number so-and-so is new: watch for it.
    Registered(u32),
    /// The guest has said which objects a watched object belongs to.
    Mapped { registration: u32, keys: Vec<Key> },
    /// A reconcile ended.
    Reconciled { task: u64, registration: u32, key: Key, outcome: Outcome, took: Duration },
    /// The guest said something that makes no sense.
    Misbehaved(String),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Requeue(Duration),
    Error { message: String, retry_after: Duration },
    Cancelled { retry_after: Duration },
}

#[derive(Default)]
pub struct Controller {
    pub registrations: Vec<Registration>,
    /// How many of them the present instance has registered: after a restart from the base image
    /// it does so again, and its queues wait until then.
    registered: u32,
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

    pub fn registered(&self) -> u32 {
        self.registered
    }

    pub fn tasks(&self) -> impl Iterator<Item = u64> + '_ {
        self.tasks.keys().copied()
    }

    /// Objects being reconciled.
    pub fn active(&self) -> usize {
        self.tasks.values().filter(|task| !task.key.is_empty()).count()
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
            || self.live_registrations().any(|r| r.queue.has_ready(now))
    }

    /// When it will become runnable by time alone; `None` if only an event can do that.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let timers = self.live_registrations().filter_map(|r| r.queue.next_at()).chain(self.deadline).min();
        match self.held_until.filter(|t| *t > now) {
            Some(held) if !self.started || !self.account.inbox().is_empty() || self.can_ask() => Some(held),
            Some(held) => timers.map(|t| t.max(held)),
            None => timers,
        }
    }

    fn live_registrations(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().take(self.registered as usize)
    }

    /// Something is to be reconciled because a watched object changed.
    pub fn enqueue(&mut self, registration: u32, key: Key, now: Duration) {
        if let Some(r) = self.registrations.get_mut(registration as usize) {
            r.queue.add(key, now);
        }
    }

    /// The same for a name that a map function returned and that no watched object has. False if it is no key, or if
    /// too many of them wait already.
    pub fn enqueue_unknown(&mut self, registration: u32, key: Key, now: Duration) -> bool {
        let Some(r) = self.registrations.get_mut(registration as usize) else { return false };
        let is_key = key.len() <= MAX_KEY_BYTES && key.split('/').count() <= 2 && !key.split('/').any(str::is_empty);
        let has_room = r.queue.is_known(&key) || r.queue.known() < MAX_UNKNOWN;
        if is_key && has_room {
            r.queue.add(key, now);
        }
        is_key && has_room
    }

    /// The same, for a change that may turn out to be the controller's own write. Whether it can be taken back.
    pub fn enqueue_held(&mut self, registration: u32, key: Key, now: Duration) -> bool {
        self.registrations.get_mut(registration as usize).is_some_and(|r| r.queue.add_held(key, now))
    }

    /// It is known whose the held changes were. Whether that spares a reconcile.
    pub fn settle(&mut self, settled: &Settled) -> bool {
        let (Settled::Own((registration, key)) | Settled::Other((registration, key))) = settled;
        let Some(r) = self.registrations.get_mut(*registration as usize) else { return false };
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
    pub fn enqueue_listed(&mut self, registration: u32, key: Key, now: Duration) {
        let backing_off = self.registrations.get(registration as usize).is_some_and(|r| r.queue.is_backing_off(&key));
        if !backing_off {
            self.enqueue(registration, key, now);
        }
    }

    /// The guest is to say which objects a watched object belongs to, or belonged to before it was gone.
    pub fn enqueue_map(&mut self, change: WatchedChange) {
        if change.registration < self.registered {
            self.account.queue_change(change);
        }
    }

    /// Whether it can be asked now whom a change concerns.
    fn can_ask(&self) -> bool {
        self.account.has_changes() && self.mapping < MAX_MAPPING
    }

    /// Whether the guest has yet to be asked what some change concerns: a snapshot does not have that.
    pub fn has_unasked(&self) -> bool {
        self.account.has_unasked()
    }

    /// Looks up the objects of the changes that the guest is asked about next, if there was no room for them.
    pub fn look_up_changes(&mut self, look: impl Fn(WatchId, &str) -> Found) {
        self.account.look_up_changes(MAX_STEP_EVENTS, MAX_STEP_BYTES, look);
    }

    /// Registrations of which all objects are to be reconciled, because there was no room for changes.
    pub fn take_all_due(&mut self) -> BTreeSet<u32> {
        self.account.take_all_due()
    }

    fn new_task(&mut self, task: Task) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        self.insert_task(id, task);
        id
    }

    fn insert_task(&mut self, id: u64, task: Task) {
        self.mapping += usize::from(task.key.is_empty());
        self.tasks.insert(id, task);
    }

    fn remove_task(&mut self, id: u64) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.mapping -= usize::from(task.key.is_empty());
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
            self.started = true;
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
        self.hand_out_changes(MAX_STEP_EVENTS / 2);
        self.hand_out_reconciles(now);
        self.hand_out_changes(MAX_STEP_EVENTS);
    }

    /// Asks whom changes concern, until the inbox has so many events.
    fn hand_out_changes(&mut self, until: usize) {
        while self.account.inbox().len() < until && self.can_ask() {
            let Some((change, payload)) = self.account.pop_change() else { return };
            let WatchedChange { registration, watch, gone, .. } = change;
            let id =
                self.new_task(Task { registration, key: "".into(), since: Duration::ZERO, waited: Duration::ZERO });
            let aux = registration << 16 | if gone { MAP_GONE } else { 0 } | watch & (MAP_GONE - 1);
            self.account.push(Event { kind: EventKind::Map, id, aux, payload, task: id });
        }
    }

    fn hand_out_reconciles(&mut self, now: Duration) {
        let registered = self.registered as usize;
        // Not always the same first, in case there is enough of one to fill every step.
        let first = self.next_task as usize;
        let mut empty = 0;
        for turn in 0.. {
            if empty >= registered || self.account.inbox().len() >= MAX_STEP_EVENTS {
                return;
            }
            let index = first.wrapping_add(turn) % registered;
            let queue = &mut self.registrations[index].queue;
            let ready_since = queue.ready_since(now);
            let Some(key) = queue.take(now) else {
                empty += 1;
                continue;
            };
            empty = 0;
            let payload = Bytes::copy_from_slice(key.as_bytes());
            let registration = index as u32;
            let id = self.new_task(Task {
                registration,
                key,
                since: now,
                waited: now.saturating_sub(ready_since.unwrap_or(now)),
            });
            self.account.push(Event { kind: EventKind::Reconcile, id, aux: registration, payload, task: id });
        }
    }

    /// Takes in what a step emitted. `stepped_at`: the step's clock.
    pub fn commit(&mut self, output: StepOutput, stepped_at: Duration, now: Duration) -> Vec<Effect> {
        self.deadline = output.park.filter(|park| *park < NO_DEADLINE).map(|park| stepped_at + park);
        let mut effects = Vec::new();
        for action in output.actions {
            match action {
                Action::Register { spec } => self.register(&spec, &mut effects),
                Action::Call(call) => self.call(call, &mut effects),
                Action::DropCall { id } => {
                    if self.account.close(id).is_some() {
                        self.account.drop_events(|e| e.id == id && is_answer(e.kind));
                        effects.push(Effect::DropCall(id));
                    }
                }
                Action::Done { task, requeue_after, error } => {
                    match self.remove_task(task) {
                        Some(done) if done.key.is_empty() => {
                            effects.push(Effect::Misbehaved(format!("`done` for the map task {task}")));
                        }
                        Some(done) => effects.push(self.done(task, done, requeue_after, error, now)),
                        // It was under way when the task was cancelled.
                        None if self.cancelled.remove(&task) => {}
                        None => effects.push(Effect::Misbehaved(format!("`done` for the unknown task {task}"))),
                    }
                    self.crashes = 0;
                }
                Action::Mapped { task, keys } => match self.remove_task(task) {
                    Some(Task { registration, key, .. }) if key.is_empty() => {
                        let keys = keys.lines().filter(|k| !k.is_empty()).map(Key::from).collect();
                        effects.push(Effect::Mapped { registration, keys });
                    }
                    other => {
                        effects.push(Effect::Misbehaved(format!("`mapped` for task {task}, which is no map task")));
                        if let Some(task_) = other {
                            self.insert_task(task, task_);
                        }
                    }
                },
            }
        }
        effects
    }

    fn register(&mut self, json: &str, effects: &mut Vec<Effect>) {
        let mut misbehaved = |what: String| effects.push(Effect::Misbehaved(what));
        if json.len() > MAX_SPEC_BYTES {
            return misbehaved(format!("a registration of {} bytes; {MAX_SPEC_BYTES} are allowed", json.len()));
        }
        let spec: ControllerSpec = match serde_json::from_str(json) {
            Ok(spec) => spec,
            Err(error) => {
                return misbehaved(format!("registration is not a controller spec: {error}: {}", excerpt(json)));
            }
        };
        let index = self.registered as usize;
        if index >= MAX_REGISTRATIONS {
            return misbehaved(format!("more than {MAX_REGISTRATIONS} registrations"));
        }
        let watches =
            self.live_registrations().map(|r| 1 + r.spec.watches.len()).sum::<usize>() + 1 + spec.watches.len();
        if watches > MAX_WATCHES {
            return misbehaved(format!("registrations with {watches} watches; {MAX_WATCHES} are allowed"));
        }
        let known = self.registrations.get(index).is_some_and(|r| *r.spec == spec);
        // What is known has been looked at.
        if !known && let Err(refused) = spec.check_predicates() {
            return misbehaved(refused.to_string());
        }
        if !known {
            let queue = WorkQueue::new(spec.max_concurrent_reconciles, Backoff::default());
            self.registrations.truncate(index);
            // Most have one, and room for more would be kept by each that is suspended.
            self.registrations.reserve_exact(1);
            self.registrations.push(Registration { spec: Arc::new(spec), queue });
        }
        self.registered += 1;
        if !known {
            effects.push(Effect::Registered(index as u32));
        }
    }

    fn call(&mut self, call: Call, effects: &mut Vec<Effect>) {
        let id = call.id;
        match self.account.open(id, call.task, call.bytes()) {
            Opened::Open => effects.push(Effect::Call(call)),
            Opened::Duplicate => effects.push(Effect::Misbehaved(format!("call {id}: this call id is in use"))),
            Opened::Full => {
                effects.push(Effect::Misbehaved(format!("call {id}: too many calls in flight")));
                let payload = Bytes::from_static(b"refused by the host: too many calls in flight");
                self.account.push(Event { kind: EventKind::Failed, id, aux: 0, payload, task: call.task });
            }
        }
    }

    fn done(
        &mut self,
        task: u64,
        done: Task,
        requeue_after: Option<Duration>,
        error: Option<String>,
        now: Duration,
    ) -> Effect {
        let Task { registration, key, since, .. } = done;
        let Some(r) = self.registrations.get_mut(registration as usize) else {
            return Effect::Misbehaved("task of an unknown registration".into());
        };
        let outcome = match (error, requeue_after) {
            (None, None) => {
                r.queue.forget(&key);
                Outcome::Ok
            }
            (None, Some(after)) => {
                r.queue.forget(&key);
                r.queue.add_at(key.clone(), now.saturating_add(after));
                Outcome::Requeue(after)
            }
            (Some(message), None) => {
                let retry_after = r.queue.retry(key.clone(), now);
                Outcome::Error { message: excerpt(&message), retry_after }
            }
            (Some(message), Some(after)) => {
                r.queue.add_at(key.clone(), now.saturating_add(after));
                Outcome::Error { message: excerpt(&message), retry_after: after }
            }
        };
        r.queue.done(&key, now);
        Effect::Reconciled { task, registration, key, outcome, took: now.saturating_sub(since) }
    }

    /// A task was cancelled because a step failed on it: it is tried again with backoff. `lost`: the
    /// instance could not be kept.
    pub fn cancelled(&mut self, task: u64, lost: bool, now: Duration) -> Option<Effect> {
        self.account.drop_events(|e| e.task == task);
        let Task { registration, key, since, .. } = self.remove_task(task)?;
        self.cancelled.insert(task);
        if self.cancelled.len() > MAX_CANCELLED {
            self.cancelled.pop_first();
        }
        let r = self.registrations.get_mut(registration as usize)?;
        if key.is_empty() {
            return None;
        }
        let retry_after = match lost {
            true => r.queue.retry_with(CULPRIT_BACKOFF, key.clone(), now),
            false => r.queue.retry(key.clone(), now),
        };
        r.queue.done(&key, now);
        let outcome = Outcome::Cancelled { retry_after };
        Some(Effect::Reconciled { task, registration, key, outcome, took: now.saturating_sub(since) })
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
    pub fn call_object(&self, call: u64) -> Option<(u32, Key)> {
        self.account.calls().get(&call).and_then(|call| self.task_object(call.task))
    }

    /// A task that reconciles an object, with its registration.
    pub fn reconcile(&self, task: u64) -> Option<(&Task, &Registration)> {
        let task = self.tasks.get(&task).filter(|task| !task.key.is_empty())?;
        Some((task, self.registrations.get(task.registration as usize)?))
    }

    /// The registration and object of a task, if it reconciles one.
    pub fn task_object(&self, task: u64) -> Option<(u32, Key)> {
        self.tasks.get(&task).filter(|t| !t.key.is_empty()).map(|t| (t.registration, t.key.clone()))
    }

    /// The instance is lost: the next one starts from the base image, at once or, after failures,
    /// with backoff. Everything under way is tried again. Returns the calls to abort.
    pub fn reset(&mut self, failed: bool, now: Duration, clock: u64) -> Vec<u64> {
        let tasks = std::mem::take(&mut self.tasks);
        for Task { registration, key, .. } in tasks.into_values() {
            if let Some(r) = self.registrations.get_mut(registration as usize).filter(|_| !key.is_empty()) {
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
        self.registered = 0;
        if failed {
            self.crashes += 1;
            self.held_until = Some(now + RESTART_BACKOFF.delay(self.crashes));
        }
        self.set_clock(now, clock);
        calls
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
        for r in &mut self.registrations {
            r.queue.shrink();
        }
    }

    /// The invariants of what is counted, counted anew.
    #[cfg(test)]
    fn check_account(&self) {
        self.account.check();
        assert_eq!(self.mapping, self.tasks.values().filter(|task| task.key.is_empty()).count());
    }

    /// Bytes this controller holds in RAM besides its instance.
    pub fn ram_bytes(&self) -> u64 {
        let registrations: usize =
            self.registrations.iter().map(|r| size_of::<Registration>() + r.queue.len() * 96).sum();
        let tasks = self.tasks.len() * (size_of::<Task>() + 64);
        (size_of::<Controller>() + registrations + self.account.bytes() + tasks) as u64
    }
}

/// What a guest says, at a length that can be kept.
pub fn excerpt(text: &str) -> String {
    match text.len() > MAX_TEXT {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT)]),
        false => text.into(),
    }
}

fn is_answer(kind: EventKind) -> bool {
    matches!(kind, EventKind::Head | EventKind::Body | EventKind::End | EventKind::Failed)
}

mod account;
mod overdue;
mod saved;
#[cfg(test)]
mod tests;
