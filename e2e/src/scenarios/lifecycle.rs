//! Create, update, delete: a Probe, its child ConfigMap, its finalizer.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::guest_fixture::GuestFixture;
use crate::probe::spec;
use crate::table::Skip;

const FINALIZER: &str = "e2e.wasmop.dev/probe";

pub async fn create(fixture: GuestFixture) -> Result<()> {
    let probe = fixture.create_and_wait("created", spec("child", "one")).await?;
    ensure!(probe.observed().value == "one", "the status has the value {:?}", probe.observed().value);
    ensure!(
        probe.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
        "no finalizer: {:?}",
        probe.finalizers()
    );
    let child = fixture.config_maps().get("created").await?;
    ensure!(value(&child) == "one", "the ConfigMap has the value {:?}", value(&child));
    let owned = child
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == probe.uid().as_ref() && owner.controller == Some(true));
    ensure!(owned, "the ConfigMap is owned by {:?}", child.owner_references());
    fixture.remove("created").await
}

pub async fn update(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("updated", spec("child", "one")).await?;
    fixture.change_and_wait("updated", spec("child", "two")).await?;
    fixture.until_config_map("updated", "updated", |child| value(child) == "two").await?;
    fixture.remove("updated").await
}

pub async fn delete(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("deleted", spec("child", "one")).await?;
    fixture.change_and_wait("deleted", spec("child", "last")).await?;
    fixture.remove("deleted").await?;
    let trace = fixture.config_maps().get("deleted-deleted").await?;
    ensure!(value(&trace) == "last", "the cleanup saw the value {:?}", value(&trace));
    Ok(())
}

/// Needs a controller manager, which runs the garbage collector.
pub async fn garbage(fixture: GuestFixture) -> Result<()> {
    if !fixture.env.cluster.binaries.has_controller_manager() {
        return Err(Skip::because("this control plane has no controller manager"));
    }
    fixture.create_and_wait("garbage", spec("child", "one")).await?;
    let uid = fixture.config_maps().get("garbage").await?.uid();
    fixture.remove("garbage").await?;
    let deadline = tokio::time::Instant::now() + crate::test_cluster::TIMEOUT;
    while fixture.config_maps().get_opt("garbage").await?.is_some_and(|child| child.uid() == uid) {
        ensure!(tokio::time::Instant::now() < deadline, "the ConfigMap is still there");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

pub async fn restore(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("restored", spec("child", "one")).await?;
    fixture.until_suspended().await?;
    let before = fixture.config_maps().get("restored").await?.uid();
    fixture.config_maps().delete("restored", &DeleteParams::default()).await?;
    fixture.until_config_map("restored", "restored", |child| child.uid() != before && value(child) == "one").await?;
    fixture.remove("restored").await
}

fn value(config_map: &k8s_openapi::api::core::v1::ConfigMap) -> &str {
    config_map.data.as_ref().and_then(|data| data.get("value")).map_or("", String::as_str)
}
