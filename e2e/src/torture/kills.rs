//! A host under load that is killed at random moments, and the host that starts after it.
//!
//! ```text
//!             ┌────────────────────────── a round ───────────────────────────┐
//! settled ──► load, or a change ──► SIGKILL ──► files ───────► start ──► settled ──► …
//!             workload              kill_point  snapshot_files (sometimes    log_summary,
//!                                                               killed too)  workload
//! ```
//!
//! A round passes if every object reaches its wanted state, the memory of each controller has every count from before
//! its last suspension, and the host logs no problem.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Log;

use super::kill_point::{HostEnd, KillPoint, Phase, PhaseDurations};
use super::log_summary::{LogSummary, first_problem};
use super::snapshot_files::SnapshotFiles;
use super::tally::Tally;
use super::workload::{self, POLL, Workload};
use crate::guests::Guest;
use crate::test_cluster::{TIMEOUT, TestCluster};
use crate::wall_clock::WallClock;
/// Idle times that are shorter than the pauses of the load. The shortest one starts a snapshot while the one before
/// waits for its fsync.
const SUSPEND_AFTER_MS: [u64; 3] = [10, 40, 100];
/// Seconds by which the wall clock of a host is ahead. The next host may see it set back.
const CLOCKS: [i64; 4] = [0, 0, 60, 3600];
/// One round in five kills a host that was never ready.
const ROUNDS_PER_FIRST_START: u64 = 5;
/// The most rounds of that kind.
const MOST_FIRST_STARTS: u64 = 5;
/// Failed rounds after which the run gives up.
const MOST_FAILURES: usize = 10;
/// How long to wait until all controllers are suspended, before a change resumes them.
const QUIET: Duration = Duration::from_secs(1);
/// Log records in a report.
const TAIL: usize = 25;

/// The phases of the other rounds, by weight.
const PHASES: [(Phase, u32); 5] =
    [(Phase::Load, 25), (Phase::Snapshot, 25), (Phase::Start, 20), (Phase::Resume, 15), (Phase::Shutdown, 15)];

/// The state of a run.
pub struct KillTorture {
    cluster: TestCluster,
    options: HostOptions,
    clock: WallClock,
    host: Option<Host>,
    starts: u32,
    workloads: Vec<Workload>,
    durations: PhaseDurations,
    seed: u64,
    tally: Tally,
}

impl KillTorture {
    /// Creates the objects of the guests. No host runs yet.
    pub async fn prepare(cluster: TestCluster, guests: Vec<Guest>, seed: u64) -> Result<KillTorture> {
        cluster.create_crd().await?;
        let mut options = cluster.host_options("host", guests.iter().map(|guest| guest.package.clone()).collect())?;
        let clock = WallClock::new(cluster.dir())?;
        options.env = clock.environment();
        let mut workloads = Vec::new();
        for guest in guests {
            cluster.create_namespace(guest.name).await?;
            workloads.push(Workload::create(&cluster.client, guest).await?);
        }
        let (durations, tally) = (PhaseDurations::default(), Tally::default());
        Ok(KillTorture { cluster, options, clock, host: None, starts: 0, workloads, durations, seed, tally })
    }

    /// Runs all rounds. After a failed one, the next starts with a new state directory.
    pub async fn run(&mut self, rounds: u64) -> Result<()> {
        let first_starts = (rounds / ROUNDS_PER_FIRST_START).min(MOST_FIRST_STARTS);
        for round in 1..=rounds {
            let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(round));
            let phase = if round <= first_starts { Phase::FirstStart } else { draw_phase(&mut rng) };
            let begun = Instant::now();
            let result = self.round(phase, &mut rng).await;
            self.tally.rounds += 1;
            let took = begun.elapsed().as_secs_f64();
            let Err(error) = result else {
                self.tally.passed += 1;
                println!("round {round}: {}, {took:.1} s", phase.name());
                continue;
            };
            let tail = self.host.as_mut().map(|host| host.log.tail(TAIL)).unwrap_or_default();
            let kept = self.set_aside(round).await?;
            let seed = self.seed;
            let failure = format!(
                "round {round} (seed {seed}, {}): {error:#}\nlog and state of the host: {}\n{tail}",
                phase.name(),
                kept.display()
            );
            println!("round {round}: {}, {took:.1} s: FAILED: {error:#}", phase.name());
            self.tally.failures.push(failure.trim_end().to_owned());
            if self.tally.failures.len() >= MOST_FAILURES {
                bail!("{MOST_FAILURES} of {round} rounds have failed, giving up");
            }
        }
        let end = self.end().await;
        if let Err(error) = end {
            self.tally.failures.push(format!("the end (seed {}): {error:#}", self.seed));
        }
        Ok(())
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Stops everything, and keeps the files.
    pub fn keep_files(self) -> PathBuf {
        drop(self.host);
        self.cluster.keep_files()
    }

