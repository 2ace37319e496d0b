//! The host: one loop that owns all controllers and connects their pure state with the threads that
//! step guests, the API server, the watches and the snapshots.
//!
//! Everything arrives here as a message, and each controller's instance is at one place at a time:
//! in its slot, or with a worker that will send it back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use wasmop_package::Package;
use wasmop_package::manifest::Relation;

use crate::batch::{Batch, Lost, Report, Source};
use crate::code::{InstallError, InstalledPackage, wall_clock_ns};
use crate::connect::{self, ConnectError};
use crate::controller::{Controller, Effect, Outcome, Saved as SavedController};
use crate::describe::start_payload;
use crate::engine::{Engine, EngineError};
use crate::guest::{Call, EventKind, emit_logs};
use crate::instance::{Instance, Origin};
use crate::permissions::Permissions;
use crate::pool::Pool;
use crate::queue::Key;
use crate::requests::{self, ApiCall, Reply};
use crate::snapshot::format::{Header, Kind};
use crate::snapshot::sync::Syncer;
use crate::snapshot::{ControllerStore, Saved, StateDir, StateDirError};
use crate::watch::{Change, Primary, WatchEvent, WatchHub, WatchId, WatchRequest, keys_for, passes};

/// Not worth suspending for a shorter gap than this.
const MIN_GAP: Duration = Duration::from_millis(100);
/// After a snapshot could not be written.
const SAVE_RETRY: Duration = Duration::from_secs(10);
/// Undelivered bytes of responses of one controller that may wait in the host.
const RESPONSE_CREDIT: usize = 1 << 20;
/// Longest time that steps under way may take at shutdown.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// A controller to run.
pub struct Deployment {
    /// Unique on this host; a DNS label.
    pub name: String,
    pub package: Arc<Package>,
}

pub struct Options {
    pub controllers: Vec<Deployment>,
    pub cluster: kube::Config,
    /// Watch only this namespace; `None` for all.
    pub namespace: Option<String>,
    pub state_dir: PathBuf,
    /// Idle time after which an instance is suspended.
    pub suspend_after: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("two packages are named {0}\nhelp: give each package a name of its own in its wasmop.toml")]
    DuplicateName(String),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the credentials cannot be used: {0}\nhelp: check the certificates and keys in the kubeconfig")]
    Client(String),
    #[error("starting the host's threads: {0}")]
    Threads(io::Error),
    #[error("the state directory of controller {name}: {source}")]
    Controller { name: String, source: io::Error },
}

/// Runs the controllers until `shutdown` completes; then suspends all and returns.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), HostError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = options.controllers.iter().find(|c| !names.insert(&c.name)) {
        return Err(HostError::DuplicateName(twice.name.clone()));
    }
    let state = Arc::new(StateDir::open(&options.state_dir)?);
    let server = options.cluster.cluster_url.clone();
    let mut cluster = options.cluster;
    // A guest is to see 429 and 503 and decide for itself; upstream watches retry on their own.
    cluster.default_retry = false;
    let client = kube::Client::try_from(cluster).map_err(|e| HostError::Client(e.to_string()))?;
    let version = connect::check(&client, &server).await?;
    let engine = Engine::new()?;
    let (tx, rx) = mpsc::unbounded_channel();
    let (watch_tx, watch_rx) = mpsc::unbounded_channel();
    let mut host = Host {
        started: Instant::now(),
        slots: Vec::new(),
        hub: WatchHub::new(client.clone(), watch_tx),
        subscriptions: HashMap::new(),
        wakes: BTreeSet::new(),
        pool: Pool::start().map_err(HostError::Threads)?,
        syncer: Syncer::start().map_err(HostError::Threads)?,
        client,
        tx,
        next_token: 0,
        namespace: options.namespace,
        suspend_after: options.suspend_after,
        shutting_down: false,
    };
    host.install(options.controllers, &engine, &state).await?;
    tracing::info!(
        controllers = host.slots.len(),
        state_dir = %state.path().display(),
        server = %server,
        version = %version.git_version,
        "host started"
    );
    host.run(rx, watch_rx, shutdown).await;
    Ok(())
}

