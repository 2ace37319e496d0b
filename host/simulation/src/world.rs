//! What all hosts of a run share: the API server, the time of day, and who holds which controller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmop_core::election::Fence;

use crate::election::BootClock;
use crate::guest::program::Program;
use crate::ledger::Ledger;
use crate::observer::{Invariant, Observer};
use crate::plant::Plant;
use crate::server::Server;

/// The time of day when the world begins.
const EPOCH: Duration = Duration::from_secs(1_790_000_000);

/// How a host is run, for a whole run.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// When idle instances are suspended.
    pub policy: wasmop_policy::Policy,
    /// Bytes that instances may hold.
    pub memory_budget: Option<u64>,
    /// Longest step, in virtual time.
    pub step: Duration,
    /// An instance's log is full after so many steps.
    pub log_capacity: u32,
    /// Snapshots that turn out to be unusable, in percent.
    pub bad_snapshots: u32,
}

/// By slot and host: the fence of each controller that a host holds or held, and that host's clock.
pub type Holders = BTreeMap<(u32, usize), (Arc<Fence>, BootClock)>;

/// What all hosts of a run share.
pub struct World {
    /// The API server.
    pub server: Arc<Server>,
    /// Sees everything.
    pub observer: Arc<Observer>,
    /// Knows what is due.
    pub ledger: Mutex<Ledger>,
    /// The controllers that every host runs.
    pub programs: Vec<Arc<Program>>,
    /// How hosts are run.
    pub options: HostOptions,
    /// There are several hosts.
    pub has_peers: bool,
    /// By slot and host: what each host holds, or held.
    pub holders: Mutex<Holders>,
    /// How much the time of day is ahead of what it should be; it jumps.
    pub wall_offset: Mutex<i64>,
    /// A bug.
    pub plant: Option<Plant>,
}

impl World {
    /// What is due.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// A host that is gone holds nothing.
    pub fn let_go(&self, host: usize) {
        let held: Vec<u32> = lock(&self.holders).keys().filter(|(_, of)| *of == host).map(|(slot, _)| *slot).collect();
        held.into_iter().for_each(|slot| self.let_one_go(slot, host));
    }

    /// Nothing is left of a controller on a host.
    pub(crate) fn let_one_go(&self, slot: u32, host: usize) {
        let mut holders = lock(&self.holders);
        holders.remove(&(slot, host));
        let is_held = holders.iter().any(|((of, _), (fence, clock))| *of == slot && fence.holds(clock.now()));
        if !is_held {
            self.ledger().down(&self.programs[slot as usize].name);
        }
    }

    /// At most one host holds a controller.
    pub(crate) fn check_holders(&self) {
        let holders = lock(&self.holders);
        let mut last = None;
        for ((slot, host), _) in holders.iter().filter(|(_, (fence, clock))| fence.holds(clock.now())) {
            if let Some(other) = last.replace((*slot, *host)).filter(|(other, _)| other == slot) {
                let name = &self.programs[*slot as usize].name;
                let (a, b) = (other.1, host);
                self.observer.violate(Invariant::OneHolder, format_args!("{name} is held by hosts {a} and {b}"));
            }
        }
    }

    /// The time of day.
    pub fn wall(&self) -> Duration {
        let offset = *lock(&self.wall_offset);
        let seconds = Duration::from_secs(offset.unsigned_abs());
        let wall = EPOCH + self.server.now();
        if offset < 0 { wall.saturating_sub(seconds) } else { wall + seconds }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
