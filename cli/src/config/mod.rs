//! The host's configuration: a file and the flags of `wasmop run` into what the host is to do.
//!
//! ```text
//! file ── read ──► Config ─┐
//! flags ───────────────────┴─ plan ──► Plan ── running ──► a host
//!                                        └──── reload ───► what changes at SIGHUP, and what needs a restart
//! ```

mod plan;
mod read;
mod reload;

use std::collections::BTreeMap;
use std::path::PathBuf;

use wasmop_host::permissions::Grant;
use wasmop_host::snapshot::Durability;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

pub use plan::{Flags, Plan, Policies};
pub use read::load;

use crate::logging::LogFormat;

/// What a file says. Its paths are absolute: in the file they are relative to it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub suspend_policy: Option<Policy>,
    /// Bytes.
    pub memory_budget: Option<u64>,
    pub record_trace: Option<PathBuf>,
    pub durability: Option<Durability>,
    pub encryption_key_file: Option<PathBuf>,
    pub metrics_address: Option<String>,
    pub log_format: Option<LogFormat>,
    /// As often as `-v` would be given.
    pub verbose: Option<u8>,
    /// No controller has more.
    pub limits: Option<Limits>,
    pub controllers: BTreeMap<String, Controller>,
}

/// A `[controllers.NAME]`.
#[derive(Clone, Debug)]
pub struct Controller {
    /// `file:line`, for errors.
    pub place: String,
    /// `None`: its package is on the command line.
    pub package: Option<PathBuf>,
    pub suspend_policy: Option<Policy>,
    pub grant: Grant,
}
