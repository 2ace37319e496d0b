//! What a Lease says, and what is asked of the API server: plain values, so that the elector needs neither server nor
//! clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What a Lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// That a host is alive: it renews it.
    Host,
    /// Which host runs a controller: written when that changes, and held as long as that host's Lease is.
    Controller,
}

impl Role {
    /// As a label of the Lease, and in its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Host => "host",
            Role::Controller => "controller",
        }
    }
}

/// A Lease as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub uid: String,
    /// Differs after each write.
    pub version: String,
    /// Empty: nobody.
    pub holder: String,
    /// Changes of the holder.
    pub transitions: i32,
    /// When its holder acquired it, by the holder's clock: tells one process from another, and no more.
    pub acquired_us: i64,
    /// How long others have to see no change of it before its holder is taken for dead.
    pub duration: Duration,
    /// Of a host: controllers that it can run.
    pub runs: Arc<BTreeSet<Arc<str>>>,
}

impl Record {
    pub fn tenure(&self) -> Tenure {
        Tenure { uid: self.uid.clone(), transitions: self.transitions }
    }
}

/// A time during which a controller's Lease had one holder: whoever held it then and finds the same now knows that nobody
/// else ran the controller meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tenure {
    /// Of the Lease: one that was deleted and created counts anew.
    pub uid: String,
    pub transitions: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    List(Role),
    Write(Write),
    /// Removes a host's Lease, if it is still the one that was seen.
    Delete {
        host: String,
        version: String,
    },
}

/// Creates or replaces a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub role: Role,
    /// Of the host or the controller.
    pub name: Arc<str>,
    /// The version that is replaced; `None`: it does not exist. Otherwise the write fails with
    /// [`Failure::Conflict`].
    pub replaces: Option<String>,
    pub holder: String,
    pub transitions: i32,
    pub acquired_us: i64,
    /// Of a host's Lease.
    pub duration: Option<Duration>,
    pub runs: Arc<BTreeSet<Arc<str>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By name of the host or the controller.
    Listed(Vec<(String, Record)>),
    Written(Record),
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The Lease is not as it was expected.
    Conflict,
    /// It may have been done or not; in words.
    Other(String),
}
