//! A host under load while its network or its API server fails, and its recovery.
//!
//! ```text
//!             ┌──────────────────── a round ───────────────────┐
//! settled ──► load, and a fault for a while ──► fault ends ──► settled ──► …
//! ```
//!
//! A round passes if every object reaches its wanted state afterwards, the host lists no more often than the fault
//! explains, and it logs no problem except about the network. Over the run its memory must not grow.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::jiff::{Timestamp, ToSpan};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_testbed::host::Host;
use wasmop_testbed::log::{Log, Record};

use super::log_summary::LogSummary;
use super::workload::{self, POLL, Workload};
use crate::fault_proxy::{Fault, FaultProxy, Rule};
use crate::freezing_proxy::FreezingProxy;
use crate::guests::Guest;
use crate::process;
use crate::rows::{Rows, percentile};
use crate::test_cluster::{TIMEOUT, TestCluster};
use crate::wall_clock::WallClock;
use crate::wat_guest::Code;

/// The duration of a fault in milliseconds.
const FAULT_MS: std::ops::Range<u64> = 300..3000;
/// How long the load continues after the fault.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// The deadline after a fault, which includes the backoff of everything that failed.
const RECOVERY_TIMEOUT: Duration = TIMEOUT.saturating_mul(2);
/// Lists that one watch may start in one round. A cut watch continues where it was, or lists again with backoff (0.8 s
/// and more).
const LISTS_PER_WATCH: u64 = 8;
/// The allowed growth of the host over a run, compared with its size after the first rounds.
const GROWTH: u64 = 48 << 20;
/// Rounds after which the host is taken to have the size that this load causes.
const WARM_UP: u64 = 5;
/// Failed rounds after which the run gives up.
const MOST_FAILURES: usize = 5;

/// A controller of all Probes that does nothing. The narrower watches of the guests derive from its watch.
const BYSTANDER: &str = "bystander";

fn bystander() -> Result<Package> {
    let spec =
        r#"{"name":"bystander","primary":{"group":"e2e.wasmop.dev","version":"v1","kind":"Probe","plural":"probes"}}"#;
    Code { reconcile: "(call $finish (local.get $task))", spec: Some(spec.into()), ..Code::default() }
        .package(BYSTANDER, Limits::default())
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    Latency,
    SlowBodies,
    CutConnections,
    /// Requests and watches get no response.
    HalfOpen,
    TooManyRequests,
    ServerError,
    Unavailable,
    TruncatedBodies,
    TruncatedWatches,
    Garbage,
    WrongContentType,
    /// Watches get 410: their resource version is too old.
    Expired,
    ServerAway,
    /// Every open connection freezes for the rest of the run: no byte passes, and nothing is closed.
    Frozen,
    /// The host is stopped (SIGSTOP), and its clocks jump.
    Paused,
    /// The wall clock of the host is set an hour forward and back.
    ClockSteps,
}

const FAULT_KINDS: [FaultKind; 16] = [
    FaultKind::Latency,
    FaultKind::SlowBodies,
    FaultKind::CutConnections,
    FaultKind::HalfOpen,
    FaultKind::TooManyRequests,
    FaultKind::ServerError,
    FaultKind::Unavailable,
    FaultKind::TruncatedBodies,
    FaultKind::TruncatedWatches,
    FaultKind::Garbage,
    FaultKind::WrongContentType,
    FaultKind::Expired,
    FaultKind::ServerAway,
    FaultKind::Frozen,
    FaultKind::Paused,
    FaultKind::ClockSteps,
];

/// Consecutive offsets of the wall clock in seconds.
const STEPS: [i64; 4] = [3600, -3600, 1800, 0];

/// The state of a run.
pub struct FaultTorture {
    proxy: FaultProxy,
    /// Between the host and `proxy`.
    freezing: FreezingProxy,
    clock: WallClock,
    host: Host,
    workloads: Vec<Workload>,
    cluster: TestCluster,
    seed: u64,
    pub rounds: u64,
    pub failures: Vec<String>,
    objects: u64,
    recoveries: Vec<Duration>,
    memory: Option<u64>,
}

impl FaultTorture {
    /// Creates the objects of the guests, and starts a host that reaches the cluster through two proxies.
    pub async fn prepare(cluster: TestCluster, guests: Vec<Guest>, seed: u64) -> Result<FaultTorture> {
        cluster.create_crd().await?;
        let proxy = FaultProxy::start(cluster.client.clone()).await?;
        let mut packages: Vec<_> = guests.iter().map(|guest| guest.package.clone()).collect();
        packages.push(cluster.dir().join(format!("{BYSTANDER}.wasm")));
        std::fs::write(&packages[guests.len()], bystander()?.bytes())?;
        let freezing = FreezingProxy::start(proxy.address()).await?;
        let mut options = cluster.proxied_options(&proxy, "host", packages)?;
        let kubeconfig = proxy.kubeconfig().replace(&proxy.address().to_string(), &freezing.address().to_string());
        std::fs::write(&options.kubeconfig, kubeconfig)?;
        let clock = WallClock::new(cluster.dir())?;
        options.env = clock.environment();
        let mut workloads = Vec::new();
        for guest in guests {
            cluster.create_namespace(guest.name).await?;
            workloads.push(Workload::create(&cluster.client, guest).await?);
        }
        let host = Host::spawn(&options)?;
        Ok(FaultTorture {
            proxy,
            freezing,
            clock,
            host,
            workloads,
            cluster,
            seed,
            rounds: 0,
            failures: Vec::new(),
            objects: 0,
            recoveries: Vec::new(),
            memory: None,
        })
    }

