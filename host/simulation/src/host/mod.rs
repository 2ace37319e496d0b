//! A simulated host: the real control loop over the real hub, with workers, a disk and clocks of values.
//!
//! It mirrors the shell of a real host: events from channels in, effects carried out in order.

mod invariants;
mod leadership;
mod recovery;
mod requests;
mod saves;
mod steps;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;
use wasmop_api::connections::{Connections, MAX_CONNECTIONS, Peer, Share};
use wasmop_api::environment::HubEnvironment;
use wasmop_api::watch::{Delivery, Journals, WatchHub};
use wasmop_core::control_loop::{
    ControlLoop, HostEffect, HostEvent, LoopOptions, Now, Phase, SaveReason, Settings, SlotId, Written,
};
use wasmop_core::election::News;
use wasmop_core::reply::Reply;
use wasmop_snapshot::StateDir;

use crate::disk::Disk;
use crate::election::{BootClock, Word};
use crate::environment::SimulatedEnvironment;
use crate::guest::Guest;
use crate::observer::Invariant;
use crate::plant::Plant;
use crate::random::Random;
use crate::worker::{Instance, Report};
use crate::world::{World, lock};

/// As in a real host.
const EVENTS_PER_ROUND: usize = 1024;
/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(30);

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
    world.server.on_start(index);
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

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
