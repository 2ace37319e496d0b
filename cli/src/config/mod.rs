//! The configuration of a host, from a file and the flags of `wasmop run`.
//!
//! ```text
//! keys: one definition each ─┬─ flags ───────────┐
//!                            └─ file ─► Config ──┴─ plan ─► Plan ─ running ─► a host
//!                                                             └─── reload ──► changes at a SIGHUP
//! ```

mod controller_keys;
mod election;
mod file;
mod host_keys;
mod keys;
mod namespaces;
mod plan;
mod wasi;

use std::collections::BTreeMap;

pub use controller_keys::ControllerKeys;
pub use file::load;
pub use host_keys::HostKeys;
pub use plan::{Flags, Plan, Policies};

/// The contents of a configuration file. Its paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub host: HostKeys,
    pub controllers: BTreeMap<String, Controller>,
}

/// A `[controllers.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// `file:line`, for errors.
    pub place: String,
    pub keys: ControllerKeys,
}
