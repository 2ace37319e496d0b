//! How far a controller has read a watch, kept across restarts of the host.

use serde::{Deserialize, Serialize};

/// How far a controller has read a watch. Stored with its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchPosition {
    /// Hash of the watch request.
    pub watch: u64,
    /// The host that numbered the changes.
    pub lineage: u64,
    /// Number of the last change that the controller has seen.
    pub number: u64,
}
