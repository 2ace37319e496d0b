//! The host's half of a snapshot: what a controller continues with besides its memory.

use serde::{Deserialize, Serialize};
use wasmop_policy::Predictor;

use crate::controller::ControllerState;
use crate::watch::WatchPosition;

/// What is saved with a snapshot besides the instance. Encoded with postcard; the snapshot's format version covers it.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostState {
    /// Queues, tasks and deadlines.
    pub controller: ControllerState,
    /// What is known of when it is needed.
    pub predictor: Predictor,
    /// How much of its watches is in its work queues.
    pub places: Vec<WatchPosition>,
    /// Fingerprint of what the program was started with.
    pub startup: u64,
}

impl HostState {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Reads what [`HostState::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Says what is wrong with bytes that are something else.
    pub fn decode(bytes: &[u8]) -> Result<HostState, String> {
        postcard::from_bytes(bytes).map_err(|error| error.to_string())
    }
}
