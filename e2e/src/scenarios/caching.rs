//! Reads from the host's cache, and which changes of watched objects trigger a reconcile.

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use tokio::time::Instant;

use super::mapping::create_account;
use crate::guest_fixture::GuestFixture;
use crate::probe::{ProbeSpec, spec};
use crate::test_cluster::TIMEOUT;

/// Cached reads return the current child and send no request to the API server.
pub async fn reads(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("cached", spec("child", "one")).await?;
    let proxy = &fixture.env.proxy;
    // Counts reads of one ConfigMap and lists of the namespace. The host itself watches all namespaces.
    let path = fixture.config_map_path("");
    let requests = || proxy.count("GET", path.trim_end_matches('/'));
    let child = fixture.config_maps().get("cached").await?;
    let deadline = Instant::now() + TIMEOUT;
    for round in 0.. {
        let before = requests();
        let value = round.to_string();
        let probe = fixture.change_and_wait("cached", spec("cached", &value)).await?;
        let echo = probe.observed().echo;
        let now = fixture.config_maps().get("cached").await?;
        let version = now.resource_version().context("no resource version")?;
        ensure!(version == child.resource_version().unwrap_or_default(), "another client has changed it: {version}");
        ensure!(echo == format!("one,{version},true"), "the cache returns {echo:?}, the current version is {version}");
        if requests() == before {
            break;
        }
        // The watch may not have returned the guest's own write of the child yet.
        if Instant::now() > deadline {
            bail!("requests still reach the API server after {TIMEOUT:?}: {before}, then {}", requests());
        }
    }
    fixture.remove("cached").await
}

/// A cached read that follows a write returns what was written.
pub async fn own_writes(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("rewritten", spec("child", "one")).await?;
    let probe = fixture.change_and_wait("rewritten", ProbeSpec { count: 20, ..spec("write-cached", "two") }).await?;
    ensure!(probe.observed().echo == "read its writes", "the echo is {:?}", probe.observed().echo);
    fixture.remove("rewritten").await
}

/// A write whose response has no resource version bypasses the cache only until the cache has seen the write.
pub async fn subresource(fixture: GuestFixture) -> Result<()> {
    let accounts = create_account(&fixture, "token", None).await?;
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/token", fixture.guest.name);
    let requests = || fixture.env.proxy.count("GET", &path);
    fixture.create_and_wait("token", spec("token", "create")).await?;
    let deadline = Instant::now() + TIMEOUT;
    for round in 0.. {
        let before = requests();
        let probe = fixture.change_and_wait("token", spec("token", &round.to_string())).await?;
        ensure!(probe.observed().echo == "token", "the echo is {:?}", probe.observed().echo);
        if requests() == before {
            break;
        }
        if Instant::now() > deadline {
            bail!("requests still reach the API server after {TIMEOUT:?}");
        }
    }
    accounts.delete("token", &DeleteParams::default()).await?;
    fixture.remove("token").await
}

/// The controller's own replacements trigger no reconcile. Changes of other clients do.
pub async fn ignored(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("replaced", spec("child", "one")).await?;
    fixture.until_suspended().await?;
    let mut before = fixture.probes().get("replaced").await?.observed().seen;
    for round in 0..3 {
        let value = format!("round {round}");
        fixture.change_and_wait("replaced", ProbeSpec { count: 4, ..spec("replace", &value) }).await?;
        // A suspended guest has no work left.
        fixture.until_suspended().await?;
        let now = fixture.probes().get("replaced").await?.observed().seen;
        ensure!(now == before + 1, "round {round}: {} reconciles for one change", now - before);
        let child = fixture.config_maps().get("replaced").await?;
        ensure!(child.data.is_some_and(|data| data["value"] == format!("{value}-3")), "the child was not replaced");
        let foreign = serde_json::json!({ "data": { "other": value } });
        fixture.config_maps().patch("replaced", &PatchParams::default(), &Patch::Merge(&foreign)).await?;
        fixture.until("replaced", "reconciled again", |probe| probe.observed().seen > now).await?;
        fixture.until_suspended().await?;
        before = fixture.probes().get("replaced").await?.observed().seen;
        ensure!(before == now + 1, "round {round}: {} reconciles for a change by another client", before - now);
    }
    fixture.remove("replaced").await
}

/// A change that a CEL predicate filters out triggers no reconcile. A later change proves that the watch works.
pub async fn predicate(fixture: GuestFixture) -> Result<()> {
    for name in ["annotated", "rewritten"] {
        fixture.create_and_wait(name, spec("child", "one")).await?;
    }
    for round in 0..3 {
        fixture.until_suspended().await?;
        let annotated = fixture.probes().get("annotated").await?.observed().seen;
        let rewritten = fixture.probes().get("rewritten").await?.observed().seen;
        let annotation = serde_json::json!({ "metadata": { "annotations": { "round": round.to_string() } } });
        let data = serde_json::json!({ "data": { "round": round.to_string() } });
        for (name, patch) in [("annotated", annotation), ("rewritten", data)] {
            fixture.config_maps().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        fixture.until("rewritten", "reconciled", |probe| probe.observed().seen > rewritten).await?;
        fixture.until_suspended().await?;
        let now = fixture.probes().get("annotated").await?.observed().seen;
        ensure!(now == annotated, "round {round}: {} reconciles for an annotation", now - annotated);
    }
    for name in ["annotated", "rewritten"] {
        fixture.remove(name).await?;
    }
    Ok(())
}
