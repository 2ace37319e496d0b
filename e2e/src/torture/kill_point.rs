//! When a host is killed: a phase of its life, and a random moment within it.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use rand::Rng;
use wasmop_testbed::host::Host;

/// What the host is doing when the kill comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Compiling, making base images: nothing is there yet.
    FirstStart,
    /// Starting from what an earlier kill has left; the host before was killed under load.
    Start,
    /// Whatever the load makes it do.
    Load,
    /// Writing a snapshot, or putting it on disk.
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

/// How long the phases take here, so that a moment can be drawn from all of each.
#[derive(Clone, Copy, Debug)]
pub struct PhaseDurations {
    /// From the start of the process until every controller is ready.
    pub start: Duration,
    /// From SIGTERM to the end of the process.
    pub shutdown: Duration,
}

/// Some more than what was measured: the end of a phase is one of its moments, too.
const MARGIN: f64 = 1.3;
/// A first start compiles for seconds; what follows the first package is more of the same.
const FIRST_START: Duration = Duration::from_millis(2000);
/// Several bursts and pauses of the load.
const LOAD: Duration = Duration::from_millis(600);
/// Writing and fsync of a snapshot.
const SNAPSHOT: Duration = Duration::from_millis(8);
/// A change noticed, its controller resumed, its requests sent and answered.
const RESUME: Duration = Duration::from_millis(80);
/// A load that suspends nothing for this long is killed all the same.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);
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

/// A moment, drawn.
#[derive(Clone, Copy, Debug)]
pub struct KillPoint {
    pub phase: Phase,
    /// Until the phase is looked for.
    lead: Duration,
    /// Into the phase.
    after: Duration,
}

/// How a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Killed,
    /// SIGTERM had done its work before the kill came.
    Finished,
}

impl KillPoint {
    pub fn draw(phase: Phase, durations: &PhaseDurations, rng: &mut impl Rng) -> KillPoint {
        let mut up_to = |limit: Duration| limit.mul_f64(rng.random());
        // The file is written within the first tenth, and what lasts is the fsync.
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

    /// Waits for the moment, then kills the host. `controllers` is the directory of their snapshots.
    /// Blocks the thread: what is to be hit is shorter than an executor's timers.
    pub fn kill(self, host: &mut Host, controllers: &Path, durations: &mut PhaseDurations) -> Result<End> {
        sleep(self.lead);
        match self.phase {
            Phase::Snapshot => {
                let deadline = Instant::now() + SNAPSHOT_PATIENCE;
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
                        return Ok(End::Finished);
                    }
                    sleep(POLL);
                }
                durations.shutdown = durations.shutdown.max(self.after.mul_f64(MARGIN));
                host.kill()?;
                return Ok(End::Killed);
            }
            _ => {}
        }
        sleep(self.after);
        if let Some(status) = host.ended() {
            bail!("it ended by itself ({status})");
        }
        host.kill()?;
        Ok(End::Killed)
    }
}

/// When a snapshot was last written to; `None` if there is none.
fn last_written(controllers: &Path) -> Option<SystemTime> {
    let written = |dir: fs::DirEntry| fs::metadata(dir.path().join("state")).ok()?.modified().ok();
    fs::read_dir(controllers).ok()?.flatten().filter_map(written).max()
}
