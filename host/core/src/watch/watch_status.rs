//! The status of a watch, for metrics, probes and people.

use super::waiting::{WaitReason, Waiting};

/// The status of a watch.
#[derive(Clone, Debug)]
pub struct WatchStatus {
    /// `websites.demo.wasmop.dev/v1`
    pub resource: String,
    /// Objects that it has.
    pub objects: usize,
    /// Lists begun: the first one and relists.
    pub lists: u64,
    /// It was synced at least once.
    pub synced: bool,
    /// Why it waits, if it does.
    pub waiting: Option<Waiting>,
    /// It is derived from a wider watch, without a watch on the API server.
    pub follows: bool,
}

impl WatchStatus {
    /// Whether it waits for someone to grant or install something, rather than for the API server.
    pub fn is_refused(&self) -> bool {
        self.waiting.as_ref().is_some_and(|w| {
            matches!(
                w.cause,
                WaitReason::Missing
                    | WaitReason::Unexplained
                    | WaitReason::VersionNotServed
                    | WaitReason::NotEstablished
                    | WaitReason::Forbidden
                    | WaitReason::Invalid
            )
        })
    }
}
