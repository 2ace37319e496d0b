//! What becomes of values on their way through a guest, and how much of them it can hold.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};

use crate::probe::{ProbeSpec, spec};
use crate::scene::Scene;

/// Integers that a double does not hold come back from a guest as they are.
pub async fn exact(scene: Scene) -> Result<()> {
    for (name, count) in [("odd", (1_u64 << 53) + 1), ("largest", i64::MAX as u64)] {
        let probe = scene.create_and_wait(name, ProbeSpec { count, ..spec("exact", "") }).await?;
        ensure!(probe.observed().count == count, "{count} became {}", probe.observed().count);
        scene.remove(name).await?;
    }
    Ok(())
}

/// Integers at their limits, quantities, ports by number and by name, microseconds, and fields that a type lacks come
/// back as they were sent, from every call of the client, with typed objects and with untyped ones.
pub async fn calls(scene: Scene) -> Result<()> {
    let probe = scene.create_and_wait("calls", spec("calls", "")).await?;
    let echo = probe.observed().echo;
    scene.remove("calls").await?;
    // The guest deletes what it makes, unless a call failed.
    let deployments: Api<Deployment> = Api::namespaced(scene.world.cluster.client.clone(), scene.guest.name);
    let left = ListParams::default().labels("calls");
    scene.probes().delete_collection(&DeleteParams::default(), &left).await?;
    deployments.delete_collection(&DeleteParams::background(), &left).await?;
    ensure!(echo == "exact", "the echo is {echo:?}");
    Ok(())
}

/// A quantity that is spelt otherwise than the API server answers it is no change.
pub async fn quantities(scene: Scene) -> Result<()> {
    let probe = scene.create_and_wait("quantities", spec("quantity", "")).await?;
    ensure!(probe.observed().echo == "unchanged", "the echo is {:?}", probe.observed().echo);
    let deployments: Api<Deployment> = Api::namespaced(scene.world.cluster.client.clone(), scene.guest.name);
    deployments.delete("quantities", &DeleteParams::default()).await?;
    scene.remove("quantities").await
}

/// An object nested deeper than parsers go by default (serde_json: 128). The API server takes it, and other objects of
/// the kind go on, as does this one: the guest does not know the field.
pub async fn nested(scene: Scene) -> Result<()> {
    const LEVELS: usize = 200;
    scene.create_and_wait("nested", spec("", "one")).await?;
    let deep = (0..LEVELS).fold(serde_json::json!(1), |inner, _| serde_json::json!({ "n": inner }));
    let status = serde_json::json!({ "status": { "conditions": [{ "type": "Nested", "deep": deep }] } });
    scene.probes().patch_status("nested", &PatchParams::default(), &Patch::Merge(&status)).await?;
    scene.create_and_wait("beside-nested", spec("child", "one")).await?;
    scene.change("nested", spec("", "two")).await?;
    let probe = scene.until_current("nested").await?;
    ensure!(probe.observed().value == "two", "its value is {:?}", probe.observed().value);
    // kube reads the answer to a deletion whole, and gives up at 128 levels.
    let flat = serde_json::json!({ "status": { "conditions": null } });
    scene.probes().patch_status("nested", &PatchParams::default(), &Patch::Merge(&flat)).await?;
    scene.remove("nested").await?;
    scene.remove("beside-nested").await
}

/// A list of a fifth of the guest's memory.
pub async fn list(scene: Scene) -> Result<()> {
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
        scene.config_maps().create(&PostParams::default(), &config_map).await?;
    }
    let probe = scene.create_and_wait("bulk", spec("list", "")).await?;
    let expected = format!("{OBJECTS},{}", OBJECTS * BYTES);
    ensure!(probe.observed().echo == expected, "the echo is {:?}, not {expected}", probe.observed().echo);
    let bulk = ListParams::default().labels("bulk=bulk");
    scene.config_maps().delete_collection(&DeleteParams::default(), &bulk).await?;
    scene.remove("bulk").await
}
