//! One run: a seed, a world, what happens in it, and what came of it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wasmop_core::control_loop::{Authorization, Settings};
use wasmop_core::permissions::Grant;
use wasmop_policy::Policy;

use crate::cluster::{Kind, join};
use crate::disk::Disk;
use crate::faults::Fault;
use crate::guest::program::SOURCE_LABEL;
use crate::host::{self, Command, Inspection, Running};
use crate::ledger::WatchPosition;
use crate::observer::{Fingerprint, Invariant, Observer, Violation};
use crate::plant::Plant;
use crate::random::Random;
use crate::scenario::{Op, Scenario};
use crate::server::Server;
use crate::settled::{first_wrong, selects};
use crate::world::World;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_secs(5);
/// How long it may take after all trouble until everything is settled: the longest backoff of an object, and some.
const SETTLE: Duration = Duration::from_secs(1500);
/// Work that is due later than this after the end is ignored.
const MOST_DUE: Duration = Duration::from_secs(2 * 3600);

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Every line goes to stdout.
    pub prints: bool,
    /// A bug.
    pub plant: Option<Plant>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// To compare runs of one seed.
    pub fingerprint: Fingerprint,
    /// The last lines of the log.
    pub last_lines: Vec<String>,
    /// How long it took in the world.
    pub took: Duration,
}

/// Has panics noted instead of printed. To be called once in a process.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// Runs a seed.
///
/// # Panics
/// There can be no runtime.
pub fn run(seed: u64, options: RunOptions) -> Outcome {
    PANIC.set(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run_in(seed, options))));
    drop(runtime);
    let panic = PANIC.take();
    let violation = |message| Some(Violation { invariant: Invariant::NoPanic, message, at: Duration::ZERO });
    match outcome {
        Ok(mut outcome) => {
            if let Some(message) = panic {
                outcome.violation = outcome.violation.or_else(|| violation(message));
            }
            outcome
        }
        Err(_) => Outcome {
            violation: violation(panic.unwrap_or_default()),
            fingerprint: Fingerprint { hash: 0, lines: 0 },
            last_lines: Vec::new(),
            took: Duration::ZERO,
        },
    }
}

async fn run_in(seed: u64, options: RunOptions) -> Outcome {
    let scenario = Scenario::new(seed);
    let mut random = Random::new(!seed);
    let observer = Arc::new(Observer::new(options.prints));
    let drops_writes = options.plant == Some(Plant::DropWrites);
    let server = Server::new(scenario.traits, random.fork(), observer.clone(), drops_writes);
    let world = Arc::new(World {
        server,
        observer: observer.clone(),
        ledger: Mutex::default(),
        programs: scenario.programs.clone(),
        options: scenario.options.clone(),
        has_peers: scenario.hosts > 1,
        holders: Mutex::default(),
        wall_offset: Mutex::new(0),
        plant: options.plant,
    });
    if options.prints {
        println!("{scenario:#?}");
    }
    let mut driver = Driver { world, hosts: Vec::new(), random, names: 0 };
    tokio::select! {
        biased;
        () = observer.failed.notified() => {}
        result = driver.drive(&scenario) => {
            if let Err(error) = result {
                observer.violate(Invariant::NoPanic, format_args!("{error:#}"));
            }
        }
    }
    Outcome {
        violation: observer.violation(),
        fingerprint: observer.fingerprint(),
        last_lines: observer.last_lines(),
        took: observer.now(),
    }
}

struct Machine {
    disk: Arc<Mutex<Disk>>,
    running: Option<Running>,
    /// When it is started again, in the world.
    starts_at: Duration,
}

struct Driver {
    world: Arc<World>,
    hosts: Vec<Machine>,
    random: Random,
    /// Objects that were created.
    names: u64,
}

impl Driver {
    fn now(&self) -> Duration {
        self.world.server.now()
    }

    async fn drive(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        for _ in 0..scenario.objects {
            self.create();
        }
        for _ in 0..scenario.hosts {
            let disk = Arc::new(Mutex::new(Disk::new()?));
            self.hosts.push(Machine { disk, running: None, starts_at: Duration::ZERO });
        }
        self.start_hosts()?;
        for (gap, op) in &scenario.ops {
            self.pass(*gap).await?;
            self.carry_out(op).await?;
        }
        self.settle().await
    }

