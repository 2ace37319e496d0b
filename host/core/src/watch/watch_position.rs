//! How far a controller is in what a watch has given out, across restarts of the host.

use serde::{Deserialize, Serialize};

/// How much of a watch a controller has seen: kept with its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPosition {
    /// Hash of what is watched.
    pub watch: u64,
    /// The host that numbered the changes.
    pub lineage: u64,
    /// Of the last change.
    pub number: u64,
}
