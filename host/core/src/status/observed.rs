//! A copy of what the host's loop knows, taken in one go, as cheap to take as it can be.

use std::sync::Arc;
use std::time::Duration;

use wasmop_package::Tier;

use super::counters::{Counters, Totals};
use super::state::State;
use crate::watch::{ObjectUsage, WatchStatus};

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
    pub cached: ObjectUsage,
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
    /// What it needs and cannot watch now.
    pub unwatched: Option<Box<Unwatched>>,
    pub counters: Counters,
}

/// A watch that cannot be had.
#[derive(Clone, Debug)]
pub struct Unwatched {
    /// As that of a condition.
    pub reason: &'static str,
    pub message: Box<str>,
    /// On the host's clock.
    pub since: Duration,
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

impl Controller {
    /// Why it cannot do anything, if it cannot.
    fn obstacle(&self) -> Option<String> {
        let last_error = || self.counters.last_error().unwrap_or("its package could not be installed");
        match (&self.unwatched, self.state) {
            (_, State::Failed) => Some(last_error().to_owned()),
            (Some(unwatched), _) => Some(unwatched.message.to_string()),
            (None, _) => None,
        }
    }

    /// It waits for its first step.
    fn is_starting(&self) -> bool {
        let tried = self.counters.trouble().is_some_and(|t| t.restarts > 0);
        !self.registered && !tried && !matches!(self.state, State::Failed | State::Standby)
    }
}

impl Observed {
    /// Why the host is not ready; empty if it is.
    ///
    /// It is ready when nothing is still starting and at least one of the controllers that run here can work. One
    /// that cannot does not hold up the rollout of the others; when none can, the host is of no use.
    pub fn not_ready(&self) -> Vec<String> {
        let unstarted = self.controllers.iter().filter(|c| c.is_starting());
        let unstarted = unstarted.map(|c| format!("controller {}: not started yet", c.name));
        let unlisted = self.watches.iter().filter(|w| !w.synced && !w.is_refused());
        let leaderless = self.election.iter().filter_map(|election| election.trouble.as_ref());
        let leaderless = leaderless.map(|trouble| format!("leader election: {trouble}"));
        let here = self.controllers.iter().filter(|c| c.state != State::Standby);
        // `None` if one of them has none.
        let obstacles = here.map(|c| Some(format!("controller {}: {}", c.name, c.obstacle()?)));
        let obstacles: Option<Vec<_>> = obstacles.collect();
        leaderless
            .chain(unstarted)
            .chain(unlisted.map(|w| format!("watch {}: not listed yet", w.resource)))
            .chain(obstacles.into_iter().flatten())
            .collect()
    }

    /// The state of each controller, and of all that keeps the host from being ready, as `/readyz?verbose` of
    /// Kubernetes has it.
    pub fn readiness(&self) -> String {
        let mut lines = String::new();
        for controller in &self.controllers {
            let name = &controller.name;
            lines += &match controller.obstacle() {
                _ if controller.is_starting() => format!("[-]controller {name}: not started yet\n"),
                Some(obstacle) => format!("[-]controller {name}: {obstacle}\n"),
                None if controller.state == State::Standby => format!("[+]controller {name} on standby\n"),
                None => format!("[+]controller {name} ok\n"),
            };
        }
        let reasons = self.not_ready();
        for reason in reasons.iter().filter(|reason| !reason.starts_with("controller ")) {
            lines += &format!("[-]{reason}\n");
        }
        lines + if reasons.is_empty() { "readyz check passed\n" } else { "readyz check failed\n" }
    }
}
