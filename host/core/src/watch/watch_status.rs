//! How a watch is, for people.

use super::waiting::{WaitReason, Waiting};

/// How a watch is, for people.
#[derive(Clone, Debug)]
pub struct WatchStatus {
    /// `websites.demo.wasmop.dev/v1`
    pub resource: String,
    /// Objects that it holds.
    pub objects: usize,
    /// Lists begun: the first, and relists.
    pub lists: u64,
    /// It was in order at least once.
    pub synced: bool,
    pub waiting: Option<Waiting>,
    /// It has its objects from a wider watch, not from the API server.
    pub follows: bool,
}

impl WatchStatus {
    /// It cannot be had, and not because the API server is away: somebody has to grant or install something.
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