    async fn round(&mut self, phase: Phase, rng: &mut StdRng) -> Result<()> {
        if phase == Phase::FirstStart {
            self.spawn(rng).await?;
            self.kill(phase, rng).await?;
            self.host = None;
            return Ok(());
        }
        if self.host.is_none() {
            self.spawn(rng).await?;
            self.settle(rng).await.context("before the kill")?;
        }
        let mut left = match phase {
            Phase::Resume => self.kill_resuming(rng).await?,
            // A host that is killed during its start follows one that was killed under load.
            Phase::Start => self.kill_loaded(Phase::Load, rng).await?,
            _ => self.kill_loaded(phase, rng).await?,
        };
        // Objects change while no host is up.
        for workload in &mut self.workloads {
            for _ in 0..rng.random_range(0..3) {
                workload.step(rng).await?;
            }
        }
        if phase == Phase::Start {
            self.spawn(rng).await?;
            let before = std::mem::take(&mut left);
            left = self.kill(Phase::Start, rng).await?;
            for ((before, now), workload) in before.iter().zip(&left).zip(&self.workloads) {
                let guest = workload.guest.name;
                ensure!(
                    !before.has_whole() || now.has_whole(),
                    "{guest} had {before:?}, the killed start left {now:?}"
                );
            }
        } else if rng.random_ratio(1, 10) {
            self.forget(rng.random_range(0..self.workloads.len()), &mut left)?;
        }
        self.spawn(rng).await?;
        self.settle(rng).await?;
        self.check_starts(&left)
    }

