//! Controllers that occupy every connection of the host, and a neighbour that needs some.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::Instant;
use wasmop_e2e::guests::Guest as Good;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::wat_guest::NAMESPACE;
use wasmop_package::Package;

use crate::guests;
use crate::neighbour::Neighbour;

const POLL: Duration = Duration::from_millis(100);
/// Two controllers that together send as many requests as the host has connections.
const HOGS: [&str; 2] = ["hog1", "hog2"];
/// Changes that the neighbour reconciles with a few requests each.
const CHANGES: u64 = 10;

/// The neighbour reconciles while the hogs do not read their responses.
pub async fn keeps_neighbour(cluster: &TestCluster, good: &Good) -> Result<()> {
    let objects = Api::<ConfigMap>::namespaced(cluster.client.clone(), NAMESPACE);
    for n in 0..3 {
        let metadata = ObjectMeta {
            name: Some(format!("large{n}")),
            labels: Some([("large".to_owned(), String::new())].into()),
            ..ObjectMeta::default()
        };
        let data = Some([("data".to_owned(), "x".repeat(900_000))].into());
        objects.create(&PostParams::default(), &ConfigMap { metadata, data, ..ConfigMap::default() }).await?;
    }
    let mut packages = vec![Package::parse(std::fs::read(&good.package)?)?];
    for name in HOGS {
        packages.push(guests::hog(name)?);
    }
    let host = InProcessHost::start(packages, &cluster.plane.kubeconfig, &cluster.dir().join("shares"))?;
    let deadline = Instant::now() + TIMEOUT * 2;
    loop {
        // The host may still be starting.
        let controllers = host.controllers().await.unwrap_or_default();
        let is_held = |name: &&str| {
            let mut conditions = controllers.iter().filter(|c| c.name == *name).flat_map(|c| &c.conditions);
            conditions.any(|condition| condition.reason == "CpuShareUsedUp")
        };
        if HOGS.iter().all(is_held) {
            break;
        }
        ensure!(Instant::now() < deadline, "the hogs are not throttled: {controllers:?}");
        tokio::time::sleep(POLL).await;
    }
    let neighbour = Neighbour::of(&cluster.client, good.name);
    let reconciled = neighbour.reconcile_during(CHANGES, async {}).await;
    host.stop().await?;
    let ((), changes, slowest) = reconciled.context("beside controllers that do not read their responses")?;
    println!("the neighbour of the hogs reconciled {changes} changes, the slowest took {slowest:?}");
    Ok(())
}
