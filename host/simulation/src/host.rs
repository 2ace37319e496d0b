//! A simulated host: the real control loop over the real hub, with workers, a disk and clocks of values.
//!
//! It mirrors the shell of a real host: events from channels in, effects carried out in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use wasmop_api::api_requests::{self, Allowance, ApiCall};
use wasmop_api::caller::Caller;
use wasmop_api::connections::{Connections, MAX_CONNECTIONS, Peer, Share};
use wasmop_api::environment::HubEnvironment;
use wasmop_api::watch::{Delivery, Journals, WatchHub};
use wasmop_core::control_loop::{
    ControlLoop, Gained, HostEffect, HostEvent, HostState, Leadership, LoopOptions, MOST_HELD_BYTES, NewController,
    Now, PackageFacts, Phase, Recovered, Save, SaveReason, Saved, Send, Settings, SlotId, Step, Stepped, Written,
};
use wasmop_core::election::{Fence, News};
use wasmop_core::permissions::Permissions;
use wasmop_core::reply::Reply;
use wasmop_core::startup::Startup;
use wasmop_core::step::EventKind;
use wasmop_core::watch::NamespaceLimit;
use wasmop_package::Tier;
use wasmop_package::manifest::Mode;
use wasmop_snapshot::StateDir;

use crate::disk::{Disk, Snapshot};
use crate::election::{self, BootClock, Word};
use crate::environment::{SimulatedCredit, SimulatedEnvironment};
use crate::guest::program::Program;
use crate::guest::{BASE_MEMORY, Guest, Input};
use crate::ledger::Ledger;
use crate::observer::{Invariant, Observer};
use crate::plant::Plant;
use crate::random::Random;
use crate::server::Server;
use crate::worker::{self, Instance, Report};

/// As in a real host.
const EVENTS_PER_ROUND: usize = 1024;
/// The time of day when the world begins.
const EPOCH: Duration = Duration::from_secs(1_790_000_000);
/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// What the monotonic clock of a fresh instance shows.
const FIRST_MONOTONIC: u64 = 1_000_000;

/// How a host is run, for a whole run.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// When idle instances are suspended.
    pub policy: wasmop_policy::Policy,
    /// Bytes that instances may hold.
    pub memory_budget: Option<u64>,
    /// Longest step, in virtual time.
    pub step: Duration,
    /// An instance's log is full after so many steps.
    pub log_capacity: u32,
    /// Snapshots that turn out to be unusable, in percent.
    pub bad_snapshots: u32,
}

/// By slot and host: the fence of each controller that a host holds or held, and that host's clock.
pub type Holders = BTreeMap<(u32, usize), (Arc<Fence>, BootClock)>;

/// What all hosts of a run share.
pub struct World {
    /// The API server.
    pub server: Arc<Server>,
    /// Sees everything.
    pub observer: Arc<Observer>,
    /// Knows what is due.
    pub ledger: Mutex<Ledger>,
    /// The controllers that every host runs.
    pub programs: Vec<Arc<Program>>,
    /// How hosts are run.
    pub options: HostOptions,
    /// There are several hosts.
    pub has_peers: bool,
    /// By slot and host: what each host holds, or held.
    pub holders: Mutex<Holders>,
    /// How much the time of day is ahead of what it should be; it jumps.
    pub wall_offset: Mutex<i64>,
    /// A bug.
    pub plant: Option<Plant>,
}

impl World {
    /// What is due.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// A host that is gone holds nothing.
    pub fn let_go(&self, host: usize) {
        let held: Vec<u32> = lock(&self.holders).keys().filter(|(_, of)| *of == host).map(|(slot, _)| *slot).collect();
        held.into_iter().for_each(|slot| self.let_one_go(slot, host));
    }

    /// Nothing is left of a controller on a host.
    fn let_one_go(&self, slot: u32, host: usize) {
        let mut holders = lock(&self.holders);
        holders.remove(&(slot, host));
        let is_held = holders.iter().any(|((of, _), (fence, clock))| *of == slot && fence.holds(clock.now()));
        if !is_held {
            self.ledger().down(&self.programs[slot as usize].name);
        }
    }

