//! A stop and a restart of the host, and the rows that it verifies.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use futures::future::BoxFuture;

use crate::guest_fixture::GuestFixture;
use crate::probe::ProbeStatus;

/// One restart of the host, for all guests at once.
pub struct HostRestart {
    pub stop: Stop,
    /// More arguments for the restarted host, for these guests. Later hosts run without them.
    pub args: fn(&GuestFixture, &[GuestFixture]) -> Result<Vec<String>>,
    /// Runs while the first host is up.
    pub prepare: fn(GuestFixture) -> BoxFuture<'static, Result<Prepared>>,
    /// Runs while no host is up.
    pub while_down: fn(GuestFixture) -> BoxFuture<'static, Result<()>>,
    /// What the restart verifies.
    pub rows: Vec<RestartRow>,
}

/// A row of the table that a [`HostRestart`] verifies.
pub struct RestartRow {
    pub name: &'static str,
    /// Runs once the second host is ready. All rows of one restart run at the same time.
    pub verify: fn(GuestFixture, Prepared) -> BoxFuture<'static, Result<()>>,
}

/// How the first host stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Terminate,
    Kill,
}

/// The state before the restart.
#[derive(Clone, Default)]
pub struct Prepared {
    /// The guest's counters.
    pub before: ProbeStatus,
    /// When objects would have been reconciled without the downtime.
    pub due: BTreeMap<&'static str, Instant>,
}

/// For a restart without more arguments.
pub fn no_args(_: &GuestFixture, _: &[GuestFixture]) -> Result<Vec<String>> {
    Ok(Vec::new())
}