struct Host {
    started: Instant,
    slots: Vec<Slot>,
    hub: WatchHub,
    /// Shared, so that handling an event can change everything else.
    subscriptions: HashMap<WatchId, Arc<Vec<Subscription>>>,
    /// When which slot must be looked at next; mirrors `Slot::wake`.
    wakes: BTreeSet<(Duration, u32)>,
    pool: Pool,
    syncer: Syncer,
    client: kube::Client,
    tx: mpsc::UnboundedSender<Message>,
    next_token: u64,
    namespace: Option<String>,
    suspend_after: Duration,
    shutting_down: bool,
}

/// A controller and where its instance is.
struct Slot {
    name: Arc<str>,
    package: Arc<InstalledPackage>,
    store: Arc<ControllerStore>,
    permissions: Arc<Permissions>,
    controller: Controller,
    phase: Phase,
    /// The watch of each registration's primary kind; `None` if it may not be watched.
    primaries: Vec<Option<WatchId>>,
    /// Requests in flight by the guest's call id.
    requests: BTreeMap<u64, Request>,
    /// Shared by its requests; only there while some are in flight.
    credit: Option<Arc<Semaphore>>,
    /// Of the last save.
    generation: u64,
    wake: Option<Duration>,
    /// No suspending before this: the last attempt failed.
    save_after: Duration,
}

enum Phase {
    /// Nothing in memory.
    Suspended(Origin),
    Resident(Box<Instance>),
    /// With a worker.
    Busy,
}

struct Request {
    /// Tells this request from an earlier one of the same call id.
    token: u64,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct Subscription {
    slot: u32,
    registration: u32,
    /// `None`: the primary kind; else an index into the spec's watches.
    watch: Option<u16>,
}

impl Subscription {
    /// As a number, for `WatchHub::replay`.
    fn id(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.registration & 0xffff) << 16 | self.watch.map_or(0, |w| u64::from(w) + 1)
    }
}

enum Message {
    Stepped { slot: u32, stepped_at: Duration, report: Report, suspended: bool, events: usize },
    Replies { slot: u32, call: u64, token: u64, replies: Vec<Reply> },
    /// `instance` is `None` if it was suspended.
    Saved { slot: u32, instance: Option<Box<Instance>>, result: io::Result<Saved>, took: Duration, resident: u64 },
    Settled { slot: u32, generation: u64, result: io::Result<()> },
}

impl Host {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn install(
        &mut self,
        deployments: Vec<Deployment>,
        engine: &Engine,
        state: &Arc<StateDir>,
    ) -> Result<(), HostError> {
        let mut installed: HashMap<[u8; 32], (Arc<InstalledPackage>, Arc<Permissions>)> = HashMap::new();
        for Deployment { name, package } in deployments {
            let (package, permissions) = match installed.get(&package.digest) {
                Some(found) => found.clone(),
                None => {
                    let (engine, state) = (engine.clone(), state.clone());
                    let install = move || InstalledPackage::install(&engine, &state, &package);
                    let package = Arc::new(tokio::task::block_in_place(install)?);
                    let permissions = Arc::new(Permissions::new(package.manifest.permissions.clone()));
                    installed.insert(package.digest, (package.clone(), permissions.clone()));
                    (package, permissions)
                }
            };
            let fail = |source| HostError::Controller { name: name.clone(), source };
            let store = state.controller(&name).map_err(fail)?;
            let (controller, phase) = self.recover(&name, &package, &store).map_err(fail)?;
            self.slots.push(Slot {
                name: name.into(),
                package,
                store: Arc::new(store),
                permissions,
                controller,
                phase,
                primaries: Vec::new(),
                requests: BTreeMap::new(),
                credit: None,
                generation: wall_clock_ns(),
                wake: None,
                save_after: Duration::ZERO,
            });
        }
        Ok(())
    }

