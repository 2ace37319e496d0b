//! What a map function names.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};

use crate::probe::spec;
use crate::scene::Scene;

/// A ServiceAccount that a guest watches and maps to the Probe in its label.
pub async fn create_account(scene: &Scene, name: &str, probe: Option<&str>) -> Result<Api<ServiceAccount>> {
    let accounts = Api::namespaced(scene.world.cluster.client.clone(), scene.guest.name);
    let mut labels = BTreeMap::from([("guest".to_owned(), scene.guest.name.to_owned())]);
    labels.extend(probe.map(|probe| ("probe".to_owned(), probe.to_owned())));
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
    Ok(accounts)
}

/// A label that moves from one name to another concerns both, also over a suspension.
pub async fn moved(scene: Scene) -> Result<()> {
    let mut seen = BTreeMap::new();
    for name in ["from", "to"] {
        seen.insert(name, scene.create_and_wait(name, spec("hold", "")).await?.observed().seen);
    }
    let accounts = create_account(&scene, "moved", Some("from")).await?;
    let again = async |name: &'static str, seen: u64| {
        let probe = scene.until(name, "reconciled again", |probe| probe.observed().seen > seen).await?;
        anyhow::Ok(probe.observed().seen)
    };
    seen.insert("from", again("from", seen["from"]).await?);
    scene.until_suspended().await?;
    let moved = serde_json::json!({ "metadata": { "labels": { "probe": "to" } } });
    accounts.patch("moved", &PatchParams::default(), &Patch::Merge(&moved)).await?;
    for name in ["from", "to"] {
        seen.insert(name, again(name, seen[name]).await?);
    }
    accounts.delete("moved", &DeleteParams::default()).await?;
    again("to", seen["to"]).await?;
    for name in ["from", "to"] {
        scene.remove(name).await?;
    }
    Ok(())
}

/// A name of which there is no object is reconciled.
pub async fn absent(scene: Scene) -> Result<()> {
    let position = scene.position()?;
    let accounts = create_account(&scene, "absent", Some("nobody")).await?;
    let key = scene.key("nobody");
    let is = |record: &wasmop_testbed::log::Record| record.message() == "reconciled" && record.text("object") == key;
    scene.until_logged(position, "a reconcile of a name without an object", is).await?;
    accounts.delete("absent", &DeleteParams::default()).await?;
    Ok(())
}
