//! The host: one loop that owns all controllers and connects their pure state with the threads that
//! step guests, the API server, the watches and the snapshots.
//!
//! Everything arrives here as a message, and each controller's instance is at one place at a time:
//! in its slot, or with a worker that will send it back.
//!
//! ```text
//! here        the loop, when a slot is looked at again              options    what it is started with
//! slot        one controller: what it is, what is under way for it
//! preparing   packages compiled, off the loop
//! install     packages to slots          watching    registrations to watches, changes to work queues
//! stepping    batches to workers         suspending  instances to disk        calls  requests and answers
//! deciding    when idle instances go     recording   when there was something to do
//! restarts    instances that begin anew      caching    reads from the cache, and writes that they have to wait for
//! limiting    who is held back           telling     what owners are told of controllers that misbehave
//! event_recorder  ... as Kubernetes Events
//! leading     which controllers run here, of those that other hosts could run as well
//! settings    what can change meanwhile  observing   what is told about all that to those who ask
//! spans       ... and as OpenTelemetry has it
//! ```

mod caching;
mod calls;
mod deciding;
mod install;
mod leading;
mod limiting;
mod observing;
mod options;
mod preparing;
mod recording;
mod restarts;
mod settings;
mod slot;
mod spans;
mod stepping;
mod suspending;
mod telling;

mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits};
use wasmop_policy::{Policy, Predictor, Prices};

use self::leading::Others;
pub use self::options::{Deployment, HostError, Options, RefusedPackage, SHUTDOWN_TIMEOUT};
use self::recording::Recorder;
pub use self::settings::{ControllerSettings, Settings};
use wasmop_api::client::{Clients, Traffic};
use wasmop_api::connect;
use wasmop_api::connections::{Connections, Peer};
use wasmop_api::external_hosts::External;
use wasmop_api::request_counts::RequestCounts;
use wasmop_api::watch::{Delivery, Journals, WatchHub};
use wasmop_core::election::News;
use wasmop_core::permissions::learn::Learning;
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::reply::Reply;
use wasmop_core::status::counters::Totals;
use wasmop_core::status::observed;
use wasmop_core::step::EventKind;
use wasmop_core::watch::{Place, Predicates, Waiting, WatchId};
use wasmop_snapshot::sync::Syncer;
use wasmop_snapshot::{Saved, StateDir, StateDirError};
use wasmop_vm::compiled_package::CODE_LINGERS;
use wasmop_vm::engine::Engine;
use wasmop_vm::instance::{Instance, Origin, Suspended};
use wasmop_vm::step_runner::Report;
use wasmop_vm::step_scheduler::Pool;

use self::slot::{Phase, Request, Slot};
use self::suspending::Why;
use self::telling::Teller;
use crate::status::Question;
use crate::status::http::{self, Source};
use crate::traces::Traces;

/// After a snapshot could not be written.
const SAVE_RETRY: Duration = Duration::from_secs(10);
/// Taken from each source before controllers get their turn.
const EVENTS_PER_ROUND: usize = 1024;
/// Undelivered bytes of responses of one controller that may wait in the host.
const RESPONSE_CREDIT: usize = 1 << 20;

/// Runs the controllers until `shutdown` completes; then suspends all and returns.
pub async fn run(mut options: Options, shutdown: impl Future<Output = ()>) -> Result<(), HostError> {
    let settings = options.settings.take();
    let mut shutdown = std::pin::pin!(shutdown);
    // To start may take minutes: packages are compiled, an API server does not answer.
    let started = tokio::select! {
        biased;
        () = &mut shutdown => {
            tracing::info!("ending before the host has started");
            return Ok(());
        }
        started = start(options) => started?,
    };
    let Started { host, rx, watch_rx, _state, _server } = started;
    host.run(rx, watch_rx, settings, shutdown).await;
    Ok(())
}

/// A host that is about to run, and what comes to it.
struct Started {
    host: Host,
    rx: mpsc::UnboundedReceiver<Message>,
    watch_rx: mpsc::UnboundedReceiver<Delivery>,
    /// Locked against other hosts while it lives.
    _state: Arc<StateDir>,
    _server: Option<http::Server>,
}

