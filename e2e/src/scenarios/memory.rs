//! A guest whose memory fills up begins anew, and everything is reconciled in the end.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use tokio::time::{Instant, sleep};

use super::restart::{How, Prepared, Restart, Row};
use crate::probe::{Probe, ProbeSpec, spec};
use crate::scene::Scene;
use crate::world::{PATIENCE, SUSPEND_AFTER};

/// What an object takes and is never freed; the guests have 64 MiB, of which TinyGo uses a half.
const MEBIBYTES: u64 = 10;
/// Objects that are more than a guest has room for.
const OBJECTS: usize = 10;
/// Of them, those that it has before a restart of the host.
const BEFORE: usize = 2;

/// Of the objects of the scene that goes on in one host, and of the one with a restart of the host.
const WITHIN_A_HOST: &str = "leaking";
const OVER_A_RESTART: &str = "leaking-on";

fn names(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{prefix}-{i}")).collect()
}

async fn create(scene: &Scene, names: &[String]) -> Result<()> {
    let leak = |name| ProbeSpec { count: MEBIBYTES, ..spec("leak", name) };
    try_join_all(names.iter().map(|name| scene.create(name, leak(name)))).await?;
    Ok(())
}

pub async fn leak(scene: Scene) -> Result<()> {
    let position = scene.position()?;
    create(&scene, &names(WITHIN_A_HOST, 0..OBJECTS)).await?;
    all_reconciled(&scene, WITHIN_A_HOST, position).await
}

/// Waits until all are reconciled, and checks that it took a new beginning, of which the owner was told.
async fn all_reconciled(scene: &Scene, prefix: &str, position: usize) -> Result<()> {
    let names = names(prefix, 0..OBJECTS);
    try_join_all(names.iter().map(|name| scene.until(name, "reconciled in spite of the leak", Probe::is_current)))
        .await?;
    let restarted = scene
        .until_logged(position, "a new beginning", |record| record.message() == "restarted from base image")
        .await?;
    ensure!(restarted.text("reason").contains("limits.memory"), "it began anew for another reason: {}", restarted.0);
    until_event(scene, "MemoryFull").await?;
    // New objects are reconciled as before.
    let after = format!("{prefix}-afterwards");
    scene.create_and_wait(&after, spec("child", "one")).await?;
    for name in names.iter().map(String::as_str).chain([&*after]) {
        scene.remove(name).await?;
    }
    scene.until_suspended().await?;
    Ok(())
}

/// Waits until the guest's owner is told so.
async fn until_event(scene: &Scene, reason: &str) -> Result<()> {
    let events = Api::<Event>::all(scene.world.cluster.client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = events.list(&Default::default()).await?;
        let is_it = |event: &&Event| {
            event.reporting_instance.as_deref() == Some(scene.guest.name) && event.reason.as_deref() == Some(reason)
        };
        if all.items.iter().any(|event| is_it(&event)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no event {reason} about {}", scene.guest.name);
        sleep(SUSPEND_AFTER).await;
    }
}

/// What a snapshot has of a leak is in the next host's memory, too.
pub fn restart() -> Restart {
    Restart {
        how: How::Terminate,
        args: super::restart::no_args,
        prepare: |scene| Box::pin(fill(scene)),
        meanwhile: |scene| Box::pin(async move { create(&scene, &names(OVER_A_RESTART, BEFORE..OBJECTS)).await }),
        rows: vec![Row {
            name: "memory fills up over a restart of the host: the same",
            verify: |scene, _| Box::pin(verify(scene)),
        }],
    }
}

async fn fill(scene: Scene) -> Result<Prepared> {
    create(&scene, &names(OVER_A_RESTART, 0..BEFORE)).await?;
    for name in names(OVER_A_RESTART, 0..BEFORE) {
        scene.until_current(&name).await?;
    }
    scene.until_suspended().await?;
    Ok(Prepared::default())
}

async fn verify(scene: Scene) -> Result<()> {
    let ready = scene.until_logged(0, "the recovery", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "snapshot", "it began anew: {}", ready.0);
    all_reconciled(&scene, OVER_A_RESTART, 0).await
}
