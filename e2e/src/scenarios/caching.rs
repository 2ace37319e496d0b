//! Reads from the host's cache: what they answer, and that the API server is not asked; and which changes of what it
//! watches have something reconciled.

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use tokio::time::Instant;

use super::suspension::config_map_path;
use crate::probe::{ProbeSpec, spec};
use crate::scene::Scene;
use crate::world::PATIENCE;

pub async fn reads(scene: Scene) -> Result<()> {
    scene.create_and_wait("cached", spec("child", "one")).await?;
    let proxy = &scene.world.proxy;
    // Whether one or all of the guest's; the host itself watches those of all namespaces.
    let path = config_map_path(&scene, "");
    let asked = || proxy.count("GET", path.trim_end_matches('/'));
    let child = scene.config_maps().get("cached").await?;
    let deadline = Instant::now() + PATIENCE;
    for round in 0.. {
        let before = asked();
        let value = round.to_string();
        let probe = scene.change_and_wait("cached", spec("cached", &value)).await?;
        let echo = probe.observed().echo;
        let now = scene.config_maps().get("cached").await?;
        let version = now.resource_version().context("no resource version")?;
        ensure!(version == child.resource_version().unwrap_or_default(), "somebody has changed it: {version}");
        ensure!(echo == format!("one,{version},true"), "the cache answers {echo:?}, and it is {version}");
        if asked() == before {
            break;
        }
        // Its own write of the child had perhaps not come back yet.
        if Instant::now() > deadline {
            bail!("after {PATIENCE:?}, the API server is still asked: {before} requests, then {}", asked());
        }
    }
    scene.remove("cached").await
}

pub async fn own_writes(scene: Scene) -> Result<()> {
    scene.create_and_wait("rewritten", spec("child", "one")).await?;
    let probe = scene.change_and_wait("rewritten", ProbeSpec { count: 20, ..spec("write-cached", "two") }).await?;
    ensure!(probe.observed().echo == "read its writes", "the echo is {:?}", probe.observed().echo);
    scene.remove("rewritten").await
}

/// A write whose answer names no version keeps reads from the cache no longer than until the cache has seen it.
pub async fn subresource(scene: Scene) -> Result<()> {
    let accounts = super::mapping::create_account(&scene, "token", None).await?;
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/token", scene.guest.name);
    let asked = || scene.world.proxy.count("GET", &path);
    scene.create_and_wait("token", spec("token", "create")).await?;
    let deadline = Instant::now() + PATIENCE;
    for round in 0.. {
        let before = asked();
        let probe = scene.change_and_wait("token", spec("token", &round.to_string())).await?;
        ensure!(probe.observed().echo == "token", "the echo is {:?}", probe.observed().echo);
        if asked() == before {
            break;
        }
        if Instant::now() > deadline {
            bail!("after {PATIENCE:?}, the API server is still asked");
        }
    }
    accounts.delete("token", &DeleteParams::default()).await?;
    scene.remove("token").await
}

/// What it replaces itself has nothing reconciled again; what somebody else changes has, also in the middle of it.
pub async fn ignored(scene: Scene) -> Result<()> {
    scene.create_and_wait("replaced", spec("child", "one")).await?;
    scene.until_suspended().await?;
    let mut before = scene.probes().get("replaced").await?.observed().seen;
    for round in 0..3 {
        let value = format!("round {round}");
        scene.change_and_wait("replaced", ProbeSpec { count: 4, ..spec("replace", &value) }).await?;
        // Nothing is left to do.
        scene.until_suspended().await?;
        let now = scene.probes().get("replaced").await?.observed().seen;
        ensure!(now == before + 1, "round {round}: {} reconciles for one change", now - before);
        let child = scene.config_maps().get("replaced").await?;
        ensure!(child.data.is_some_and(|data| data["value"] == format!("{value}-3")), "the child was not replaced");
        let foreign = serde_json::json!({ "data": { "other": value } });
        scene.config_maps().patch("replaced", &PatchParams::default(), &Patch::Merge(&foreign)).await?;
        scene.until("replaced", "reconciled again", |probe| probe.observed().seen > now).await?;
        scene.until_suspended().await?;
        before = scene.probes().get("replaced").await?.observed().seen;
        ensure!(before == now + 1, "round {round}: {} reconciles for somebody's change", before - now);
    }
    scene.remove("replaced").await
}

/// A predicate in CEL: a change that does not count has nothing reconciled, as one that comes after it shows.
pub async fn predicate(scene: Scene) -> Result<()> {
    for name in ["annotated", "rewritten"] {
        scene.create_and_wait(name, spec("child", "one")).await?;
    }
    for round in 0..3 {
        scene.until_suspended().await?;
        let annotated = scene.probes().get("annotated").await?.observed().seen;
        let rewritten = scene.probes().get("rewritten").await?.observed().seen;
        let annotation = serde_json::json!({ "metadata": { "annotations": { "round": round.to_string() } } });
        let data = serde_json::json!({ "data": { "round": round.to_string() } });
        for (name, patch) in [("annotated", annotation), ("rewritten", data)] {
            scene.config_maps().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        scene.until("rewritten", "reconciled", |probe| probe.observed().seen > rewritten).await?;
        scene.until_suspended().await?;
        let now = scene.probes().get("annotated").await?.observed().seen;
        ensure!(now == annotated, "round {round}: {} reconciles for an annotation", now - annotated);
    }
    for name in ["annotated", "rewritten"] {
        scene.remove(name).await?;
    }
    Ok(())
}
