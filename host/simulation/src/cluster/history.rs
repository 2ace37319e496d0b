//! Changes as watches and invariants see them.

use std::sync::Arc;
use std::time::Duration;

use super::object::Object;

/// What the log tells watches.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Of the change.
    pub revision: u64,
    /// The object as it is, or as it was before it went.
    pub object: Arc<Object>,
    /// It went.
    pub gone: bool,
    /// As it was before; `None`: it was created.
    pub old: Option<Arc<Object>>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is new.
    Created,
    /// More than status and metadata changed, or its deletion began.
    Changed,
    /// Status or metadata changed.
    Touched,
    /// It is gone.
    Deleted,
}

/// A change, for the invariants.
#[derive(Clone, Debug)]
pub struct Past {
    /// Orders all changes.
    pub moment: u64,
    /// The time in the world.
    pub at: Duration,
    /// What it is now, or what it was before it went.
    pub object: Arc<Object>,
    /// What it was before.
    pub old: Option<Arc<Object>>,
    /// What happened.
    pub deed: Deed,
    /// The controller that did it; empty for anybody else.
    pub actor: Arc<str>,
}