    async fn spawn(&mut self, rng: &mut StdRng) -> Result<()> {
        try_join_all(self.workloads.iter_mut().map(Workload::begun)).await?;
        let millis = SUSPEND_AFTER_MS.choose(rng).copied().unwrap_or_default();
        self.options.suspend_after = Some(Duration::from_millis(millis));
        self.clock.step_to(CLOCKS.choose(rng).copied().unwrap_or(0))?;
        self.starts += 1;
        let before =
            std::mem::replace(&mut self.options.log, self.cluster.dir().join(format!("host-{}.log", self.starts)));
        self.host = Some(Host::spawn(&self.options)?);
        // The log of the last round, which passed. The first round has none.
        match fs::remove_file(before) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills the host under load.
    async fn kill_loaded(&mut self, phase: Phase, rng: &mut StdRng) -> Result<Vec<SnapshotFiles>> {
        let log = Mutex::new(Log::open(&self.options.log)?);
        let (stop, stopped) = watch::channel(false);
        let mut workloads = std::mem::take(&mut self.workloads);
        let loads = workloads.iter_mut().map(|workload| {
            let (mut rng, log, stopped) = (StdRng::from_rng(rng), &log, stopped.clone());
            async move { workload.load(&mut rng, log, stopped).await }
        });
        let loads: Vec<_> = loads.collect();
        let kill = async {
            let left = self.kill(phase, rng).await;
            let _ = stop.send(true);
            left
        };
        let (left, loaded) = futures::join!(kill, try_join_all(loads));
        self.workloads = workloads;
        loaded?;
        self.account()?;
        left
    }

    /// Waits until all controllers are suspended, changes their objects, and kills the host soon afterwards.
    async fn kill_resuming(&mut self, rng: &mut StdRng) -> Result<Vec<SnapshotFiles>> {
        let log = Mutex::new(Log::open(&self.options.log)?);
        try_join_all(self.workloads.iter_mut().map(|workload| workload.observe(&log))).await?;
        let observed = self.host()?.log.position()?;
        let deadline = Instant::now() + QUIET;
        loop {
            let summary = LogSummary::by(self.host()?.log.records()?);
            let all =
                self.workloads.iter().all(|w| summary.suspended.get(w.guest.name).is_some_and(|at| *at >= observed));
            if all || Instant::now() > deadline {
                break;
            }
            sleep(POLL).await;
        }
        let mut workloads = std::mem::take(&mut self.workloads);
        let changes = workloads.iter_mut().map(|workload| {
            let mut rng = StdRng::from_rng(rng);
            async move { workload.nudge(&mut rng).await }
        });
        let changes: Vec<_> = changes.collect();
        let (left, changed) = futures::join!(self.kill(Phase::Resume, rng), try_join_all(changes));
        self.workloads = workloads;
        changed?;
        self.account()?;
        left
    }

    /// Kills the host at a random moment of a phase, and inspects the files it leaves.
    async fn kill(&mut self, phase: Phase, rng: &mut StdRng) -> Result<Vec<SnapshotFiles>> {
        let kill_point = KillPoint::draw(phase, &self.durations, rng);
        let controllers = self.controllers_dir();
        let mut host = self.host.take().context("no host")?;
        let mut durations = self.durations;
        let killing = tokio::task::spawn_blocking(move || {
            let end = kill_point.kill(&mut host, &controllers, &mut durations);
            (host, durations, end)
        });
        let (host, durations, end) = killing.await?;
        self.durations = durations;
        let host = self.host.insert(host);
        let end = end?;
        let records = host.log.records()?;
        self.tally.host(&LogSummary::by(records));
        if let Some(record) = first_problem(records) {
            bail!("the killed host had logged a problem: {}", record.0);
        }
        match end {
            HostEnd::Killed => self.tally.killed(phase),
            HostEnd::Finished => {
                self.tally.finished += 1;
                try_join_all(self.workloads.iter_mut().map(Workload::finished)).await?;
            }
        }
        self.inspect_files()
    }

    /// Updates the counts that the guests' memories must have after the restart.
    fn account(&mut self) -> Result<()> {
        let summary = LogSummary::by(self.host()?.log.records()?);
        self.workloads.iter_mut().for_each(|workload| workload.killed(&summary));
        Ok(())
    }

    /// The snapshots on disk. It is an error if a controller has only torn ones.
    fn inspect_files(&mut self) -> Result<Vec<SnapshotFiles>> {
        let controllers = self.controllers_dir();
        let mut left = Vec::new();
        for guest in self.options.packages.iter().filter_map(|package| package.file_stem()) {
            let found = SnapshotFiles::in_dir(&controllers.join(guest))?;
            self.tally.found(&found);
            ensure!(!found.is_lost(), "the snapshot of {} is torn, and there is no other", guest.display());
            left.push(found);
        }
        Ok(left)
    }

    /// Removes a controller's directory, so that it starts from scratch and writes all its files again.
    fn forget(&mut self, index: usize, left: &mut [SnapshotFiles]) -> Result<()> {
        let workload = &mut self.workloads[index];
        let dir = self.options.state_dir.join("controllers").join(workload.guest.name);
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        workload.forget();
        left[index] = SnapshotFiles::default();
        self.tally.forgotten += 1;
        Ok(())
    }

    /// Waits until every object has its wanted state, then checks the guests' memories.
    async fn settle(&mut self, rng: &mut StdRng) -> Result<()> {
        let begun = Instant::now();
        let mut is_ready = false;
        loop {
            // The log is read first, so that the state of the API server is newer.
            let host = self.host.as_mut().context("no host")?;
            let summary = LogSummary::by(host.log.records()?);
            if let Some(record) = first_problem(host.log.records()?) {
                bail!("the host logs a problem: {}", record.0);
            }
            if let Some(status) = host.ended() {
                bail!("the host ended by itself ({status})");
            }
            if !is_ready && self.workloads.iter().all(|workload| summary.ready.contains_key(workload.guest.name)) {
                is_ready = true;
                self.durations.started_in(begun.elapsed());
            }
            let pending = workload::all_pending(&mut self.workloads, &summary).await?;
            if pending.is_empty() {
                break;
            }
            if begun.elapsed() > TIMEOUT {
                bail!("not in the wanted state after {TIMEOUT:?}:\n  {}", pending.join("\n  "));
            }
            sleep(POLL).await;
        }
        self.tally.recovered(begun.elapsed());
        self.tally.objects += workload::all_settled(&mut self.workloads, rng).await?;
        Ok(())
    }

    /// Checks that every controller with a whole snapshot has started from it.
    fn check_starts(&mut self, left: &[SnapshotFiles]) -> Result<()> {
        let summary = LogSummary::by(self.host()?.log.records()?);
        for (workload, found) in self.workloads.iter().zip(left) {
            let guest = workload.guest.name;
            let from = summary.ready.get(guest).map_or("", String::as_str);
            let wanted = if found.has_whole() { "snapshot" } else { "start" };
            ensure!(from == wanted, "{guest} started from its {from}, with these files: {found:?}");
        }
        Ok(())
    }

    /// Stops the last host, and checks that the cluster has no orphans.
    async fn end(&mut self) -> Result<()> {
        if let Some(mut host) = self.host.take() {
            let status = tokio::task::block_in_place(|| host.terminate())?;
            ensure!(status.success(), "the last host ended with {status} after SIGTERM");
            if let Some(record) = first_problem(host.log.records()?) {
                bail!("the last host had logged a problem: {}", record.0);
            }
        }
        if !self.cluster.binaries.has_controller_manager() {
            return Ok(());
        }
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let orphans = try_join_all(self.workloads.iter().map(Workload::orphans)).await?.concat();
            if orphans.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "children without owners after {TIMEOUT:?}: {orphans:?}");
            sleep(POLL).await;
        }
    }

    /// Moves the files of a failed round aside, and resets the objects. Returns the directory of the files.
    async fn set_aside(&mut self, round: u64) -> Result<PathBuf> {
        let kept = self.cluster.dir().join(format!("round-{round}"));
        fs::create_dir_all(&kept)?;
        if let Some(mut host) = self.host.take() {
            host.kill()?;
        }
        for path in [&self.options.log, &self.options.state_dir] {
            if path.exists() {
                fs::rename(path, kept.join(path.file_name().context("no name")?))?;
            }
        }
        try_join_all(self.workloads.iter_mut().map(Workload::reset)).await?;
        Ok(kept)
    }

    fn controllers_dir(&self) -> PathBuf {
        self.options.state_dir.join("controllers")
    }

    fn host(&mut self) -> Result<&mut Host> {
        self.host.as_mut().context("no host")
    }
}

fn draw_phase(rng: &mut impl Rng) -> Phase {
    let mut dice = rng.random_range(0..PHASES.iter().map(|(_, weight)| weight).sum());
    for (phase, weight) in PHASES {
        if dice < weight {
            return phase;
        }
        dice -= weight;
    }
    Phase::Load
}