    fn start_hosts(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        for index in 0..self.hosts.len() {
            let machine = &mut self.hosts[index];
            if machine.running.is_none() && machine.starts_at <= now {
                machine.running = Some(host::start(&self.world, index, &machine.disk, self.random.fork())?);
            }
        }
        Ok(())
    }

    /// Time passes; hosts whose time has come start.
    async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = self.now() + time;
        loop {
            self.start_hosts()?;
            let now = self.now();
            if now >= until {
                return Ok(());
            }
            let starts = self.hosts.iter().filter(|it| it.running.is_none()).map(|it| it.starts_at).min();
            // Nothing happens while nobody is there.
            let tick = if self.hosts.iter().any(|it| it.running.is_some()) { TICK } else { time };
            let next = until.min(now + tick).min(starts.unwrap_or(until).max(now));
            sleep(next - now).await;
            self.look();
        }
    }

    /// What has to hold at all times, and what the cluster does by itself.
    fn look(&mut self) {
        let now = self.now();
        self.world.server.change(|cluster, now| cluster.collect_garbage(now));
        let programs = &self.world.programs;
        let is_good = |name: &str| programs.iter().any(|program| program.is_good && *program.name == *name);
        let cluster = self.world.server.cluster();
        let exists = |(controller, index, key): &WatchPosition| {
            let program = programs.iter().find(|program| program.name == *controller);
            let registration = program.and_then(|program| program.registrations.get(*index));
            registration.is_some_and(|registration| {
                let object = cluster.get(registration.primary, key);
                object.is_some_and(|object| selects(&registration.spec.primary, object))
            })
        };
        let mut ledger = self.world.ledger();
        ledger.drop_gone(exists);
        ledger.check(now, is_good, exists, &self.world.observer);
        drop((ledger, cluster));
        for machine in &self.hosts {
            if machine.running.as_ref().is_some_and(Running::has_ended) {
                self.world.observer.violate(Invariant::NoPanic, format_args!("a host has ended by itself"));
            }
        }
    }

    fn note(&self, op: &Op) {
        self.world.observer.note(format_args!("--- {op:?}"));
    }

    async fn carry_out(&mut self, op: &Op) -> anyhow::Result<()> {
        self.note(op);
        let now = self.now();
        let trouble = |until: Duration| self.world.ledger().trouble(until);
        match *op {
            Op::User => self.user(),
            Op::Fault(fault, time) => {
                trouble(now + time);
                self.world.server.disturb(|faults, now| faults.begin(fault, now + time));
            }
            Op::Missing(kind, time) => {
                trouble(now + time);
                self.world.server.disturb(|faults, now| {
                    faults.missing = Some(kind);
                    faults.begin(Fault::MissingKind, now + time);
                });
            }
            Op::Cut => self.world.server.disturb(|faults, _| faults.cuts += 1),
            Op::Compact => self.world.server.change(|cluster, _| cluster.compact()),
            Op::Checkpoint => self.world.server.cluster().checkpoint(),
            Op::Restore => {
                // As etcd's documentation asks for Kubernetes, or as people do it who have not read it.
                let bumps = self.random.percent(50);
                if self.world.server.restore(bumps) {
                    // The API server is started anew.
                    let time = self.random.duration(Duration::from_secs(1), Duration::from_secs(20));
                    trouble(now + time);
                    self.world.server.disturb(|faults, now| faults.begin(Fault::Down, now + time));
                }
            }
            Op::Kill { host, power, downtime } => self.kill(host, power, downtime).await,
            Op::Shutdown { host, downtime } => self.shut_down(host, downtime).await?,
            Op::Pause { host, time } => {
                trouble(now + time);
                self.world.server.disturb(|faults, now| faults.pause(host, now + time));
            }
            Op::CutOff { host, time } => {
                trouble(now + time);
                self.world.server.disturb(|faults, now| faults.cut_off(host, now + time));
            }
            Op::WallJump(seconds) => {
                *self.world.wall_offset.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
            }
            Op::DiskFull { host, time } => {
                trouble(now + time);
                self.disk(host, |disk| disk.full_until = now + time);
            }
            Op::DiskSlow { host, time } => {
                trouble(now + time);
                self.disk(host, |disk| disk.slow_until = now + time);
            }
            Op::MemoryPressure { host } => self.command(host, Command::MemoryPressure),
            Op::Settings { host } => {
                let settings = self.settings();
                self.command(host, Command::Settings(Box::new(settings)));
            }
        }
        Ok(())
    }

    fn disk(&self, host: usize, change: impl FnOnce(&mut Disk)) {
        change(&mut self.hosts[host].disk.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn command(&self, host: usize, command: Command) {
        if let Some(running) = &self.hosts[host].running {
            let _ = running.commands.send(command);
        }
    }

    fn settings(&mut self) -> Settings {
        let random = &mut self.random;
        let policies = [Policy::Immediate, Policy::Adaptive, Policy::Never];
        let policy = *random.pick(&policies);
        let controllers = self.world.programs.iter().map(|program| {
            let mut grant = Grant::all();
            if random.percent(30) {
                grant.rules = Some(Vec::new().into());
                self.world.ledger().forget(&program.name);
            }
            (program.name.to_string(), Authorization { policy: None, grant })
        });
        let controllers = controllers.collect();
        let memory_budget = self.random.percent(30).then(|| self.random.between(1 << 20, 8 << 20));
        let cache_memory = self.random.percent(30).then(|| self.random.between(0, 4000));
        Settings { policy, memory_budget, cache_memory, guest_log_level: None, controllers }
    }

    fn stopped(&mut self, host: usize, downtime: Duration) {
        self.hosts[host].starts_at = self.now() + downtime;
        self.world.let_go(host);
        if !self.world.has_peers {
            let mut ledger = self.world.ledger();
            self.world.programs.iter().for_each(|program| ledger.down(&program.name));
        }
    }

    async fn kill(&mut self, host: usize, power: bool, downtime: Duration) {
        let Some(running) = self.hosts[host].running.take() else { return };
        running.kill().await;
        let mut random = self.random.fork();
        self.disk(host, |disk| disk.crash(power, &mut random));
        self.stopped(host, downtime);
    }

    async fn shut_down(&mut self, host: usize, downtime: Duration) -> anyhow::Result<()> {
        let Some(running) = &self.hosts[host].running else { return Ok(()) };
        let _ = running.commands.send(Command::Shutdown);
        for _ in 0..120 {
            if self.hosts[host].running.as_ref().is_some_and(Running::has_ended) {
                break;
            }
            sleep(Duration::from_millis(500)).await;
        }
        if self.hosts[host].running.as_ref().is_some_and(|running| !running.has_ended()) {
            // It is paused.
            let until = self.world.server.faults().paused_until(host);
            sleep(until.saturating_sub(self.now()) + Duration::from_secs(60)).await;
        }
        if let Some(running) = self.hosts[host].running.take() {
            if !running.has_ended() {
                self.world.observer.violate(Invariant::Progress, format_args!("host {host} does not shut down"));
            }
            running.kill().await;
        }
        self.stopped(host, downtime);
        Ok(())
    }

    fn create(&mut self) {
        let random = &mut self.random;
        let kind = *random.pick(&[Kind::Website, Kind::Website, Kind::Zone, Kind::ConfigMap, Kind::Secret]);
        // Names come again now and then.
        let name = format!("n{}", random.below(10));
        self.names += 1;
        let namespace = kind.namespaced().then(|| *random.pick(&["a", "b"]));
        let key = join(namespace, &name);
        let mut meta = json!({"name": name});
        if random.percent(60) {
            meta["labels"] = json!({"app": *random.pick(&["x", "y"])});
        }
        let value = random.between(1, 1000);
        let body = match kind {
            Kind::ConfigMap => {
                meta["labels"] = json!({SOURCE_LABEL: "true"});
                let targets = format!("n{},n{}", random.below(10), random.below(10));
                json!({"metadata": meta, "data": {"value": value.to_string(), "targets": targets}})
            }
            _ => json!({"metadata": meta, "spec": {"value": value}}),
        };
        let nobody: Arc<str> = "".into();
        let _ = self.world.server.change(|cluster, now| cluster.create(kind, key, body, &nobody, now));
    }

    /// Somebody changes something.
    fn user(&mut self) {
        let nobody: Arc<str> = "".into();
        let all: Vec<_> = {
            let cluster = self.world.server.cluster();
            let theirs = cluster.objects.values().filter(|object| object.kind != Kind::Lease && !object.deleting);
            let is_free = |key: &str| self.world.programs.iter().all(|it| it.watches_children() || !it.has_child(key));
            theirs.filter(|it| is_free(&it.key)).map(|object| (object.kind, object.key.clone())).collect()
        };
        let what = self.random.below(100);
        if all.is_empty() || what < 20 {
            return self.create();
        }
        let (kind, key) = self.random.pick(&all).clone();
        let value = self.random.between(1, 1000);
        let spec = match kind {
            Kind::ConfigMap => json!({"data": {"value": value.to_string()}}),
            _ => json!({"spec": {"value": value}}),
        };
        let server = self.world.server.clone();
        let patch = |body| {
            let _ = server.change(|cluster, now| cluster.update(kind, &key, body, true, &nobody, now));
        };
        match what {
            20..65 => patch(spec),
            65..75 => patch(json!({"metadata": {"labels": {"app": *self.random.pick(&["x", "y"])}}})),
            75..80 => {
                let targets = format!("n{}", self.random.below(10));
                patch(json!({"data": {"targets": targets}}));
            }
            80..85 => patch(json!({"status": {"other": value}})),
            _ => {
                let _ = server.change(|cluster, now| cluster.delete(kind, &key, None, &nobody, now));
            }
        }
    }

    async fn inspect(&self) -> Vec<Vec<Inspection>> {
        let mut all = Vec::new();
        for running in self.hosts.iter().filter_map(|machine| machine.running.as_ref()) {
            let (tx, rx) = oneshot::channel();
            let _ = running.commands.send(Command::Inspect(tx));
            all.extend(rx.await);
        }
        all
    }

    /// Nothing goes wrong any more: everything has to come right.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.world.observer.note(format_args!("--- calm"));
        let now = self.now();
        self.world.ledger().trouble(now);
        self.world.server.disturb(|faults, _| faults.end_all());
        for host in 0..self.hosts.len() {
            self.disk(host, |disk| {
                (disk.full_until, disk.slow_until) = Default::default();
                // A controller that is resumed often while it waits would lose its memory again and again.
                disk.is_sound = true;
            });
            self.hosts[host].starts_at = now;
        }
        self.start_hosts()?;
        for host in 0..self.hosts.len() {
            let grants =
                |program: &Arc<crate::guest::program::Program>| (program.name.to_string(), Authorization::default());
            let controllers = self.world.programs.iter().map(grants).collect();
            let settings = Settings { policy: self.world.options.policy, controllers, ..Settings::default() };
            self.command(host, Command::Settings(Box::new(settings)));
        }
        let mut patience = SETTLE;
        loop {
            self.pass(TICK).await?;
            let inspections = self.inspect().await;
            let wrong = {
                let cluster = self.world.server.cluster();
                first_wrong(&cluster, &self.world.ledger(), &self.world.programs, &inspections)
            };
            let Some((invariant, message)) = wrong else { break };
            patience = patience.saturating_sub(TICK);
            if patience.is_zero() {
                self.world.observer.violate(invariant, format_args!("{message}"));
                return Ok(());
            }
        }
        self.wait_for_dues().await?;
        self.world.observer.note(format_args!("--- end"));
        Ok(())
    }

    /// What is due now has to come.
    async fn wait_for_dues(&mut self) -> anyhow::Result<()> {
        let programs = self.world.programs.clone();
        let is_good = |name: &str| programs.iter().any(|program| program.is_good && *program.name == *name);
        let Some(due) = self.world.ledger().last_due(is_good) else { return Ok(()) };
        let left = due.saturating_sub(self.now());
        if left <= MOST_DUE {
            self.pass(left + Duration::from_secs(100)).await?;
        }
        Ok(())
    }
}
