//! A row of the conformance table.

use anyhow::Result;
use futures::future::BoxFuture;

use crate::guest_fixture::GuestFixture;

/// A behaviour that every guest must have. It leaves the host running.
pub struct Behaviour {
    pub name: &'static str,
    /// `Ok` if the guest behaves as it should. A [`Skip`](crate::table::Skip) skips the row.
    pub check: fn(GuestFixture) -> BoxFuture<'static, Result<()>>,
}