/// Everything before the loop.
async fn start(options: Options) -> Result<Started, HostError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = options.controllers.iter().find(|c| !names.insert(&c.name)) {
        return Err(HostError::DuplicateName(twice.name.clone()));
    }
    let auth = &options.cluster.auth_info;
    let impersonates = auth.impersonate.is_some() || auth.impersonate_groups.as_ref().is_some_and(|g| !g.is_empty());
    let accounts = options.controllers.iter().filter(|c| c.settings.grant.service_account.is_some());
    settings::check_identity(impersonates, accounts.map(|c| c.name.as_str()))?;
    let state = Arc::new(StateDir::open_on(options.disk.clone(), &options.state_dir, options.encryption_key)?);
    let journals =
        Journals::new(&state).map_err(|source| StateDirError::NotWritable { path: state.path().to_owned(), source })?;
    let server = options.cluster.cluster_url.clone();
    let (tx, rx) = mpsc::unbounded_channel();
    let requests = Arc::new(RequestCounts::default());
    let external_requests = Arc::new(RequestCounts::default());
    let started = Arc::new(AtomicBool::new(false));
    let _server = match options.metrics {
        None => None,
        Some(listener) => {
            let tx = tx.clone();
            let ask = Box::new(move |question| tx.send(Message::Question(question)).is_ok());
            let source = Source {
                ask,
                started: started.clone(),
                requests: requests.clone(),
                external_requests: external_requests.clone(),
            };
            Some(http::serve(listener, source).map_err(HostError::Metrics)?)
        }
    };
    let clients = Clients::new(&options.cluster).await?;
    let client = clients.client(Traffic::General, &requests)?;
    let others = match options.election {
        Some(group) => Some(Others::new(group, clients.client(Traffic::Election, &requests)?, state.path())?),
        None => None,
    };
    let version = connect::check(&client, &server).await?;
    let recorder = options.record_trace.as_deref().map(Recorder::create).transpose()?;
    let (watch_tx, watch_rx) = mpsc::unbounded_channel();
    let teller = Teller::new(&client);
    let mut host = Host {
        started: Instant::now(),
        engine: Engine::new()?,
        slots: Vec::new(),
        hub: WatchHub::new(client.clone(), watch_tx, Some(journals)),
        subscriptions: HashMap::new(),
        seen: HashMap::new(),
        replays: BTreeMap::new(),
        waiting: BTreeMap::new(),
        returning: HashMap::new(),
        starting: true,
        specs: HashSet::new(),
        predicates: Predicates::default(),
        wakes: BTreeSet::new(),
        pool: Pool::start().map_err(HostError::Threads)?,
        syncer: Syncer::start(options.disk, options.durability).map_err(HostError::Threads)?,
        client,
        tx,
        next_token: 0,
        connections: Connections::new(Peer::ApiServer),
        external_connections: Connections::new(Peer::External),
        external: Arc::new(External::new(&server, options.external_authorities, external_requests)),
        code_check: Some(tokio::time::Instant::now() + CODE_LINGERS),
        policy: options.policy,
        prices: Prices::default(),
        memory_budget: options.memory_budget,
        cache_memory: None,
        guest_log_level: options.guest_log_level,
        limits: options.limits,
        teller,
        failed: Vec::new(),
        recorder,
        traces: options.tracer.map(|tracer| Traces::new(tracer, server.clone())),
        learning: options.learning,
        impersonates,
        shutdown_timeout: options.shutdown_timeout,
        totals: Totals::default(),
        others,
        shutting_down: false,
    };
    host.limit_objects(options.cache_memory);
    for RefusedPackage { name, error } in options.refused {
        host.leave_out(&name, Tier::Full, &error);
    }
    host.install(options.controllers, &state).await?;
    for slot in 0..host.slots.len() as u32 {
        host.trace_continued(slot);
    }
    host.check_budget(host.memory_budget)?;
    let pressure = host.tx.clone();
    if let Err(error) = crate::pressure::watch(move || pressure.send(Message::Pressure).is_ok()) {
        tracing::debug!(%error, "the kernel does not tell when memory is short");
    }
    tracing::info!(
        controllers = host.slots.len(),
        state_dir = %state.path().display(),
        server = %server,
        version = %version.git_version,
        "host started"
    );
    started.store(true, Ordering::Release);
    Ok(Started { host, rx, watch_rx, _state: state, _server })
}

