//! Objects that a map function names.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};

use crate::guest_fixture::GuestFixture;
use crate::probe::spec;

/// Creates a ServiceAccount that the guest watches and maps to the Probe in its label.
pub async fn create_account(fixture: &GuestFixture, name: &str, probe: Option<&str>) -> Result<Api<ServiceAccount>> {
    let accounts = Api::namespaced(fixture.env.cluster.client.clone(), fixture.guest.name);
    let mut labels = BTreeMap::from([("guest".to_owned(), fixture.guest.name.to_owned())]);
    labels.extend(probe.map(|probe| ("probe".to_owned(), probe.to_owned())));
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
    Ok(accounts)
}

/// A label that moves from one Probe to another triggers both, also across a suspension.
pub async fn moved(fixture: GuestFixture) -> Result<()> {
    let mut seen = BTreeMap::new();
    for name in ["from", "to"] {
        seen.insert(name, fixture.create_and_wait(name, spec("hold", "")).await?.observed().seen);
    }
    let accounts = create_account(&fixture, "moved", Some("from")).await?;
    let again = async |name: &'static str, seen: u64| {
        let probe = fixture.until(name, "reconciled again", |probe| probe.observed().seen > seen).await?;
        anyhow::Ok(probe.observed().seen)
    };
    seen.insert("from", again("from", seen["from"]).await?);
    fixture.until_suspended().await?;
    let moved = serde_json::json!({ "metadata": { "labels": { "probe": "to" } } });
    accounts.patch("moved", &PatchParams::default(), &Patch::Merge(&moved)).await?;
    for name in ["from", "to"] {
        seen.insert(name, again(name, seen[name]).await?);
    }
    accounts.delete("moved", &DeleteParams::default()).await?;
    again("to", seen["to"]).await?;
    for name in ["from", "to"] {
        fixture.remove(name).await?;
    }
    Ok(())
}

/// A map function may name an object that does not exist.
pub async fn absent(fixture: GuestFixture) -> Result<()> {
    let position = fixture.position()?;
    let accounts = create_account(&fixture, "absent", Some("nobody")).await?;
    let key = fixture.key("nobody");
    let is = |record: &wasmop_testbed::log::Record| record.message() == "reconciled" && record.text("object") == key;
    fixture.until_logged(position, "a reconcile of a name without an object", is).await?;
    accounts.delete("absent", &DeleteParams::default()).await?;
    Ok(())
}