    /// Continues from the snapshot of an earlier host, or starts anew.
    fn recover(
        &self,
        name: &str,
        package: &InstalledPackage,
        store: &ControllerStore,
    ) -> io::Result<(Controller, Phase)> {
        let now = self.now();
        let fresh = || {
            let controller = Controller::new(now, package.image().header.monotonic_ns);
            (controller, Phase::Suspended(Origin::Fresh))
        };
        let rejected = match store.recover(&package.digest, package.image()) {
            Ok(None) => return Ok(fresh()),
            Ok(Some((snapshot, header))) => {
                let elapsed = Duration::from_nanos(wall_clock_ns().saturating_sub(header.wall_ns));
                let clock = header.monotonic_ns.wrapping_add(elapsed.as_nanos() as u64);
                let restored = postcard::from_bytes::<SavedController>(&header.host_state)
                    .map_err(|e| e.to_string())
                    .and_then(|saved| Controller::restore(saved, now, clock, elapsed));
                match restored {
                    Ok(controller) => {
                        tracing::info!(
                            controller = name,
                            registrations = controller.registered(),
                            from = "snapshot",
                            "controller ready"
                        );
                        return Ok((controller, Phase::Suspended(Origin::Snapshot(snapshot))));
                    }
                    Err(reason) => reason,
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            controller = name,
            reason = %rejected,
            "snapshot rejected: starting from the base image, all objects will be reconciled"
        );
        store.discard()?;
        Ok(fresh())
    }

    async fn run(
        mut self,
        mut rx: mpsc::UnboundedReceiver<Message>,
        mut watch_rx: mpsc::UnboundedReceiver<WatchEvent>,
        shutdown: impl Future<Output = ()>,
    ) {
        for slot in 0..self.slots.len() as u32 {
            for registration in 0..self.slots[slot as usize].controller.registered() {
                self.watch(slot, registration);
            }
            self.pump(slot);
        }
        let mut shutdown = std::pin::pin!(shutdown);
        let mut code_check: Option<tokio::time::Instant> = None;
        let mut touched = BTreeSet::new();
        loop {
            let wake = self.wakes.first().map(|(at, _)| tokio::time::Instant::from_std(self.started + *at));
            let sleep_until = |at: Option<tokio::time::Instant>| async move {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(message) = rx.recv() => {
                    touched.extend(self.on_message(message));
                    // What is there already is taken together: one step instead of several.
                    while let Ok(message) = rx.try_recv() {
                        touched.extend(self.on_message(message));
                    }
                }
                Some(event) = watch_rx.recv() => {
                    self.on_watch(event, &mut touched);
                    while let Ok(event) = watch_rx.try_recv() {
                        self.on_watch(event, &mut touched);
                    }
                }
                () = sleep_until(wake) => {
                    let now = self.now();
                    while let Some(&(at, slot)) = self.wakes.first().filter(|(at, _)| *at <= now) {
                        self.wakes.remove(&(at, slot));
                        self.slots[slot as usize].wake = None;
                        touched.insert(slot);
                    }
                }
                () = sleep_until(code_check) => {
                    code_check = self.drop_idle_code().map(|wait| tokio::time::Instant::now() + wait);
                    continue;
                }
            }
            for slot in std::mem::take(&mut touched) {
                self.pump(slot);
            }
            if code_check.is_none() {
                code_check = self.drop_idle_code().map(|wait| tokio::time::Instant::now() + wait);
            }
        }
        self.shut_down(rx).await;
    }

    /// Finishes the steps under way, suspends all, makes everything durable.
    async fn shut_down(&mut self, mut rx: mpsc::UnboundedReceiver<Message>) {
        self.shutting_down = true;
        let limit = tokio::time::Instant::now() + SHUTDOWN_LIMIT;
        for slot in &mut self.slots {
            for request in slot.requests.values() {
                request.task.abort();
            }
        }
        for slot in 0..self.slots.len() as u32 {
            self.pump(slot);
        }
        while self.slots.iter().any(|s| matches!(s.phase, Phase::Busy)) {
            match tokio::time::timeout_at(limit, rx.recv()).await {
                Ok(Some(message)) => {
                    if let Some(slot) = self.on_message(message) {
                        self.pump(slot);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let busy = self.slots.iter().filter(|s| matches!(s.phase, Phase::Busy)).count();
                    tracing::warn!(busy, "steps did not end in time; their controllers keep their last snapshot");
                    break;
                }
            }
        }
        let syncer = self.syncer.clone();
        let _ = tokio::task::spawn_blocking(move || syncer.flush()).await;
        let suspended = self.slots.iter().filter(|s| matches!(s.phase, Phase::Suspended(_))).count();
        tracing::info!(suspended, "shutdown complete");
    }

    fn drop_idle_code(&self) -> Option<Duration> {
        let mut seen = BTreeSet::new();
        let packages = self.slots.iter().filter(|s| seen.insert(Arc::as_ptr(&s.package)));
        packages.filter_map(|s| s.package.drop_idle_code()).min()
    }

    /// Gives a slot's instance whatever is to be done next, if it is at home.
    fn pump(&mut self, index: u32) {
        let now = self.now();
        let suspend_after = self.suspend_after;
        let slot = &mut self.slots[index as usize];
        let ready = match &slot.phase {
            Phase::Busy => {
                self.schedule(index, None);
                return;
            }
            Phase::Resident(instance) if self.shutting_down || instance.log_is_full() => {
                let suspending = self.shutting_down;
                self.save(index, suspending);
                return;
            }
            Phase::Suspended(_) if self.shutting_down => return,
            Phase::Resident(_) | Phase::Suspended(_) => slot.controller.take_batch(now),
        };
        if let Some(mut events) = ready {
            if let [start] = &mut events[..]
                && start.kind == EventKind::Start
            {
                start.payload = start_payload(&slot.name).into();
            }
            self.step(index, events, now);
            return;
        }
        let next = slot.controller.next_wake(now);
        let mut wake = next;
        if let Phase::Resident(_) = slot.phase {
            let suspend_at = (slot.controller.last_active + suspend_after).max(slot.save_after);
            let gap_is_long = next.is_none_or(|next| next >= suspend_at.max(now) + MIN_GAP);
            if gap_is_long && suspend_at <= now {
                self.save(index, true);
                return;
            }
            if gap_is_long {
                wake = Some(wake.map_or(suspend_at, |w| w.min(suspend_at)));
            }
        }
        self.schedule(index, wake);
    }

    fn schedule(&mut self, index: u32, wake: Option<Duration>) {
        let slot = &mut self.slots[index as usize];
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

    /// Hands the instance and a batch to a worker.
    fn step(&mut self, index: u32, events: Vec<crate::guest::Event>, now: Duration) {
        let slot = &mut self.slots[index as usize];
        if let Some(credit) = &slot.credit {
            let delivered: usize = events.iter().filter(|e| e.kind == EventKind::Body).map(|e| e.payload.len()).sum();
            credit.add_permits(delivered);
        }
        let registered = slot.controller.registered();
        let (source, suspended) = match std::mem::replace(&mut slot.phase, Phase::Busy) {
            Phase::Resident(instance) => (Source::Resident(instance), false),
            Phase::Suspended(origin) => {
                let suspended = matches!(origin, Origin::Snapshot(_));
                (Source::Start { origin, registered }, suspended)
            }
            Phase::Busy => return,
        };
        let count = events.len();
        let batch = Batch {
            source,
            events,
            monotonic: slot.controller.clock(now),
            tasks: slot.controller.tasks().collect(),
        };
        let (package, store, tx) = (slot.package.clone(), slot.store.clone(), self.tx.clone());
        self.schedule(index, None);
        self.pool.submit(move || {
            let report = batch.run(&package, &store);
            let _ = tx.send(Message::Stepped { slot: index, stepped_at: now, report, suspended, events: count });
        });
    }

    /// Has a worker write the instance to disk, and drop it if it is to be suspended.
    fn save(&mut self, index: u32, suspending: bool) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let Phase::Resident(mut instance) = std::mem::replace(&mut slot.phase, Phase::Busy) else { return };
        slot.generation += 1;
        let generation = slot.generation;
        let header = Header {
            kind: Kind::Base,
            digest: slot.package.digest,
            memory_size: 0,
            globals: Vec::new(),
            wall_ns: wall_clock_ns(),
            monotonic_ns: slot.controller.clock(now),
            runs: Vec::new(),
            host_state: postcard::to_stdvec(&slot.controller.save(now)).unwrap_or_default(),
        };
        let registered = slot.controller.registered();
        let (store, tx) = (slot.store.clone(), self.tx.clone());
        self.schedule(index, None);
        self.pool.submit(move || {
            let (resident, _) = instance.memory_bytes();
            let started = Instant::now();
            let result = instance.save(&store, header, generation, suspending, registered);
            let keep = !suspending || result.is_err();
            let instance = keep.then_some(instance);
            let took = started.elapsed();
            let _ = tx.send(Message::Saved { slot: index, instance, result, took, resident });
        });
    }

    /// Returns the slot that may have something to do now.
    fn on_message(&mut self, message: Message) -> Option<u32> {
        match message {
            Message::Stepped { slot, stepped_at, report, suspended, events } => {
                self.on_stepped(slot, stepped_at, report, suspended, events);
                Some(slot)
            }
            Message::Replies { slot, call, token, replies } => {
                self.on_replies(slot, call, token, replies);
                Some(slot)
            }
            Message::Saved { slot, instance, result, took, resident } => {
                self.on_saved(slot, instance, result, took, resident);
                Some(slot)
            }
            Message::Settled { slot: index, generation, result } => {
                let slot = &mut self.slots[index as usize];
                match result {
                    Ok(()) if generation == slot.generation => {
                        if let Phase::Suspended(Origin::Snapshot(snapshot)) = &mut slot.phase {
                            snapshot.settled();
                        }
                    }
                    Ok(()) => {}
                    Err(error) => tracing::warn!(
                        controller = &*slot.name,
                        %error,
                        "a snapshot could not be made durable: a crash of the machine would lose it"
                    ),
                }
                None
            }
        }
    }

    fn on_stepped(&mut self, index: u32, stepped_at: Duration, report: Report, suspended: bool, events: usize) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let name = slot.name.clone();
        let Report { instance, lost, outputs, failures, resume, step } = report;
        if let (Some(resume), true) = (resume, suspended) {
            tracing::info!(
                controller = &*name,
                events,
                resume_us = resume.as_micros() as u64,
                step_us = step.as_micros() as u64,
                "resumed"
            );
        }
        let mut effects = Vec::new();
        for failure in failures {
            emit_logs(&name, &failure.logs);
            let object = failure.culprit.map(|task| slot.controller.object_of(task)).unwrap_or_default();
            tracing::warn!(
                controller = &*name,
                cause = failure.cause.as_str(),
                object = &*object,
                detail = %failure.detail,
                "step failed"
            );
            if let Some(task) = failure.culprit {
                tracing::info!(
                    controller = &*name,
                    culprit = &*object,
                    replayed_steps = failure.replayed_steps,
                    "rolled back"
                );
                effects.extend(slot.controller.cancelled(task, now));
            }
        }
        let first_registration = slot.controller.registered();
        for output in outputs {
            emit_logs(&name, &output.logs);
            effects.extend(slot.controller.commit(output, stepped_at, now));
        }
        slot.phase = match instance {
            Some(instance) => Phase::Resident(instance),
            None => Phase::Suspended(Origin::Fresh),
        };
        let registrations = slot.controller.registered();
        if registrations > first_registration {
            tracing::info!(controller = &*name, registrations, from = "start", "controller ready");
        }
        for effect in effects {
            self.on_effect(index, effect);
        }
        if let Some(lost) = lost {
            self.restart(index, lost);
        }
    }

    /// The instance is gone: begin again from the base image.
    fn restart(&mut self, index: u32, lost: Lost) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let clock = slot.package.image().header.monotonic_ns;
        let failed = !matches!(lost, Lost::Snapshot(_));
        let calls = slot.controller.reset(failed, now, clock);
        let reason = match lost {
            Lost::Snapshot(reason) => {
                tracing::warn!(controller = &*slot.name, %reason, "snapshot rejected");
                reason
            }
            Lost::Start(reason) => reason,
            Lost::NoCulprit => "a step failed and no single reconcile could be blamed for it".into(),
        };
        let wait = slot.controller.held_until().map_or(Duration::ZERO, |t| t.saturating_sub(now));
        tracing::warn!(
            controller = &*slot.name,
            %reason,
            wait_ms = wait.as_millis() as u64,
            "restarted from base image"
        );
        for call in calls {
            self.on_effect(index, Effect::DropCall(call));
        }
        // What it knew is lost: every object is to be seen again.
        let mine: Vec<_> = self
            .subscriptions
            .iter()
            .flat_map(|(watch, subs)| subs.iter().filter(|s| s.slot == index).map(|s| (*watch, *s)))
            .collect();
        for (watch, subscription) in mine {
            self.hub.replay(watch, subscription.id());
        }
    }

    fn on_effect(&mut self, index: u32, effect: Effect) {
        let slot = &mut self.slots[index as usize];
        let controller = &*slot.name;
        match effect {
            Effect::Call(call) => self.request(index, call),
            Effect::DropCall(call) => {
                if let Some(request) = slot.requests.remove(&call) {
                    request.task.abort();
                }
            }
            Effect::Registered(registration) => self.watch(index, registration),
            Effect::Mapped { registration, keys } => {
                for key in keys {
                    self.enqueue_related(index, registration, key);
                }
            }
            Effect::Misbehaved(what) => tracing::warn!(controller, what, "the guest misused the runtime interface"),
            Effect::Reconciled { registration, key, outcome } => {
                let object = &*key;
                let ms = |d: Duration| d.as_millis() as u64;
                match outcome {
                    Outcome::Ok => tracing::info!(controller, registration, object, outcome = "ok", "reconciled"),
                    Outcome::Requeue(after) => tracing::info!(
                        controller,
                        registration,
                        object,
                        outcome = "requeue",
                        after_ms = ms(after),
                        "reconciled"
                    ),
                    Outcome::Error { message, retry_after } => tracing::warn!(
                        controller,
                        registration,
                        object,
                        outcome = "error",
                        error = %message,
                        after_ms = ms(retry_after),
                        "reconciled"
                    ),
                    Outcome::Cancelled { retry_after } => tracing::warn!(
                        controller,
                        registration,
                        object,
                        outcome = "cancelled",
                        after_ms = ms(retry_after),
                        "reconciled"
                    ),
                }
            }
        }
    }

    /// Sends a guest's request, if it may make it.
    fn request(&mut self, index: u32, call: Call) {
        let slot = &mut self.slots[index as usize];
        if !call.target.is_empty() {
            let why = format!("wasmop: external hosts are not supported, `{}` was not contacted", call.target);
            slot.controller.answer(call.id, EventKind::Failed, 0, why.into());
            return;
        }
        if let Err(denied) = slot.permissions.check(&call.method, &call.path) {
            tracing::warn!(
                controller = &*slot.name,
                request = %format!("{} {}", call.method, call.path),
                object = &*slot.controller.object_of(call.task),
                reason = %denied,
                help = %denied.help(),
                "permission denied"
            );
            let headers = Bytes::from_static(b"content-type: application/json\n");
            slot.controller.answer(call.id, EventKind::Head, 403, headers);
            slot.controller.answer(call.id, EventKind::Body, 0, denied.status_json().into());
            slot.controller.answer(call.id, EventKind::End, 0, Bytes::new());
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let credit = slot.credit.get_or_insert_with(|| Arc::new(Semaphore::new(RESPONSE_CREDIT))).clone();
        let (client, tx, id) = (self.client.clone(), self.tx.clone(), call.id);
        let api_call = ApiCall { method: call.method, path: call.path, headers: call.headers, body: call.body };
        let task = tokio::spawn(async move {
            requests::execute(&client, api_call, credit, |replies| {
                let _ = tx.send(Message::Replies { slot: index, call: id, token, replies });
            })
            .await;
        });
        slot.requests.insert(id, Request { token, task: task.abort_handle() });
    }

    fn on_replies(&mut self, index: u32, call: u64, token: u64, replies: Vec<Reply>) {
        let slot = &mut self.slots[index as usize];
        if slot.requests.get(&call).is_none_or(|r| r.token != token) {
            return;
        }
        for reply in replies {
            match reply {
                Reply::Head { status, headers } => {
                    slot.controller.answer(call, EventKind::Head, u32::from(status), headers.into());
                }
                Reply::Body(bytes) => {
                    slot.controller.answer(call, EventKind::Body, 0, bytes);
                }
                Reply::End => {
                    slot.controller.answer(call, EventKind::End, 0, Bytes::new());
                    slot.requests.remove(&call);
                }
                Reply::Failed(why) => {
                    slot.controller.answer(call, EventKind::Failed, 0, why.into());
                    slot.requests.remove(&call);
                }
            }
        }
        if slot.requests.is_empty() && slot.controller.is_idle() {
            slot.credit = None;
        }
    }

    fn on_saved(
        &mut self,
        index: u32,
        instance: Option<Box<Instance>>,
        result: io::Result<Saved>,
        took: Duration,
        resident: u64,
    ) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let suspended = instance.is_none();
        let mut saved = match result {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(
                    controller = &*slot.name,
                    %error,
                    "the snapshot could not be written: the controller stays in memory, trying again later"
                );
                slot.save_after = now + SAVE_RETRY;
                if let Some(instance) = instance {
                    slot.phase = Phase::Resident(instance);
                }
                return;
            }
        };
        let (tx, generation) = (self.tx.clone(), slot.generation);
        let done = move |result| {
            let _ = tx.send(Message::Settled { slot: index, generation, result });
        };
        self.syncer.submit(saved.job(Box::new(done)));
        slot.phase = match instance {
            Some(instance) => Phase::Resident(instance),
            None => {
                if slot.requests.is_empty() {
                    slot.credit = None;
                }
                Phase::Suspended(Origin::Snapshot(saved.snapshot.clone()))
            }
        };
        if suspended {
            tracing::info!(
                controller = &*slot.name,
                ram_bytes = slot.ram_bytes(),
                disk_bytes = saved.snapshot.disk_bytes,
                resident_bytes = resident,
                dirty_bytes = saved.dirty_bytes,
                written_bytes = saved.written_bytes,
                took_us = took.as_micros() as u64,
                in_flight = slot.controller.calls_in_flight() as u64,
                "suspended"
            );
        }
    }