struct Host {
    started: Instant,
    engine: Engine,
    slots: Vec<Slot>,
    hub: WatchHub,
    /// Shared, so that handling an event can change everything else.
    subscriptions: HashMap<WatchId, Arc<Vec<Subscription>>>,
    /// Number of the last change of each watch that is in the work queues.
    seen: HashMap<WatchId, u64>,
    /// By slot, watch and subscription: until they are over, the subscriber has not seen what `seen` says.
    replays: BTreeMap<(u32, WatchId, u64), Replays>,
    /// Watches that cannot be had now, and whose owner knows, by slot.
    waiting: BTreeMap<(u32, WatchId), Unwatched>,
    /// What controllers that continue from a snapshot have seen, by slot. Empty once all are subscribed.
    returning: HashMap<u32, Vec<Place>>,
    /// No event of a watch has been taken in yet.
    starting: bool,
    specs: HashSet<Arc<ControllerSpec>>,
    predicates: Predicates,
    /// When which slot must be looked at next; mirrors `Slot::wake`.
    wakes: BTreeSet<(Duration, u32)>,
    pool: Pool,
    syncer: Syncer,
    client: kube::Client,
    tx: mpsc::UnboundedSender<Message>,
    next_token: u64,
    /// To the API server, for requests that end.
    connections: Connections,
    /// To external hosts.
    external_connections: Connections,
    external: Arc<External>,
    /// When to see which packages' code is no longer used; `None` while none is loaded.
    code_check: Option<tokio::time::Instant>,
    policy: Policy,
    prices: Prices,
    memory_budget: Option<u64>,
    cache_memory: Option<u64>,
    /// For controllers that nobody gave a level.
    guest_log_level: Option<LevelFilter>,
    limits: Limits,
    teller: Teller,
    /// Controllers whose packages could not be installed.
    failed: Vec<observed::Controller>,
    recorder: Option<Recorder>,
    /// If anybody wants to know.
    traces: Option<Traces>,
    learning: Option<Learning>,
    /// The host's own credentials are another user's, so that no controller's can be.
    impersonates: bool,
    shutdown_timeout: Duration,
    totals: Totals,
    /// If there are other hosts that could run its controllers.
    others: Option<Others>,
    shutting_down: bool,
}

#[derive(Clone, Copy)]
struct Subscription {
    slot: u32,
    registration: RegistrationId,
    /// `None`: the primary kind; else an index into the spec's watches.
    watch: Option<u8>,
}

/// A watch that a controller needs and that cannot be had.
struct Unwatched {
    /// As its owner was told last.
    waiting: Waiting,
    /// On the host's clock.
    since: Duration,
}

/// Replays for one subscription.
#[derive(Clone, Copy, Default)]
struct Replays {
    under_way: u32,
    /// Changes up to this number are in the last of them.
    covered: u64,
}

impl Subscription {
    /// The slot of the subscription with this number.
    fn slot_of(id: u64) -> u32 {
        (id >> 40) as u32
    }

    /// As a number, for `WatchHub::replay`. A host has room for far fewer than 2^24 controllers, and a controller has
    /// at most 64 watches.
    fn id(self) -> u64 {
        u64::from(self.slot) << 40
            | u64::from(self.registration.0) << 8
            | self.watch.map_or(0, |watch| u64::from(watch.saturating_add(1)))
    }
}

