//! Settings that hosts of a group have in common.

use super::timing::Timing;

/// Settings that must be the same for all hosts that share controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name of the group; a DNS label.
    pub name: String,
    /// Namespace of the Leases; `None`: the host's home namespace.
    pub namespace: Option<String>,
    /// Durations.
    pub timing: Timing,
}

/// The default name of a group.
pub const DEFAULT_GROUP: &str = "wasmop";
