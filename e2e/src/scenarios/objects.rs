//! Values on their way through a guest, and how large they may be.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};

use crate::guest_fixture::GuestFixture;
use crate::probe::{ProbeSpec, spec};

/// Integers that a double cannot represent come back unchanged.
pub async fn exact(fixture: GuestFixture) -> Result<()> {
    for (name, count) in [("odd", (1_u64 << 53) + 1), ("largest", i64::MAX as u64)] {
        let probe = fixture.create_and_wait(name, ProbeSpec { count, ..spec("exact", "") }).await?;
        ensure!(probe.observed().count == count, "{count} became {}", probe.observed().count);
        fixture.remove(name).await?;
    }
    Ok(())
}

/// Every call of the client returns values as they were sent, with typed and with untyped objects.
///
/// The values: integers at their limits, quantities, ports by number and by name, microseconds, and unknown fields.
pub async fn calls(fixture: GuestFixture) -> Result<()> {
    let probe = fixture.create_and_wait("calls", spec("calls", "")).await?;
    let echo = probe.observed().echo;
    fixture.remove("calls").await?;
    // The guest deletes the objects it created, unless a call failed.
    let deployments: Api<Deployment> = Api::namespaced(fixture.env.cluster.client.clone(), fixture.guest.name);
    let left = ListParams::default().labels("calls");
    fixture.probes().delete_collection(&DeleteParams::default(), &left).await?;
    deployments.delete_collection(&DeleteParams::background(), &left).await?;
    ensure!(echo == "exact", "the echo is {echo:?}");
    Ok(())
}

/// Quantities that the API server spells differently are equal.
pub async fn quantities(fixture: GuestFixture) -> Result<()> {
    let probe = fixture.create_and_wait("quantities", spec("quantity", "")).await?;
    ensure!(probe.observed().echo == "unchanged", "the echo is {:?}", probe.observed().echo);
    let deployments: Api<Deployment> = Api::namespaced(fixture.env.cluster.client.clone(), fixture.guest.name);
    deployments.delete("quantities", &DeleteParams::default()).await?;
    fixture.remove("quantities").await
}

/// An object is nested deeper than parsers allow by default (serde_json: 128).
///
/// The API server accepts it. The guest's type lacks the field, so this object and others of its kind are reconciled.
pub async fn nested(fixture: GuestFixture) -> Result<()> {
    const LEVELS: usize = 200;
    fixture.create_and_wait("nested", spec("", "one")).await?;
    let deep = (0..LEVELS).fold(serde_json::json!(1), |inner, _| serde_json::json!({ "n": inner }));
    let status = serde_json::json!({ "status": { "conditions": [{ "type": "Nested", "deep": deep }] } });
    fixture.probes().patch_status("nested", &PatchParams::default(), &Patch::Merge(&status)).await?;
    fixture.create_and_wait("beside-nested", spec("child", "one")).await?;
    fixture.change("nested", spec("", "two")).await?;
    let probe = fixture.until_current("nested").await?;
    ensure!(probe.observed().value == "two", "its value is {:?}", probe.observed().value);
    // kube parses the whole response to a deletion, and fails at 128 levels.
    let flat = serde_json::json!({ "status": { "conditions": null } });
    fixture.probes().patch_status("nested", &PatchParams::default(), &Patch::Merge(&flat)).await?;
    fixture.remove("nested").await?;
    fixture.remove("beside-nested").await
}

/// The list takes a fifth of the guest's memory.
pub async fn list(fixture: GuestFixture) -> Result<()> {
    const OBJECTS: usize = 24;
    const BYTES: usize = 500_000;
    for n in 0..OBJECTS {
        let config_map = k8s_openapi::api::core::v1::ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("bulk-{n}")),
                labels: Some([("bulk".to_owned(), "bulk".to_owned())].into()),
                ..ObjectMeta::default()
            },
            data: Some([("bulk".to_owned(), "x".repeat(BYTES))].into()),
            ..Default::default()
        };
        fixture.config_maps().create(&PostParams::default(), &config_map).await?;
    }
    let probe = fixture.create_and_wait("bulk", spec("list", "")).await?;
    let expected = format!("{OBJECTS},{}", OBJECTS * BYTES);
    ensure!(probe.observed().echo == expected, "the echo is {:?}, not {expected}", probe.observed().echo);
    let bulk = ListParams::default().labels("bulk=bulk");
    fixture.config_maps().delete_collection(&DeleteParams::default(), &bulk).await?;
    fixture.remove("bulk").await
}
