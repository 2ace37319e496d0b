//! What an instance starts from, and why a start can fail.

use wasmop_snapshot::SnapshotRef;
use wasmop_snapshot::image::ImageError;

use crate::guest::{InstantiateError, LoadError};

/// What an instance starts from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The package's base image: the instance has run its initialisation only.
    Fresh,
    /// A snapshot of its controller.
    Snapshot(SnapshotRef),
}

impl Origin {
    /// The snapshot, if it starts from one.
    pub fn snapshot(&self) -> Option<&SnapshotRef> {
        match self {
            Origin::Fresh => None,
            Origin::Snapshot(snapshot) => Some(snapshot),
        }
    }
}

/// Why an instance could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The package cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// wasmtime or the guest failed.
    #[error(transparent)]
    Instantiate(#[from] InstantiateError),
    /// The snapshot or its base image cannot be used.
    #[error(transparent)]
    Snapshot(#[from] ImageError),
    /// The step log was dropped: see `FullInstance`.
    #[error("saves have failed for so long that the log of steps since the last snapshot was dropped")]
    LogDropped,
    /// A replayed step failed, with this cause.
    #[error("replaying the steps since the last snapshot failed: {0}")]
    Replay(&'static str),
}
