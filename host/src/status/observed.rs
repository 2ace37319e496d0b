//! A copy of what the host's loop knows, taken in one go, as cheap to take as it can be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wasmop_package::Tier;

use super::counters::{Counters, Totals};
use super::values::State;
use crate::watch::{Usage, WatchStatus};

/// Asked of the host's loop by a message; it never waits for whoever asks.
pub enum Question {
    /// Whether it answers at all.
    Alive(oneshot::Sender<()>),
    All(oneshot::Sender<Observed>),
}

/// The host at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The moment, on the host's clock.
    pub now: Duration,
    pub controllers: Vec<Controller>,
    pub watches: Vec<WatchStatus>,
    pub totals: Totals,
    /// Bytes of memories kept for the next resumes.
    pub spare_bytes: u64,
    /// Bytes of the compiled code of all packages, on disk.
    pub code_bytes: u64,
    pub memory_budget: Option<u64>,
    /// What whole objects of watches take, and may take.
    pub cached: Usage,
    pub cache_memory: Option<u64>,
    /// If there are several hosts.
    pub election: Option<Election>,
}

/// This host among several.
#[derive(Clone, Debug)]
pub struct Election {
    pub identity: Arc<str>,
    /// Why it does not hold its own Lease, if it does not.
    pub trouble: Option<Box<str>>,
}

/// A controller at that moment.
#[derive(Clone, Debug)]
pub struct Controller {
    pub name: Arc<str>,
    pub tier: Tier,
    pub state: State,
    pub resident_bytes: u64,
    pub queue: Queue,
    /// Objects being reconciled.
    pub active: usize,
    /// Requests under way.
    pub requests: usize,
    /// It has registered what it reconciles.
    pub registered: bool,
    pub counters: Counters,
}

/// The work queues of a controller together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Objects to be reconciled now.
    pub depth: usize,
    /// Objects with a time: requeues and backoff.
    pub delayed: usize,
    pub adds: u64,
    pub retries: u64,
}

impl Observed {
    /// Why the host is not ready yet; empty if it is.
    ///
    /// A watch that was refused, or whose kind is not served, is no reason: its controller's owner is told, and
    /// the other controllers go on.
    pub fn not_ready(&self) -> Vec<String> {
        let unstarted = self.controllers.iter().filter(|c| {
            let tried = c.counters.trouble().is_some_and(|t| t.restarts > 0);
            !c.registered && !tried && !matches!(c.state, State::Failed | State::Standby)
        });
        let unstarted = unstarted.map(|c| format!("controller {}: not started yet", c.name));
        let unlisted = self.watches.iter().filter(|w| !w.synced && !w.is_refused());
        let leaderless = self.election.iter().filter_map(|election| election.trouble.as_ref());
        let leaderless = leaderless.map(|trouble| format!("leader election: {trouble}"));
        leaderless.chain(unstarted).chain(unlisted.map(|w| format!("watch {}: not listed yet", w.resource))).collect()
    }
}
