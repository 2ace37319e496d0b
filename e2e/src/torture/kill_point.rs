//! The moment at which a host is killed: a phase of its life, and a random time within it.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use rand::Rng;
use wasmop_testbed::host::Host;

/// What the host is doing when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Compiling packages and creating base images in an empty state directory.
    FirstStart,
    /// Starting from the files of a host that was killed under load.
    Start,
    /// Serving the load.
    Load,
    /// Writing or syncing a snapshot.
    Snapshot,
    /// Resuming a controller for a change.
    Resume,
    /// Suspending everything after SIGTERM.
    Shutdown,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::FirstStart => "first start",
            Phase::Start => "start",
            Phase::Load => "load",
            Phase::Snapshot => "snapshot",
            Phase::Resume => "resume",
            Phase::Shutdown => "shutdown",
        }
    }
}

/// Measured durations of phases on this machine, so that a kill can hit any moment of them.
#[derive(Clone, Copy, Debug)]
pub struct PhaseDurations {
    /// From the start of the process until every controller is ready.
    pub start: Duration,
    /// From SIGTERM to the end of the process.
    pub shutdown: Duration,
}

/// Extends a measured duration, so that a kill can also hit the end of a phase.
const MARGIN: f64 = 1.3;
/// A part of a first start, which compiles one package after the other for seconds.
const FIRST_START: Duration = Duration::from_millis(2000);
/// Several bursts and pauses of the load.
const LOAD: Duration = Duration::from_millis(600);
/// Writing and fsync of a snapshot.
const SNAPSHOT: Duration = Duration::from_millis(8);
/// The host sees a change, resumes the controller, and sends its requests.
const RESUME: Duration = Duration::from_millis(80);
/// How long to wait for a suspend before the kill.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_micros(20);

impl Default for PhaseDurations {
    fn default() -> PhaseDurations {
        PhaseDurations { start: Duration::from_millis(400), shutdown: Duration::from_millis(150) }
    }
}

impl PhaseDurations {
    pub fn started_in(&mut self, took: Duration) {
        self.start = took.mul_f64(MARGIN);
    }
}

/// A random moment in a phase.
#[derive(Clone, Copy, Debug)]
pub struct KillPoint {
    pub phase: Phase,
    /// The time before the phase begins.
    lead: Duration,
    /// The time into the phase.
    after: Duration,
}

/// How a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEnd {
    Killed,
    /// The host had stopped after SIGTERM before the kill.
    Finished,
}

impl KillPoint {
    pub fn draw(phase: Phase, durations: &PhaseDurations, rng: &mut impl Rng) -> KillPoint {
        let mut up_to = |limit: Duration| limit.mul_f64(rng.random());
        // The write takes the first tenth of the time, and the fsync takes the rest.
        let early = |share: f64| share.powi(3);
        let (lead, after) = match phase {
            Phase::FirstStart => (Duration::ZERO, up_to(FIRST_START)),
            Phase::Start => (Duration::ZERO, up_to(durations.start)),
            Phase::Load => (Duration::ZERO, up_to(LOAD)),
            Phase::Snapshot => (up_to(LOAD / 2), SNAPSHOT.mul_f64(early(rng.random()))),
            Phase::Resume => (Duration::ZERO, up_to(RESUME)),
            Phase::Shutdown => (up_to(LOAD), up_to(durations.shutdown)),
        };
        KillPoint { phase, lead, after }
    }

    /// Waits for the moment, then kills the host. `controllers` is the directory of the snapshots.
    ///
    /// Blocks the thread, because these moments are shorter than the resolution of an executor's timers.
    pub fn kill(self, host: &mut Host, controllers: &Path, durations: &mut PhaseDurations) -> Result<HostEnd> {
        sleep(self.lead);
        match self.phase {
            Phase::Snapshot => {
                let deadline = Instant::now() + SNAPSHOT_TIMEOUT;
                let before = last_written(controllers);
                while last_written(controllers) == before && Instant::now() < deadline {
                    sleep(POLL);
                }
            }
            Phase::Shutdown => {
                host.ask_to_end();
                let asked = Instant::now();
                while asked.elapsed() < self.after {
                    if let Some(status) = host.ended() {
                        if !status.success() {
                            bail!("it ended with {status} after SIGTERM");
                        }
                        durations.shutdown = asked.elapsed().mul_f64(MARGIN);
                        return Ok(HostEnd::Finished);
                    }
                    sleep(POLL);
                }
                durations.shutdown = durations.shutdown.max(self.after.mul_f64(MARGIN));
                host.kill()?;
                return Ok(HostEnd::Killed);
            }
            _ => {}
        }
        sleep(self.after);
        if let Some(status) = host.ended() {
            bail!("it ended by itself ({status})");
        }
        host.kill()?;
        Ok(HostEnd::Killed)
    }
}

/// When a snapshot was last written; `None` if there is none.
fn last_written(controllers: &Path) -> Option<SystemTime> {
    let written = |dir: fs::DirEntry| fs::metadata(dir.path().join("state")).ok()?.modified().ok();
    fs::read_dir(controllers).ok()?.flatten().filter_map(written).max()
}
