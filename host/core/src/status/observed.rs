//! A snapshot of the host's status, taken in one go and cheap to take.

use std::sync::Arc;
use std::time::Duration;

use wasmop_package::Tier;

use super::counters::{Counters, Totals};
use super::state::State;
use crate::guest_watch::GuestWatchCounts;
use crate::watch::{ObjectUsage, WatchStatus};

/// The host at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time of the snapshot, on the host's clock.
    pub now: Duration,
    /// All controllers.
    pub controllers: Vec<Controller>,
    /// All watches.
    pub watches: Vec<WatchStatus>,
    /// Watches of guest-driven packages.
    pub guest_watches: GuestWatchCounts,
    /// Counters of the whole host.
    pub totals: Totals,
    /// Bytes of pooled memories.
    pub spare_bytes: u64,
    /// Bytes of compiled code of all packages, on disk.
    pub code_bytes: u64,
    /// `--memory-budget` in bytes, if set.
    pub memory_budget: Option<u64>,
    /// Memory used by whole objects of watches.
    pub cached: ObjectUsage,
    /// `--cache-memory` in bytes, if set.
    pub cache_memory: Option<u64>,
    /// Set if hosts elect leaders.
    pub election: Option<Election>,
}

/// This host's part in leader election.
#[derive(Clone, Debug)]
pub struct Election {
    /// This host's name.
    pub identity: Arc<str>,
    /// Why this host does not hold its own Lease, if it does not.
    pub trouble: Option<Box<str>>,
}

/// Status of one controller.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Its name.
    pub name: Arc<str>,
    /// Tier of its package.
    pub tier: Tier,
    /// Where its instance is.
    pub state: State,
    /// Bytes of RAM that it uses.
    pub resident_bytes: u64,
    /// Its work queues.
    pub queue: Queue,
    /// Objects being reconciled.
    pub active: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Whether it has registered a reconciler.
    pub registered: bool,
    /// A watch that it needs and that waits.
    pub unwatched: Option<Box<Unwatched>>,
    /// Its counters.
    pub counters: Counters,
}

/// A watch that waits.
#[derive(Clone, Debug)]
pub struct Unwatched {
    /// The reason of the condition.
    pub reason: &'static str,
    /// One line for people.
    pub message: Box<str>,
    /// Since when, on the host's clock.
    pub since: Duration,
}

/// Sum of a controller's work queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Objects ready to reconcile.
    pub depth: usize,
    /// Objects with a pending time: requeues and backoff.
    pub delayed: usize,
    /// Additions to the queues.
    pub adds: u64,
    /// Objects put back with backoff.
    pub retries: u64,
}

impl Controller {
    /// Why the controller cannot work, if it cannot.
    fn obstacle(&self) -> Option<String> {
        let last_error = || self.counters.last_error().unwrap_or("its package could not be installed");
        match (&self.unwatched, self.state) {
            (_, State::Failed) => Some(last_error().to_owned()),
            (Some(unwatched), _) => Some(unwatched.message.to_string()),
            (None, _) => None,
        }
    }

    /// Whether it waits for its first step.
    fn is_starting(&self) -> bool {
        let tried = self.counters.trouble().is_some_and(|t| t.restarts > 0);
        !self.registered && !tried && !matches!(self.state, State::Failed | State::Standby)
    }
}

impl Observed {
    /// Why the host is not ready; empty if it is.
    ///
    /// It is ready when no controller is still starting and at least one of those that run here can work. One broken
    /// controller does not block the rollout of the others. If all are broken, the host is of no use.
    pub fn not_ready(&self) -> Vec<String> {
        let unstarted = self.controllers.iter().filter(|c| c.is_starting());
        let unstarted = unstarted.map(|c| format!("controller {}: not started yet", c.name));
        let unlisted = self.watches.iter().filter(|w| !w.synced && !w.is_refused());
        let leaderless = self.election.iter().filter_map(|election| election.trouble.as_ref());
        let leaderless = leaderless.map(|trouble| format!("leader election: {trouble}"));
        let here = self.controllers.iter().filter(|c| c.state != State::Standby);
        // `None` if any of them can work.
        let obstacles = here.map(|c| Some(format!("controller {}: {}", c.name, c.obstacle()?)));
        let obstacles: Option<Vec<_>> = obstacles.collect();
        leaderless
            .chain(unstarted)
            .chain(unlisted.map(|w| format!("watch {}: not listed yet", w.resource)))
            .chain(obstacles.into_iter().flatten())
            .collect()
    }

    /// The readiness of each controller and of the host, in the format of Kubernetes' `/readyz?verbose`.
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