    /// At most one host holds a controller.
    fn check_holders(&self) {
        let holders = lock(&self.holders);
        let mut last = None;
        for ((slot, host), _) in holders.iter().filter(|(_, (fence, clock))| fence.holds(clock.now())) {
            if let Some(other) = last.replace((*slot, *host)).filter(|(other, _)| other == slot) {
                let name = &self.programs[*slot as usize].name;
                let (a, b) = (other.1, host);
                self.observer.violate(Invariant::OneHolder, format_args!("{name} is held by hosts {a} and {b}"));
            }
        }
    }

    /// The time of day.
    pub fn wall(&self) -> Duration {
        let offset = *lock(&self.wall_offset);
        let seconds = Duration::from_secs(offset.unsigned_abs());
        let wall = EPOCH + self.server.now();
        if offset < 0 { wall.saturating_sub(seconds) } else { wall + seconds }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a host is told.
pub enum Command {
    /// Suspend everything and end.
    Shutdown,
    /// The kernel is short of memory.
    MemoryPressure,
    /// Other settings.
    Settings(Box<Settings>),
    /// How are the controllers?
    Inspect(oneshot::Sender<Vec<Inspection>>),
}

/// A controller as it is at one moment.
#[derive(Debug)]
pub struct Inspection {
    /// Its name.
    pub name: Arc<str>,
    /// It runs on this host.
    pub leads: bool,
    /// Nothing waits for it in the loop, and nothing is under way.
    pub is_idle: bool,
    /// Objects that are ready to be reconciled.
    pub ready: usize,
    /// Calls that the host has open for it.
    pub open_calls: usize,
    /// Connections of its host that are in use.
    pub connections: usize,
    /// Its instance, in memory or on disk; `None`: with a worker, or none.
    pub guest: Option<Guest>,
}

/// A host that runs.
pub struct Running {
    /// What it is told.
    pub commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Running {
    /// Kills it: everything but its disk is gone.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

enum Home {
    /// From its snapshot if `true`, otherwise from the base image.
    Suspended(bool),
    Resident(Box<Instance>),
    Busy,
}

enum Message {
    Stepped {
        slot: SlotId,
        stepped_at: Duration,
        was_suspended: bool,
        events: usize,
        report: Box<Report>,
    },
    Replies {
        slot: SlotId,
        call: u64,
        token: u64,
        replies: Vec<Reply>,
    },
    Saved {
        slot: SlotId,
        instance: Option<Box<Instance>>,
        result: io::Result<Written>,
        reason: SaveReason,
        took: Duration,
    },
    Synced {
        slot: SlotId,
        result: io::Result<()>,
    },
    Election(News),
}

/// A request under way.
struct Request {
    token: u64,
    task: AbortHandle,
}

/// A host.
struct Host {
    index: usize,
    world: Arc<World>,
    disk: Arc<Mutex<Disk>>,
    started: Instant,
    clock: BootClock,
    control: ControlLoop<SimulatedEnvironment>,
    homes: Vec<Home>,
    shares: Vec<Share>,
    connections: Connections,
    client: kube::Client,
    requests: BTreeMap<(SlotId, u64), Request>,
    /// Workers and requests; all end with it.
    tasks: JoinSet<()>,
    tx: mpsc::UnboundedSender<Message>,
    words: Option<mpsc::UnboundedSender<Word>>,
    identity: Arc<str>,
    random: Random,
    watch_events: u64,
    _state: StateDir,
}

struct Inputs {
    messages: mpsc::UnboundedReceiver<Message>,
    watches: mpsc::UnboundedReceiver<Delivery>,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// Starts a host on a disk.
pub fn start(world: &Arc<World>, index: usize, disk: &Arc<Mutex<Disk>>, mut random: Random) -> anyhow::Result<Running> {
    let (commands_tx, commands) = mpsc::unbounded_channel();
    let (tx, messages) = mpsc::unbounded_channel();
    let (watch_tx, watches) = mpsc::unbounded_channel();
    let state = StateDir::open(lock(disk).path())?;
    let client = world.server.client(index);
    let hub = WatchHub::seeded(client.clone(), watch_tx, Some(Journals::new(&state)?), random.number());
    let environment = HubEnvironment::new(hub, || Duration::ZERO);
    let options = LoopOptions {
        policy: world.options.policy,
        memory_budget: world.options.memory_budget,
        is_traced: random.percent(20),
        ..LoopOptions::default()
    };
    let is_slow = world.plant == Some(Plant::SlowClock) && index == 0;
    let host = Host {
        index,
        world: world.clone(),
        disk: disk.clone(),
        started: Instant::now(),
        clock: BootClock::new(world.server.clone(), Duration::from_secs(1000 * (index as u64 + 1)), is_slow),
        control: ControlLoop::new(SimulatedEnvironment::new(environment, world.plant), options),
        homes: Vec::new(),
        shares: Vec::new(),
        connections: Connections::new(Peer::ApiServer),
        client,
        requests: BTreeMap::new(),
        tasks: JoinSet::new(),
        tx,
        words: None,
        identity: format!("host-{index}").into(),
        random,
        watch_events: 0,
        _state: state,
    };
    let task = tokio::spawn(host.run(Inputs { messages, watches, commands }));
    Ok(Running { commands: commands_tx, task })
}

impl Host {
    fn now(&self) -> Now {
        Now { host: self.started.elapsed(), boot: self.clock.now() }
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.observer.note(format_args!("host {} {what}", self.index));
    }

    fn violate(&self, invariant: Invariant, what: std::fmt::Arguments<'_>) {
        self.world.observer.violate(invariant, format_args!("host {}: {what}", self.index));
    }

    async fn run(mut self, mut inputs: Inputs) {
        self.note(format_args!("starts"));
        self.install();
        let now = self.now();
        self.control.start(now);
        self.dispatch();
        self.join_election();
        let server = self.world.server.clone();
        loop {
            let wake = self.control.next_wake().map(|at| self.started + at);
            let wake = wake.filter(|_| self.world.plant != Some(Plant::SleepIn));
            let mut watched = None;
            tokio::select! {
                biased;
                command = inputs.commands.recv() => match command {
                    Some(Command::Shutdown) | None => break,
                    Some(command) => self.obey(command),
                },
                Some(message) = inputs.messages.recv() => {
                    server.go_on(self.index).await;
                    self.receive(message);
                }
                Some(delivery) = inputs.watches.recv() => watched = Some(delivery),
                () = sleep_until(wake) => {}
            }
            server.go_on(self.index).await;
            if let Some(delivery) = watched {
                self.take_in(delivery);
            }
            for _ in 0..EVENTS_PER_ROUND {
                let Ok(message) = inputs.messages.try_recv() else { break };
                self.receive(message);
            }
            for _ in 0..EVENTS_PER_ROUND {
                let Ok(delivery) = inputs.watches.try_recv() else { break };
                self.take_in(delivery);
            }
            self.dispatch();
            while self.tasks.try_join_next().is_some() {}
        }
        self.shut_down(inputs.messages).await;
    }

    /// Adds the controllers with what is on the disk of them.
    fn install(&mut self) {
        for program in self.world.programs.clone() {
            let startup = Arc::new(Startup::default());
            let (recovered, has_snapshot) = match self.world.has_peers {
                true => (Recovered::fresh(Duration::ZERO, FIRST_MONOTONIC), false),
                false => self.recover(&program, &startup),
            };
            if !self.world.has_peers {
                let now = self.world.server.now();
                self.world.ledger().up(&program.name, now);
            }
            self.homes.push(Home::Suspended(has_snapshot));
            self.shares.push(Share::default());
            self.control.add(NewController {
                name: program.name.clone(),
                package: Arc::new(facts(&program)),
                startup,
                permissions: Arc::new(Permissions::new(program.rules())),
                service_account: None,
                namespaces: NamespaceLimit::default(),
                policy: None,
                leadership: if self.world.has_peers { Leadership::Standby } else { Leadership::Alone },
                cached: Arc::default(),
                ignored: Arc::default(),
                recovered,
            });
        }
    }

    /// What a controller continues with, and whether that is its snapshot.
    fn recover(&mut self, program: &Program, startup: &Startup) -> (Recovered, bool) {
        let now = self.started.elapsed();
        let snapshot = lock(&self.disk).snapshot(&program.name).cloned();
        let Some(snapshot) = snapshot else {
            self.world.ledger().forget(&program.name);
            self.world.ledger().set_timer(&program.name, None);
            return (Recovered::fresh(now, FIRST_MONOTONIC), false);
        };
        let elapsed = self.world.wall().saturating_sub(snapshot.wall);
        let lost_time = self.world.server.now().saturating_sub(snapshot.world).saturating_sub(elapsed);
        let elapsed = if self.world.plant == Some(Plant::ForgetElapsed) { Duration::ZERO } else { elapsed };
        let clock = (snapshot.monotonic_ns, elapsed);
        let recovered = HostState::decode(&snapshot.host_state).and_then(|state| {
            Recovered::from_snapshot(state, snapshot.host_state.len() as u64, clock, startup.fingerprint(), now)
        });
        let timer = snapshot.guest.parked.map(|(_, at)| {
            let left = Duration::from_nanos(at.saturating_sub(snapshot.monotonic_ns));
            snapshot.world + left + lost_time
        });
        match recovered {
            Ok(recovered) => {
                let mut ledger = self.world.ledger();
                ledger.set_timer(&program.name, timer);
                ledger.delay(&program.name, lost_time);
                drop(ledger);
                (recovered, true)
            }
            Err(why) => {
                self.violate(Invariant::Protocol, format_args!("{}: snapshot refused: {why}", program.name));
                (Recovered::fresh(now, FIRST_MONOTONIC), false)
            }
        }
    }

    fn join_election(&mut self) {
        if !self.world.has_peers {
            return;
        }
        let (words, heard) = mpsc::unbounded_channel();
        let tx = self.tx.clone();
        let tell = move |news| {
            let _ = tx.send(Message::Election(news));
        };
        let names = self.world.programs.iter().map(|program| program.name.clone()).collect();
        let place = (self.world.server.clone(), self.index, self.clock.clone());
        self.tasks.spawn(election::run(place, self.identity.clone(), names, heard, tell));
        self.words = Some(words);
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Shutdown => {}
            Command::MemoryPressure => {
                self.note(format_args!("memory pressure"));
                self.control.take(HostEvent::MemoryPressure, now);
            }
            Command::Settings(settings) => {
                self.note(format_args!("settings"));
                self.control.take(HostEvent::Settings(*settings), now);
            }
            Command::Inspect(tx) => {
                let _ = tx.send(self.inspect());
            }
        }
    }

    fn inspect(&self) -> Vec<Inspection> {
        let observed = self.control.observe();
        let inspection = |(id, seen): (SlotId, wasmop_core::status::observed::Controller)| Inspection {
            name: seen.name.clone(),
            leads: self.control.holds(id, self.clock.now()),
            is_idle: self.control.is_idle(id),
            ready: seen.queue.depth + seen.active,
            open_calls: self.control.open_calls(id),
            connections: MAX_CONNECTIONS - self.connections.available(),
            guest: match &self.homes[id.index()] {
                Home::Resident(instance) => Some(instance.guest.clone()),
                Home::Suspended(true) => lock(&self.disk).snapshot(&seen.name).map(|snapshot| snapshot.guest.clone()),
                Home::Suspended(false) | Home::Busy => None,
            },
        };
        self.control.ids().zip(observed).map(inspection).collect()
    }

    fn take_in(&mut self, delivery: Delivery) {
        self.watch_events += 1;
        if self.world.plant == Some(Plant::DropChanges)
            && self.watch_events.is_multiple_of(25)
            && delivery.event.change.key().is_some()
        {
            return;
        }
        let event = &delivery.event;
        let key = event.change.key().map_or("", |key| &**key);
        let kind = match &event.change {
            wasmop_core::watch::Change::Applied { .. } => "applied",
            wasmop_core::watch::Change::Deleted { .. } => "deleted",
            wasmop_core::watch::Change::Synced => "synced",
            wasmop_core::watch::Change::Waiting(_) => "waiting",
            wasmop_core::watch::Change::Replayed => "replayed",
        };
        let to = event.replay.map(|replay| replay.subscriber);
        self.note(format_args!("watch {} #{}: {kind} {key} {to:?}", event.watch.0, event.number));
        let now = self.now();
        self.control.take_watch(event, now);
    }

    fn receive(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Stepped { slot, stepped_at, was_suspended, events, report } => {
                self.on_stepped(slot, stepped_at, was_suspended, events, *report);
            }
            Message::Replies { slot, call, token, replies } => {
                let ends = replies.iter().any(|it| matches!(it, Reply::End | Reply::Failed(_) | Reply::TooLarge));
                let running = self.requests.get(&(slot, call)).is_some_and(|request| request.token == token);
                if ends && running {
                    self.requests.remove(&(slot, call));
                }
                let name = self.control.name(slot);
                self.note(format_args!("{name}: {} replies to call {call}", replies.len()));
                if self.world.plant == Some(Plant::RepeatBodies)
                    && let Some(body) = replies.iter().find(|reply| matches!(reply, Reply::Body(_)))
                {
                    let replies = vec![body.clone(); 20_000];
                    self.control.take(HostEvent::Replies { slot, call, token, replies }, now);
                }
                if self.world.plant == Some(Plant::AnswerTwice) {
                    let replies = replies.clone();
                    self.control.take(HostEvent::Replies { slot, call, token, replies }, now);
                }
                self.control.take(HostEvent::Replies { slot, call, token, replies }, now);
            }
            Message::Saved { slot, instance, result, reason, took } => {
                self.on_saved(slot, instance, result, reason, took);
            }
            Message::Synced { slot, result } => self.control.take(HostEvent::Synced { slot, result }, now),
            Message::Election(news) => self.on_election(news),
        }
    }

    fn on_stepped(&mut self, slot: SlotId, stepped_at: Duration, was_suspended: bool, events: usize, report: Report) {
        let Report { instance, steps, finished, complaints } = report;
        let now = self.now();
        let world = self.world.server.now();
        let name = self.control.name(slot).clone();
        let counts = self.control.holds(slot, now.boot);
        for complaint in complaints {
            self.violate(Invariant::Protocol, format_args!("{name}: {complaint}"));
        }
        let (outputs, failures) = (steps.outputs.len(), steps.failures.len());
        self.note(format_args!(
            "{name}: stepped {events} events, {outputs} outputs, {failures} failures, lost {}, counts {counts}",
            steps.lost.is_some() || instance.is_none()
        ));
        if counts {
            let mut ledger = self.world.ledger();
            for finished in &finished {
                ledger.finished(&name, finished, world);
            }
            let parked = instance.as_ref().and_then(|instance| instance.guest.parked);
            let age = now.host.saturating_sub(stepped_at);
            let at = parked.map(|(now, at)| (world + Duration::from_nanos(at.saturating_sub(now))).saturating_sub(age));
            ledger.set_timer(&name, at);
            if instance.is_none() {
                ledger.forget(&name);
            }
        }
        let facts = instance.as_ref().map(Instance::facts);
        self.homes[slot.index()] = match instance {
            Some(instance) => Home::Resident(Box::new(instance)),
            None => Home::Suspended(false),
        };
        let stepped = Stepped { slot, stepped_at, was_suspended, events, instance: facts, report: steps };
        self.control.take(HostEvent::Stepped(Box::new(stepped)), now);
    }

    fn on_saved(
        &mut self,
        slot: SlotId,
        instance: Option<Box<Instance>>,
        result: io::Result<Written>,
        reason: SaveReason,
        took: Duration,
    ) {
        let facts = instance.as_deref().map(Instance::facts);
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: saved {} ({}): {}", reason.as_str(), facts.is_some(), result.is_ok()));
        if result.is_ok() && !instance.as_ref().is_some_and(|instance| instance.is_soft) {
            let (tx, disk) = (self.tx.clone(), self.disk.clone());
            let after = self.random.duration(Duration::from_millis(1), Duration::from_secs(5));
            self.tasks.spawn(async move {
                tokio::time::sleep(after).await;
                lock(&disk).synced(&name);
                let _ = tx.send(Message::Synced { slot, result: Ok(()) });
            });
        }
        self.homes[slot.index()] = match instance {
            Some(instance) => Home::Resident(instance),
            None => Home::Suspended(true),
        };
        if result.is_err() && self.world.plant == Some(Plant::LoseSaveFailures) {
            return;
        }
        let now = self.now();
        self.control.take(HostEvent::Saved(Box::new(Saved { slot, reason, instance: facts, result, took })), now);
    }

    fn on_election(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Gained { slot, fence, before, tenure } => {
                let slot = SlotId(slot);
                if !self.control.may_gain(slot) {
                    return;
                }
                let program = self.world.programs[slot.index()].clone();
                let kept = lock(&self.disk).tenures.get(&program.name).cloned();
                let is_mine = before.is_some() && kept == before;
                if !is_mine {
                    lock(&self.disk).discard(&program.name);
                }
                let (recovered, has_snapshot) = self.recover(&program, &Startup::default());
                lock(&self.disk).tenures.insert(program.name.clone(), tenure.clone());
                self.homes[slot.index()] = Home::Suspended(has_snapshot);
                self.note(format_args!("{}: gained, from snapshot {has_snapshot}", program.name));
                let world = self.world.server.now();
                self.world.ledger().up(&program.name, world);
                lock(&self.world.holders).insert((slot.0, self.index), (fence.clone(), self.clock.clone()));
                let gained = Gained { slot, fence, transitions: tenure.transitions, recovered };
                self.control.take(HostEvent::Gained(Box::new(gained)), now);
            }
            News::GiveUp { slot } => self.control.take(HostEvent::GiveUp { slot: SlotId(slot) }, now),
            News::Lost { slot } => self.control.take(HostEvent::LeaseLost { slot: SlotId(slot) }, now),
            News::Trouble(trouble) => self.note(format_args!("election: trouble {}", trouble.is_some())),
        }
    }

    fn dispatch(&mut self) {
        let now = self.now();
        for effect in self.control.dispatch(now) {
            self.carry_out(effect);
        }
        self.check();
    }

    fn carry_out(&mut self, effect: HostEffect) {
        match effect {
            HostEffect::Step(step) => self.step(*step),
            HostEffect::Save(save) => self.save(*save),
            HostEffect::SuspendSoftly { slot, reason } => self.suspend_softly(slot, reason),
            HostEffect::Discard { slot } => {
                self.note(format_args!("{}: discard", self.control.name(slot)));
                if matches!(self.homes[slot.index()], Home::Busy) {
                    self.violate(Invariant::InstancePlace, format_args!("discards an instance that is with a worker"));
                }
                self.homes[slot.index()] = Home::Suspended(false);
            }
            HostEffect::Send(send) => self.send(*send),
            HostEffect::Abort { slot, call } => {
                self.note(format_args!("{}: abort call {call}", self.control.name(slot)));
                if let Some(request) = self.requests.remove(&(slot, call)) {
                    request.task.abort();
                }
            }
            HostEffect::GivenUp { slot } => {
                let name = self.control.name(slot).clone();
                self.note(format_args!("{name}: given up"));
                self.world.let_one_go(slot.0, self.index);
                if let Some(words) = &self.words {
                    let _ = words.send(Word::GivenUp(slot.0));
                }
            }
            HostEffect::Publish(notice) => {
                self.note(format_args!("{}: {:?}: {}", notice.controller, notice.problem, notice.message));
            }
            HostEffect::RecordActivity { .. } | HostEffect::Span(_) | HostEffect::ClearMemoryPool => {}
        }
    }

    /// Takes an instance for a worker.
    fn take_instance(&mut self, slot: SlotId) -> Home {
        if matches!(self.homes[slot.index()], Home::Busy) {
            let name = self.control.name(slot);
            self.violate(Invariant::InstancePlace, format_args!("{name}: its instance is with a worker already"));
        }
        std::mem::replace(&mut self.homes[slot.index()], Home::Busy)
    }

    fn step(&mut self, step: Step) {
        let Step { slot, events, at, monotonic_ns, tasks, registered: _ } = step;
        let program = self.world.programs[slot.index()].clone();
        let name = program.name.clone();
        let count = events.as_ref().map_or(0, Vec::len);
        self.note(format_args!("{name}: step with {count} events"));
        let home = self.take_instance(slot);
        let is_bad = self.random.percent(self.world.options.bad_snapshots);
        let disk_is_slow = lock(&self.disk).slow_until > self.world.server.now();
        let mut takes = self.random.duration(Duration::from_millis(1), self.world.options.step);
        let (instance, was_suspended) = match home {
            Home::Resident(instance) => (Some(*instance), false),
            Home::Suspended(has_snapshot) => {
                takes += self.random.duration(
                    Duration::from_millis(1),
                    if disk_is_slow && has_snapshot { Duration::from_secs(10) } else { Duration::from_millis(20) },
                );
                let snapshot = lock(&self.disk).snapshot(&name).filter(|_| has_snapshot).cloned();
                let guest = match snapshot {
                    Some(_) if is_bad => None,
                    Some(snapshot) => Some(snapshot.guest),
                    None if has_snapshot => None,
                    None => Some(Guest::new(program.clone())),
                };
                let instance = guest.map(|guest| Instance {
                    guest,
                    logged: 0,
                    log_capacity: self.world.options.log_capacity,
                    is_soft: program.tier == Tier::Soft,
                    is_suspended: false,
                });
                (instance, has_snapshot)
            }
            Home::Busy => return,
        };
        if self.world.plant == Some(Plant::KeepInstances)
            && let Some(instance) = &instance
            && slot.0 == 0
        {
            self.homes[slot.index()] = Home::Resident(Box::new(instance.clone()));
        }
        let moment = self.world.server.cluster().moment();
        {
            let mut ledger = self.world.ledger();
            ledger.set_timer(&name, None);
            for event in events.iter().flatten().filter(|event| event.kind == EventKind::Reconcile) {
                let order = instance.as_ref().map(|instance| instance.guest.registration_of(event.aux));
                if let Some(Some(registration)) = order {
                    let key = String::from_utf8_lossy(&event.payload).into();
                    ledger.begun((name.clone(), registration, key));
                }
            }
        }
        let wall_ns = self.world.wall().as_nanos() as u64;
        let input = Input { wall_ns, monotonic_ns, seed: self.random.number(), moment };
        let drops_done = self.world.plant == Some(Plant::DropDone);
        let tx = self.tx.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let mut report = match instance {
                Some(instance) => worker::run(instance, events, &tasks, input, drops_done),
                None => Report::bad_snapshot(),
            };
            report.steps.step = takes;
            report.steps.cpu = takes / 8;
            if was_suspended && report.steps.resume.is_none() {
                report.steps.resume = Some(takes / 2);
            }
            let report = Box::new(report);
            let _ = tx.send(Message::Stepped { slot, stepped_at: at, was_suspended, events: count, report });
        });
    }

