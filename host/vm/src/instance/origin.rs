//! Where an instance comes from, and why it may not come.

use wasmop_snapshot::SnapshotRef;
use wasmop_snapshot::image::ImageError;

use crate::guest::{InstantiateError, LoadError};

/// Where an instance came from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The package's base image: it has run nothing but its initialisation.
    Fresh,
    Snapshot(SnapshotRef),
}

impl Origin {
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
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Instantiate(#[from] InstantiateError),
    #[error(transparent)]
    Snapshot(#[from] ImageError),
    #[error("no snapshot could be written for so long that the steps since the last one were not kept")]
    LogGivenUp,
    #[error("replaying the steps since the last snapshot failed: {0}")]
    Replay(&'static str),
}