enum Message {
    Stepped {
        slot: u32,
        stepped_at: Duration,
        report: Report,
        suspended: bool,
        events: usize,
    },
    Replies {
        slot: u32,
        call: u64,
        token: u64,
        replies: Vec<Reply>,
    },
    /// `instance` is `None` if it was suspended.
    Saved {
        slot: u32,
        instance: Option<Box<Instance>>,
        result: io::Result<Saved>,
        why: Why,
        begun: Instant,
        took: Duration,
    },
    /// The kernel is short of memory.
    Pressure,
    /// Somebody wants to know how things are.
    Question(Question),
    SoftSuspended {
        slot: u32,
        instance: Box<Instance>,
        result: io::Result<Suspended>,
        why: Why,
        begun: Instant,
        took: Duration,
    },
    Settled {
        slot: u32,
        result: io::Result<()>,
    },
    /// What becomes of controllers that other hosts could run as well.
    Election(News),
}

impl Host {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn run(
        mut self,
        mut rx: mpsc::UnboundedReceiver<Message>,
        mut watch_rx: mpsc::UnboundedReceiver<Delivery>,
        mut settings_rx: Option<mpsc::UnboundedReceiver<Settings>>,
        shutdown: impl Future<Output = ()>,
    ) {
        for slot in 0..self.slots.len() as u32 {
            self.watch_registered(slot);
            self.pump(slot);
        }
        (self.starting, self.returning) = (false, HashMap::new());
        self.stand();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut touched = BTreeSet::new();
        loop {
            // A time that the clock cannot show never comes.
            let wake = self.wakes.first().and_then(|(at, _)| self.started.checked_add(*at));
            let wake = wake.map(tokio::time::Instant::from_std);
            let sleep_until = |at: Option<tokio::time::Instant>| async move {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let changed = async {
                match &mut settings_rx {
                    Some(settings) => settings.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(settings) = changed => {
                    self.apply(settings);
                    touched.extend(0..self.slots.len() as u32);
                }
                Some(message) = rx.recv() => touched.extend(self.on_message(message)),
                Some(delivery) = watch_rx.recv() => self.on_watch(delivery.event, &mut touched),
                () = sleep_until(wake) => {}
                () = sleep_until(self.code_check) => {
                    self.code_check = self.drop_idle().map(|wait| tokio::time::Instant::now() + wait);
                    continue;
                }
            }
            // Events that are there already are taken together: one step instead of several. Each source gets its turn in
            // every round, whatever comes from the others.
            for message in std::iter::from_fn(|| rx.try_recv().ok()).take(EVENTS_PER_ROUND) {
                touched.extend(self.on_message(message));
            }
            for delivery in std::iter::from_fn(|| watch_rx.try_recv().ok()).take(EVENTS_PER_ROUND) {
                self.on_watch(delivery.event, &mut touched);
            }
            let now = self.now();
            while let Some(&(at, slot)) = self.wakes.first().filter(|(at, _)| *at <= now) {
                self.wakes.remove(&(at, slot));
                self.slots[slot as usize].wake = None;
                touched.insert(slot);
            }
            for slot in std::mem::take(&mut touched) {
                self.pump(slot);
            }
        }
        self.shut_down(rx).await;
    }

    /// Gives back code and memories that nobody has used for a while. Returns when to look again.
    fn drop_idle(&self) -> Option<Duration> {
        let mut seen = BTreeSet::new();
        let packages = self.slots.iter().filter(|s| seen.insert(Arc::as_ptr(&s.package)));
        let spares = self.engine.spares().drop_idle(CODE_LINGERS);
        packages.filter_map(|s| s.package.drop_idle_code(CODE_LINGERS)).chain(spares).min()
    }

    /// Gives a slot's instance whatever is to be done next, if it is at home.
    fn pump(&mut self, index: u32) {
        if !self.leads(index) {
            self.step_down(index);
            return;
        }
        let now = self.now();
        self.make_requests(index);
        self.end_overdue(index);
        self.complete_changes(index);
        let slot = &mut self.slots[index as usize];
        slot.return_credit();
        let ready = match &slot.phase {
            Phase::Busy => {
                self.schedule(index, None);
                return;
            }
            // Once is enough at shutdown, if it fails.
            Phase::Resident(_) if self.shutting_down && slot.save_after > now => return,
            // Refused by the disk a moment ago, it goes on meanwhile.
            Phase::Resident(instance) if self.shutting_down || (instance.log_is_full() && slot.save_after <= now) => {
                self.save(index, if self.shutting_down { Why::Shutdown } else { Why::LogFull });
                return;
            }
            Phase::Suspended(_) if self.shutting_down => return,
            Phase::Resident(_) | Phase::Suspended(_) => {
                if let Some(until) = self.held_back(index) {
                    self.schedule(index, Some(until));
                    return;
                }
                self.slots[index as usize].controller.take_batch(now)
            }
        };
        let slot = &mut self.slots[index as usize];
        if let Some(mut events) = ready {
            if let Some(cause) = slot.deciding.on_event(now)
                && let Some(recorder) = &mut self.recorder
            {
                recorder.event(now, &slot.name, cause);
            }
            if let [start] = &mut events[..]
                && start.kind == EventKind::Start
            {
                start.payload = slot.startup.payload(&slot.package.manifest.name).into();
            }
            self.tell_of_loops(index, &events);
            self.step(index, Some(events), now);
            return;
        }
        if self.is_expected(index) {
            self.step(index, None, now);
            return;
        }
        if let Some(wake) = self.decide(index) {
            self.schedule(index, wake);
        }
    }

    /// `wake`: when its instance has something to do.
    fn schedule(&mut self, index: u32, wake: Option<Duration>) {
        let slot = &mut self.slots[index as usize];
        let wake = wake.into_iter().chain(slot.limits_wake()).min();
        if slot.wake == wake {
            return;
        }
        if let Some(old) = slot.wake.take() {
            self.wakes.remove(&(old, index));
        }
        if let Some(at) = wake {
            self.wakes.insert((at, index));
        }
        slot.wake = wake;
    }

    /// Returns the slot that may have something to do now.
    fn on_message(&mut self, message: Message) -> Option<u32> {
        match message {
            // It ran on after its time: what it wants is not done.
            Message::Stepped { slot, .. } if !self.counts(slot) => {
                self.slots[slot as usize].phase = Phase::Suspended(Origin::Fresh);
                Some(slot)
            }
            Message::Stepped { slot, stepped_at, report, suspended, events } => {
                self.on_stepped(slot, stepped_at, report, suspended, events);
                Some(slot)
            }
            Message::Replies { slot, call, token, replies } => {
                self.on_replies(slot, call, token, replies);
                Some(slot)
            }
            Message::Saved { slot, instance, result, why, begun, took } => {
                self.trace_saved(slot, why, (begun, took), &result);
                self.on_saved(slot, instance, result, took);
                Some(slot)
            }
            Message::SoftSuspended { slot, instance, result, why, begun, took } => {
                self.trace_soft_suspended(slot, why, (begun, took), &result);
                self.on_soft_suspended(slot, instance, result, took);
                Some(slot)
            }
            Message::Election(news) => self.on_election(news),
            Message::Pressure => {
                self.on_pressure();
                None
            }
            Message::Question(question) => {
                self.answer(question);
                None
            }
            Message::Settled { slot: index, result } => {
                let now = self.now();
                let slot = &mut self.slots[index as usize];
                slot.counters.settled(now, &result);
                if let Err(error) = result {
                    tracing::warn!(
                        controller = &*slot.name,
                        %error,
                        "a snapshot could not be put on disk: a crash of the machine would lose it"
                    );
                }
                None
            }
        }
    }
}

/// What is saved with a snapshot besides the instance.
#[derive(serde::Serialize, serde::Deserialize)]
struct HostState {
    controller: wasmop_core::controller::Saved,
    predictor: Predictor,
    /// What of its watches is in the work queues.
    places: Vec<Place>,
    /// Of what the program was started with.
    startup: u64,
}