    /// Watches what a registration asks for.
    fn watch(&mut self, index: u32, registration: u32) {
        let slot = &self.slots[index as usize];
        let (name, permissions) = (slot.name.clone(), slot.permissions.clone());
        let spec = slot.controller.registrations[registration as usize].spec.clone();
        let namespace = spec.namespace.clone().or_else(|| self.namespace.clone());
        let watches = spec.watches.iter().enumerate().map(|(n, w)| (Some(n as u16), w));
        for (watch, watched) in std::iter::once((None, &spec.primary)).chain(watches) {
            let request = WatchRequest::new(watched, namespace.as_deref());
            let allowed = permissions.may_watch(&watched.group, &watched.plural, namespace.as_deref());
            if let Err(denied) = allowed {
                tracing::warn!(
                    controller = &*name,
                    request = %format!("watch {}", watched.kind),
                    reason = %denied,
                    help = %denied.help(),
                    "permission denied"
                );
                continue;
            }
            let subscription = Subscription { slot: index, registration, watch };
            let id = self.hub.subscribe(request);
            if watch.is_none() {
                let primaries = &mut self.slots[index as usize].primaries;
                primaries.resize(primaries.len().max(registration as usize + 1), None);
                primaries[registration as usize] = Some(id);
            }
            let subscribers = self.subscriptions.entry(id).or_default();
            if !subscribers.is_empty() {
                self.hub.replay(id, subscription.id());
            }
            Arc::make_mut(subscribers).push(subscription);
        }
    }

