//! What hosts that share controllers have in common.

use super::timing::Timing;

/// What hosts that share controllers have to say the same of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Of the hosts that share controllers; a DNS label.
    pub name: String,
    /// Where the Leases are; `None`: where the host is at home.
    pub namespace: Option<String>,
    pub timing: Timing,
}

/// The group's name if none is given.
pub const DEFAULT_GROUP: &str = "wasmop";