    fn save(&mut self, save: Save) {
        let Save { slot, reason, monotonic_ns, state, watches, registered: _ } = save;
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: save, {}", reason.as_str()));
        let Home::Resident(mut instance) = self.take_instance(slot) else { return };
        let hub = &self.control.environment().inner.hub;
        let watches: Vec<_> = watches.into_iter().filter_map(|watch| hub.watched(watch)).collect();
        let now = self.world.server.now();
        let (is_full, is_slow) = {
            let mut disk = lock(&self.disk);
            disk.begin(&name);
            (disk.full_until > now, disk.slow_until > now)
        };
        let longest = if is_slow { Duration::from_secs(20) } else { Duration::from_millis(50) };
        let takes = self.random.duration(Duration::from_millis(1), longest);
        let world = now;
        let snapshot = Snapshot {
            host_state: state.encode(),
            guest: instance.guest.clone(),
            monotonic_ns,
            wall: self.world.wall(),
            world,
        };
        let (tx, disk) = (self.tx.clone(), self.disk.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let result = if is_full {
                lock(&disk).give_up(&name);
                Err(io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left on device"))
            } else {
                for watch in watches {
                    let _ = watch.save();
                }
                lock(&disk).finish(&name, snapshot);
                instance.logged = 0;
                let bytes = instance.guest.memory / 4;
                Ok(Written { dirty_bytes: bytes, written_bytes: bytes, disk_bytes: bytes })
            };
            let instance = (result.is_err() || !reason.suspends()).then_some(instance);
            let _ = tx.send(Message::Saved { slot, instance, result, reason, took: takes });
        });
    }

