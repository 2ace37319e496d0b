//! What the loop has to know of a package, and where a controller's instance is.

use wasmop_package::Tier;
use wasmop_package::manifest::{Limits, Mode};
use wasmop_policy::Policy;

/// What the loop has to know of a package. Controllers of one package share it.
#[derive(Clone, Debug)]
pub struct PackageFacts {
    /// The package's name, which the program is told.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// Full: suspended to disk; soft: suspended within the process.
    pub tier: Tier,
    /// Whose loop runs the reconciles.
    pub mode: Mode,
    /// Whether the watches that the program opens by itself are kept up.
    pub has_kept_up_watches: bool,
    /// Limits after the host's caps.
    pub limits: Limits,
    /// The package's own choice, if it has one.
    pub suspend_policy: Option<Policy>,
    /// Size of the base image's linear memory in bytes; `None` in the soft tier.
    pub base_memory_bytes: Option<u64>,
    /// Bytes of data that every instance holds from its start; `None` in the soft tier.
    pub base_data_bytes: Option<u64>,
    /// What the monotonic clock of a fresh instance shows, in nanoseconds.
    pub first_monotonic_ns: u64,
}

/// Where a controller's instance is.
///
/// The environment holds the instance itself; this is the loop's view of it, replaced whenever one comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Nothing is in memory.
    Suspended {
        /// Bytes of its snapshot; `None`: it starts from the base image.
        snapshot_bytes: Option<u64>,
    },
    /// Alive; an instance of the soft tier stays so while it is suspended.
    Resident(InstanceFacts),
    /// With a worker, which sends it back.
    Busy,
}

impl Phase {
    /// It starts from the base image.
    pub const FRESH: Phase = Phase::Suspended { snapshot_bytes: None };
}

/// A live instance as it was when a worker last had it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstanceFacts {
    /// Bytes that suspending it gives back.
    pub anonymous_bytes: u64,
    /// Bytes of its tables.
    pub table_bytes: u64,
    /// Size of its linear memory in bytes.
    pub memory_bytes: u64,
    /// Its log of steps is full: it has to be saved before it goes on.
    pub log_is_full: bool,
    /// It is of the soft tier.
    pub is_soft: bool,
    /// It is suspended within the process (soft tier only).
    pub is_suspended: bool,
}
