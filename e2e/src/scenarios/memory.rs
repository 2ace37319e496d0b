//! A guest whose memory is full restarts from its base image, and every object is reconciled in the end.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use tokio::time::{Instant, sleep};

use super::host_restart::{HostRestart, Prepared, RestartRow, Stop, no_args};
use crate::guest_fixture::GuestFixture;
use crate::probe::{Probe, ProbeSpec, spec};
use crate::test_cluster::{SUSPEND_AFTER, TIMEOUT};

/// Memory that each object leaks. The guests have 64 MiB, and TinyGo can use half of it.
const MEBIBYTES: u64 = 10;
/// More objects than the guest has memory for.
const OBJECTS: usize = 10;
/// Of these, the objects that exist before the host restart.
const BEFORE: usize = 2;

/// Names of the objects within one host, and across a host restart.
const WITHIN_A_HOST: &str = "leaking";
const OVER_A_RESTART: &str = "leaking-on";

fn names(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{prefix}-{i}")).collect()
}

async fn create(fixture: &GuestFixture, names: &[String]) -> Result<()> {
    let leak = |name| ProbeSpec { count: MEBIBYTES, ..spec("leak", name) };
    try_join_all(names.iter().map(|name| fixture.create(name, leak(name)))).await?;
    Ok(())
}

pub async fn leak(fixture: GuestFixture) -> Result<()> {
    let position = fixture.position()?;
    create(&fixture, &names(WITHIN_A_HOST, 0..OBJECTS)).await?;
    all_reconciled(&fixture, WITHIN_A_HOST, position).await
}

/// Waits until all objects are reconciled, and checks that the guest restarted and its owner got an Event.
async fn all_reconciled(fixture: &GuestFixture, prefix: &str, position: usize) -> Result<()> {
    let names = names(prefix, 0..OBJECTS);
    try_join_all(names.iter().map(|name| fixture.until(name, "reconciled in spite of the leak", Probe::is_current)))
        .await?;
    let restarted =
        fixture.until_logged(position, "the restart", |record| record.message() == "restarted from base image").await?;
    ensure!(restarted.text("reason").contains("limits.memory"), "it restarted for another reason: {}", restarted.0);
    until_event(fixture, "MemoryFull").await?;
    // New objects are reconciled as before.
    let after = format!("{prefix}-afterwards");
    fixture.create_and_wait(&after, spec("child", "one")).await?;
    for name in names.iter().map(String::as_str).chain([&*after]) {
        fixture.remove(name).await?;
    }
    fixture.until_suspended().await?;
    Ok(())
}

/// Waits for an Event with this reason about the guest.
async fn until_event(fixture: &GuestFixture, reason: &str) -> Result<()> {
    let events = Api::<Event>::all(fixture.env.cluster.client.clone());
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let all = events.list(&Default::default()).await?;
        let is_it = |event: &&Event| {
            event.reporting_instance.as_deref() == Some(fixture.guest.name) && event.reason.as_deref() == Some(reason)
        };
        if all.items.iter().any(|event| is_it(&event)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no Event {reason} about {}", fixture.guest.name);
        sleep(SUSPEND_AFTER).await;
    }
}

/// A snapshot carries the leak into the next host.
pub fn restart() -> HostRestart {
    HostRestart {
        stop: Stop::Terminate,
        args: no_args,
        prepare: |fixture| Box::pin(fill(fixture)),
        while_down: |fixture| Box::pin(async move { create(&fixture, &names(OVER_A_RESTART, BEFORE..OBJECTS)).await }),
        rows: vec![RestartRow {
            name: "full memory: the same across a host restart",
            verify: |fixture, _| Box::pin(verify(fixture)),
        }],
    }
}

async fn fill(fixture: GuestFixture) -> Result<Prepared> {
    create(&fixture, &names(OVER_A_RESTART, 0..BEFORE)).await?;
    for name in names(OVER_A_RESTART, 0..BEFORE) {
        fixture.until_current(&name).await?;
    }
    fixture.until_suspended().await?;
    Ok(Prepared::default())
}

async fn verify(fixture: GuestFixture) -> Result<()> {
    let ready = fixture.until_logged(0, "the recovery", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "snapshot", "it did not continue from its snapshot: {}", ready.0);
    all_reconciled(&fixture, OVER_A_RESTART, 0).await
}