    fn on_watch(&mut self, event: WatchEvent, touched: &mut BTreeSet<u32>) {
        let now = self.now();
        let subscribers = self.subscriptions.get(&event.watch).cloned().unwrap_or_default();
        for subscription in &*subscribers {
            if event.subscriber.is_some_and(|one| one != subscription.id()) {
                continue;
            }
            let slot = &mut self.slots[subscription.slot as usize];
            let Some(spec) =
                slot.controller.registrations.get(subscription.registration as usize).map(|r| r.spec.clone())
            else {
                continue;
            };
            if let Change::Waiting(waiting) = &event.change {
                tracing::warn!(
                    controller = &*slot.name,
                    resource = %waiting.resource,
                    reason = %waiting.message,
                    help = %waiting.help(),
                    "waiting for resource"
                );
                continue;
            }
            let watched = subscription.watch.map_or(&spec.primary, |n| &spec.watches[n as usize]);
            // A replay gives all objects as new: they are all to be seen.
            if !passes(watched.generation_changed, &event.change) {
                continue;
            }
            let relation = if subscription.watch.is_none() { Relation::Own } else { watched.relation };
            if relation == Relation::Map {
                if let Change::Applied { object: Some(object), .. } | Change::Deleted { object: Some(object), .. } =
                    &event.change
                {
                    let watch = u32::from(subscription.watch.unwrap_or(0));
                    let object = Bytes::copy_from_slice(object.as_bytes());
                    slot.controller.enqueue_map(subscription.registration, watch, object);
                    touched.insert(subscription.slot);
                }
                continue;
            }
            let namespaced = slot
                .primaries
                .get(subscription.registration as usize)
                .and_then(|id| self.hub.resolved((*id)?))
                .map(|r| r.namespaced);
            let primary = Primary { group: &spec.primary.group, kind: &spec.primary.kind, namespaced };
            for key in keys_for(relation, primary, &event.change) {
                if relation == Relation::Own {
                    let controller = &mut self.slots[subscription.slot as usize].controller;
                    controller.enqueue(subscription.registration, key, now);
                    touched.insert(subscription.slot);
                } else if self.enqueue_related(subscription.slot, subscription.registration, key) {
                    touched.insert(subscription.slot);
                }
            }
        }
    }

    /// Queues an object that a change of another one concerns, if it is among those the controller
    /// watches. One that isn't yet will be queued when it is.
    fn enqueue_related(&mut self, index: u32, registration: u32, key: Key) -> bool {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let primary = slot.primaries.get(registration as usize).copied().flatten();
        let watched = primary.is_some_and(|id| self.hub.contains(id, &key));
        if watched {
            slot.controller.enqueue(registration, key, now);
        }
        watched
    }
}

impl Slot {
    /// Bytes this controller holds in RAM while it is suspended: an account of its own structures.
    fn ram_bytes(&self) -> u64 {
        let own = size_of::<Slot>() - size_of::<Controller>();
        let requests = self.requests.len() * (size_of::<Request>() + 16);
        own as u64 + self.name.len() as u64 + requests as u64 + self.controller.ram_bytes()
    }
}
