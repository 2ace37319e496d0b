//! Create, update, delete: a Probe, its ConfigMap, its finalizer.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;

use super::{NotHere, Outcome};
use crate::probe::spec;
use crate::scene::Scene;

const FINALIZER: &str = "e2e.wasmop.dev/probe";

pub async fn create(scene: Scene) -> Result<()> {
    let probe = scene.create_and_wait("created", spec("child", "one")).await?;
    ensure!(probe.observed().value == "one", "the status has the value {:?}", probe.observed().value);
    ensure!(
        probe.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
        "no finalizer: {:?}",
        probe.finalizers()
    );
    let child = scene.config_maps().get("created").await?;
    ensure!(value(&child) == "one", "the ConfigMap has the value {:?}", value(&child));
    let owned = child
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == probe.uid().as_ref() && owner.controller == Some(true));
    ensure!(owned, "the ConfigMap is owned by {:?}", child.owner_references());
    scene.remove("created").await
}

pub async fn update(scene: Scene) -> Result<()> {
    scene.create_and_wait("updated", spec("child", "one")).await?;
    scene.change_and_wait("updated", spec("child", "two")).await?;
    scene.until_config_map("updated", "updated", |child| value(child) == "two").await?;
    scene.remove("updated").await
}

pub async fn delete(scene: Scene) -> Result<()> {
    scene.create_and_wait("deleted", spec("child", "one")).await?;
    scene.change_and_wait("deleted", spec("child", "last")).await?;
    scene.remove("deleted").await?;
    let trace = scene.config_maps().get("deleted-deleted").await?;
    ensure!(value(&trace) == "last", "the clean-up saw the value {:?}", value(&trace));
    Ok(())
}

pub async fn garbage(scene: Scene) -> Outcome {
    if !scene.world.cluster.binaries.has_controller_manager() {
        return Ok(Err(NotHere("this control plane has no controller manager".into())));
    }
    scene.create_and_wait("garbage", spec("child", "one")).await?;
    let uid = scene.config_maps().get("garbage").await?.uid();
    scene.remove("garbage").await?;
    let deadline = tokio::time::Instant::now() + crate::world::PATIENCE;
    while scene.config_maps().get_opt("garbage").await?.is_some_and(|child| child.uid() == uid) {
        ensure!(tokio::time::Instant::now() < deadline, "the ConfigMap is still there");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(Ok(()))
}

pub async fn restore(scene: Scene) -> Result<()> {
    scene.create_and_wait("restored", spec("child", "one")).await?;
    scene.until_suspended().await?;
    let before = scene.config_maps().get("restored").await?.uid();
    scene.config_maps().delete("restored", &DeleteParams::default()).await?;
    scene.until_config_map("restored", "restored", |child| child.uid() != before && value(child) == "one").await?;
    scene.remove("restored").await
}

fn value(config_map: &k8s_openapi::api::core::v1::ConfigMap) -> &str {
    config_map.data.as_ref().and_then(|data| data.get("value")).map_or("", String::as_str)
}
