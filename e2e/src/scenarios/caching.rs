//! Reads from the host's cache: what they answer, and that the API server is not asked.

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
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