    fn suspend_softly(&mut self, slot: SlotId, reason: SaveReason) {
        self.note(format_args!("{}: suspend softly, {}", self.control.name(slot), reason.as_str()));
        let Home::Resident(mut instance) = self.take_instance(slot) else { return };
        let is_full = lock(&self.disk).full_until > self.world.server.now();
        let takes = self.random.duration(Duration::from_millis(1), Duration::from_millis(20));
        let tx = self.tx.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let result = if is_full {
                Err(io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left on device"))
            } else {
                instance.is_suspended = true;
                let bytes = instance.guest.memory / 4;
                Ok(Written { dirty_bytes: bytes, written_bytes: bytes, disk_bytes: bytes })
            };
            let _ = tx.send(Message::Saved { slot, instance: Some(instance), result, reason, took: takes });
        });
    }

    fn send(&mut self, send: Send) {
        let Send { slot, call, token, is_stream, fence, service_account, method, path, headers, body, .. } = send;
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: send call {call}: {method} {path}"));
        let Some(credit) = self.control.credit(slot).cloned() else { return };
        let identity = self.world.has_peers.then_some(&*self.identity);
        let caller = Caller::controller(&name, identity, service_account);
        let call_ = ApiCall { method, path, headers, body, traceparent: None };
        let connections = (!is_stream).then(|| self.connections.clone());
        let share = self.shares[slot.index()].clone();
        let (client, tx, clock, max_bytes) = (self.client.clone(), self.tx.clone(), self.clock.clone(), send.max_bytes);
        let leaks = self.world.plant == Some(Plant::LeakConnections) && token % 10 == 9;
        let request = async move {
            if leaks && let Some(connections) = &connections {
                std::mem::forget(connections.enter(&Share::default()).await);
            }
            let connection = match connections {
                None => None,
                Some(connections) => match connections.enter(&share).await {
                    None => return,
                    entered => entered,
                },
            };
            let allowance = Allowance { credit: SimulatedCredit::semaphore(&credit), connection, max_bytes };
            let send = |replies| {
                let _ = tx.send(Message::Replies { slot, call, token, replies });
            };
            api_requests::execute(&client, caller, call_, allowance, send).await;
        };
        let task = self.tasks.spawn(api_requests::fenced_by(move || clock.now(), fence, request));
        self.requests.insert((slot, call), Request { token, task });
    }

    /// What holds after every round.
    fn check(&mut self) {
        for id in self.control.ids() {
            let name = self.control.name(id);
            let held = self.control.held_bytes(id);
            if held > MOST_HELD_BYTES {
                self.violate(Invariant::Bounded, format_args!("{name}: {held} bytes are held for it"));
            }
            if let Some(taken) = self.control.credit_taken(id) {
                if taken < 0 {
                    self.violate(
                        Invariant::Conserved,
                        format_args!("{name}: {} bytes more than were taken were given back", -taken),
                    );
                }
                if taken != 0 && self.control.is_idle(id) && !matches!(self.control.phase(id), Phase::Busy) {
                    self.violate(
                        Invariant::Conserved,
                        format_args!("{name}: it is idle, and {taken} bytes of its credit are gone"),
                    );
                }
            }
            let is_busy = matches!(self.homes[id.index()], Home::Busy);
            let thinks_busy = matches!(self.control.phase(id), Phase::Busy);
            if is_busy != thinks_busy {
                self.violate(
                    Invariant::InstancePlace,
                    format_args!("{name}: with a worker {is_busy}, and the loop says {thinks_busy}"),
                );
            }
        }
        self.world.check_holders();
        let hub = &self.control.environment().inner.hub;
        let subscribed = self.control.subscribed();
        if hub.len() != subscribed.len() {
            let watches = hub.len();
            self.violate(
                Invariant::Subscriptions,
                format_args!("{watches} watches, {} with subscribers", subscribed.len()),
            );
        }
        if let Some(watch) = subscribed.iter().find(|watch| hub.request(**watch).is_none()) {
            self.violate(Invariant::Subscriptions, format_args!("nobody watches {} for its subscribers", watch.0));
        }
    }

    async fn shut_down(&mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        self.note(format_args!("shuts down"));
        let limit = Instant::now() + SHUTDOWN;
        let now = self.now();
        self.control.take(HostEvent::Shutdown, now);
        self.dispatch();
        while self.control.ids().any(|id| matches!(self.control.phase(id), Phase::Busy)) {
            match tokio::time::timeout_at(limit, messages.recv()).await {
                Ok(Some(message)) => {
                    self.receive(message);
                    self.dispatch();
                }
                Ok(None) | Err(_) => break,
            }
        }
        if let Some(words) = self.words.take() {
            let _ = words.send(Word::End);
            let end = async { while self.tasks.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_secs(10), end).await;
        }
        self.note(format_args!("has shut down"));
    }
}

fn facts(program: &Program) -> PackageFacts {
    let is_soft = program.tier == Tier::Soft;
    PackageFacts {
        name: program.name.to_string(),
        version: "1.0.0".into(),
        tier: program.tier,
        mode: Mode::HostDriven,
        limits: program.limits,
        suspend_policy: None,
        base_memory_bytes: (!is_soft).then_some(BASE_MEMORY),
        base_data_bytes: (!is_soft).then_some(BASE_MEMORY / 8),
        first_monotonic_ns: FIRST_MONOTONIC,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