    /// Runs rounds until the time is over, with each kind of fault at least once.
    pub async fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        self.settle(0).await.context("before the first fault")?;
        while Instant::now() < end || (self.rounds as usize) < FAULT_KINDS.len() {
            let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(self.rounds));
            let kind = match FAULT_KINDS.get(self.rounds as usize) {
                Some(each) => *each,
                None => FAULT_KINDS.choose(&mut rng).copied().unwrap_or(FaultKind::Latency),
            };
            self.rounds += 1;
            let begun = Instant::now();
            let result = self.round(kind, &mut rng).await;
            let took = begun.elapsed().as_secs_f64();
            match result {
                Ok(()) => println!("round {}: {kind:?}, {took:.1} s", self.rounds),
                Err(error) => {
                    println!("round {}: {kind:?}, {took:.1} s: FAILED: {error:#}", self.rounds);
                    let (round, seed, tail) = (self.rounds, self.seed, self.host.log.tail(25));
                    self.failures.push(format!("round {round} (seed {seed}, {kind:?}): {error:#}\n{tail}"));
                    if self.failures.len() >= MOST_FAILURES || self.host.ended().is_some() {
                        bail!("{} of {round} rounds have failed, giving up", self.failures.len());
                    }
                }
            }
        }
        let status = tokio::task::block_in_place(|| self.host.terminate())?;
        ensure!(status.success(), "the host ended with {status} after SIGTERM");
        Ok(())
    }

    async fn round(&mut self, kind: FaultKind, rng: &mut StdRng) -> Result<()> {
        let from = self.host.log.position()?;
        let lists = self.lists();
        let log = Mutex::new(Log::open(self.host.log.path())?);
        let (stop, stopped) = watch::channel(false);
        let mut workloads = std::mem::take(&mut self.workloads);
        let loads = workloads.iter_mut().map(|workload| {
            let (mut rng, log, stopped) = (StdRng::from_rng(rng), &log, stopped.clone());
            async move { workload.load(&mut rng, log, stopped).await }
        });
        let loads: Vec<_> = loads.collect();
        let lasts = Duration::from_millis(rng.random_range(FAULT_MS));
        let faulted = async {
            let result = self.inject(kind, lasts).await;
            sleep(AFTERWARDS).await;
            let _ = stop.send(true);
            result
        };
        let (faulted, loaded) = futures::join!(faulted, try_join_all(loads));
        self.workloads = workloads;
        loaded?;
        faulted?;
        let fault_ended = Instant::now();
        self.settle(from).await?;
        self.recoveries.push(fault_ended.elapsed());
        let watches = self.watches();
        let listed = self.lists() - lists;
        ensure!(listed <= watches * LISTS_PER_WATCH, "{listed} lists in one round, by {watches} watches");
        self.check_memory()
    }

    /// Injects a fault for this time.
    async fn inject(&mut self, kind: FaultKind, lasts: Duration) -> Result<()> {
        let status = |code, retry_after_seconds| Fault::Status { code, retry_after_seconds };
        let rule = match kind {
            FaultKind::Latency => Rule::new("", "", Fault::Delay(lasts / 4)),
            FaultKind::SlowBodies => Rule::new("", "", Fault::Slow { bytes: 512, pause: Duration::from_millis(20) }),
            FaultKind::HalfOpen => Rule::new("", "", Fault::Hold),
            FaultKind::TooManyRequests => Rule::new("", "", status(429, Some(1))),
            FaultKind::ServerError => Rule::new("", "", status(500, None)),
            FaultKind::Unavailable => Rule::new("", "", status(503, None)),
            FaultKind::TruncatedBodies => Rule::new("", "", Fault::Cut { after_bytes: 100 }),
            FaultKind::TruncatedWatches => Rule::new("GET", "watch=true", Fault::Cut { after_bytes: 700 }),
            FaultKind::Garbage => Rule::new("", "", Fault::Garbage),
            FaultKind::WrongContentType => Rule::new("", "", Fault::Html),
            FaultKind::Expired => Rule::new("GET", "resourceVersion=", status(410, None)),
            FaultKind::CutConnections => {
                let end = Instant::now() + lasts;
                while Instant::now() < end {
                    self.proxy.cut_connections().await;
                    sleep(Duration::from_millis(100)).await;
                }
                return Ok(());
            }
            FaultKind::ServerAway => {
                self.proxy.stop_accepting().await;
                sleep(lasts).await;
                return self.proxy.accept_again().await;
            }
            FaultKind::Frozen => {
                self.freezing.freeze();
                sleep(lasts).await;
                return Ok(());
            }
            FaultKind::Paused => {
                let pid = self.host.id().and_then(|id| Pid::from_raw(id as i32)).context("no host")?;
                kill_process(pid, Signal::STOP)?;
                sleep(lasts).await;
                return Ok(kill_process(pid, Signal::CONT)?);
            }
            FaultKind::ClockSteps => {
                for seconds in STEPS {
                    let from = self.host.log.position()?;
                    self.clock.step_to(seconds)?;
                    sleep(lasts / STEPS.len() as u32).await;
                    self.until_logged_at(from, seconds).await?;
                }
                return Ok(());
            }
        };
        let active = self.proxy.add(rule);
        // Cut watches reconnect, and meet the fault too.
        self.proxy.cut_connections().await;
        sleep(lasts).await;
        active.release();
        Ok(())
    }

    /// Waits until a log record has the new time, which proves that the clock was set.
    async fn until_logged_at(&mut self, from: usize, seconds: i64) -> Result<()> {
        let wanted = Timestamp::now() + seconds.seconds();
        let is_at = |record: &Record| {
            let at = record.text("timestamp").parse::<Timestamp>();
            at.is_ok_and(|at| at.duration_since(wanted).as_secs().abs() < 60)
        };
        let deadline = Instant::now() + TIMEOUT;
        while !self.host.log.records()?[from..].iter().any(is_at) {
            ensure!(Instant::now() < deadline, "no record has the time {wanted}: {}", self.host.log.tail(3));
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until every object has its wanted state. `from`: the position in the log where the round began.
    async fn settle(&mut self, from: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let records = self.host.log.records()?;
            if let Some(record) = records[from..].iter().find(|record| is_problem(record)) {
                bail!("the host logs a problem: {}", record.0);
            }
            let ready = LogSummary::by(records).ready;
            let summary = LogSummary { ready, ..LogSummary::by(&records[from..]) };
            if let Some(status) = self.host.ended() {
                bail!("the host ended by itself ({status})");
            }
            let pending = workload::all_pending(&mut self.workloads, &summary).await?;
            if pending.is_empty() {
                break;
            }
            if begun.elapsed() > RECOVERY_TIMEOUT {
                bail!("not in the wanted state after {RECOVERY_TIMEOUT:?}:\n  {}", pending.join("\n  "));
            }
            sleep(POLL).await;
        }
        let mut rng = StdRng::seed_from_u64(self.seed);
        self.objects += workload::all_settled(&mut self.workloads, &mut rng).await?;
        Ok(())
    }

    fn check_memory(&mut self) -> Result<()> {
        let now = process::memory(self.host.id().context("no host")?)?.pss;
        match self.memory {
            None if self.rounds >= WARM_UP => self.memory = Some(now),
            Some(before) if now > before + GROWTH => {
                bail!("the host has {now} bytes, after {WARM_UP} rounds it had {before}")
            }
            _ => {}
        }
        Ok(())
    }

    /// Lists that the host has started. Guests list nothing.
    fn lists(&self) -> u64 {
        self.collections().map(|(_, count)| count).sum()
    }

    /// Collections that the host watches.
    fn watches(&self) -> u64 {
        self.collections().count() as u64
    }

    fn collections(&self) -> impl Iterator<Item = (String, u64)> {
        let is_collection = |path: &str| path.ends_with("/probes") || path.ends_with("/configmaps");
        let counts = self.proxy.list_counts().into_iter();
        counts.filter(move |(path, _)| is_collection(path))
    }

    pub fn rows(&self, took: Duration) -> Rows {
        let mut rows = Rows::new("torture-faults");
        let at = (Some(self.rounds), None);
        let mut recoveries: Vec<f64> = self.recoveries.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        recoveries.sort_by(f64::total_cmp);
        rows.push("all", at, "rounds_failed", "count", self.failures.len() as f64);
        rows.push("all", at, "objects_converged", "count", self.objects as f64);
        rows.push("all", at, "lists", "count", self.lists() as f64);
        rows.push("all", at, "recovery_p50", "ms", percentile(&recoveries, 50));
        rows.push("all", at, "recovery_p99", "ms", percentile(&recoveries, 99));
        rows.push("all", at, "seconds", "s", took.as_secs_f64());
        rows
    }

    /// Stops everything, and keeps the files.
    pub fn keep_files(self) -> std::path::PathBuf {
        drop(self.host);
        self.cluster.keep_files()
    }
}

/// Whether a record reports a problem that no network fault causes: of guests, steps or snapshots.
fn is_problem(record: &Record) -> bool {
    const MESSAGES: [&str; 5] = [
        "step failed",
        "rolled back",
        "restarted from base image",
        "snapshot rejected",
        "the guest misused the runtime interface",
    ];
    match record.text("target") {
        "guest" => record.message().contains("panicked"),
        _ => record.text("level") == "RAW" || MESSAGES.contains(&record.message()),
    }
}
