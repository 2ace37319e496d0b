//! The content of a Lease, and requests to the API server, as plain values: the elector needs neither server nor clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The purpose of a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A host is alive; it renews this Lease.
    Host,
    /// A host runs a controller. Written when the holder changes, and valid as long as that host's own Lease.
    Controller,
}

impl Role {
    /// The value of the Lease's label, and a part of its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Host => "host",
            Role::Controller => "controller",
        }
    }
}

/// The content of a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// UID of the Lease.
    pub uid: String,
    /// Resource version.
    pub version: String,
    /// Name of the holding host; empty if none.
    pub holder: String,
    /// Number of changes of the holder.
    pub transitions: i32,
    /// When its holder acquired it, in microseconds of the holder's clock. Serves only to distinguish processes.
    pub acquired_us: i64,
    /// Time without a change after which other hosts consider the holder dead.
    pub duration: Duration,
    /// Of a host: controllers that it can run.
    pub runs: Arc<BTreeSet<Arc<str>>>,
}

impl Record {
    /// The tenure of the current holder.
    pub fn tenure(&self) -> Tenure {
        Tenure { uid: self.uid.clone(), transitions: self.transitions }
    }
}

/// A time during which a controller's Lease had one holder. A host that held it and finds the same tenure again knows
/// that no other host ran the controller.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tenure {
    /// UID of the Lease: a recreated one begins a new count.
    pub uid: String,
    /// Number of changes of the holder.
    pub transitions: i32,
}

/// A request of the elector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Lists all Leases of this role.
    List(Role),
    /// Creates or replaces a Lease.
    Write(Write),
    /// Deletes a host's Lease, if it is still at the version seen.
    Delete {
        /// Name of the host.
        host: String,
        /// The version seen.
        version: String,
    },
}

/// Creates or replaces a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The role of the Lease.
    pub role: Role,
    /// Name of the host or the controller.
    pub name: Arc<str>,
    /// The version to replace; `None`: the Lease must not exist. A mismatch fails with [`Failure::Conflict`].
    pub replaces: Option<String>,
    /// The new holder; empty: none.
    pub holder: String,
    /// Number of changes of the holder.
    pub transitions: i32,
    /// When the holder acquired it, in microseconds.
    pub acquired_us: i64,
    /// Lease duration, for host Leases.
    pub duration: Option<Duration>,
    /// Controllers that the host can run, for host Leases.
    pub runs: Arc<BTreeSet<Arc<str>>>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Leases by name of the host or controller.
    Listed(Vec<(String, Record)>),
    /// The Lease as written.
    Written(Record),
    /// The Lease is gone.
    Deleted,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The Lease is not at the expected version.
    Conflict,
    /// Another failure, in words. The request may have taken effect.
    Other(String),
}
