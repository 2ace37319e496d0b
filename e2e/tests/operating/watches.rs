//! Upstream watches of a host, as the API server's audit log records them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use std::time::Duration;
use tokio::time::Instant;
use wasmop_e2e::audit;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::wat_guest::Code;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;

const NAMESPACE: &str = "watched";
/// Controllers by the ConfigMaps that they watch: all, those of a namespace, those with a label.
const ALL: &str = "all";
const TEAM: &str = "team";
const PICKED: &str = "picked";

/// A controller watches all ConfigMaps, one watches a namespace, and one watches a label. One upstream watch serves all.
pub async fn narrower(cluster: &TestCluster) -> Result<()> {
    cluster.create_namespace(NAMESPACE).await?;
    let host = InProcessHost::start(
        vec![
            package(ALL, "", "")?,
            package(TEAM, &format!(r#""namespace":"{NAMESPACE}","#), "")?,
            package(PICKED, "", r#","labelSelector":"picked in (yes, perhaps),!not""#)?,
        ],
        &cluster.plane.kubeconfig,
        &cluster.dir().join("watches-state"),
    )?;
    host.until_ready().await?;
    let maps = |namespace: &str| Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace);
    let (here, elsewhere) = (maps(NAMESPACE), maps("default"));
    // Only controllers whose watch includes an object reconcile it.
    reconciled_by(&host, [ALL, TEAM], async || create(&here, "plain", &[]).await).await?;
    reconciled_by(&host, [ALL], async || create(&elsewhere, "plain", &[("picked", "no")]).await).await?;
    reconciled_by(&host, [ALL, PICKED], async || create(&elsewhere, "picked", &[("picked", "yes")]).await).await?;
    reconciled_by(&host, [ALL, TEAM, PICKED], async || create(&here, "picked", &[("picked", "perhaps")]).await).await?;
    reconciled_by(&host, [ALL], async || create(&elsewhere, "not", &[("picked", "yes"), ("not", "")]).await).await?;
    let delete = async || Ok(here.delete("picked", &DeleteParams::default()).await.map(drop)?);
    reconciled_by(&host, [ALL, TEAM, PICKED], delete).await?;

    let watches = host.overview().await?.host.watches;
    ensure!(watches.len() == 3 && watches.iter().filter(|watch| watch.follows).count() == 2, "{watches:?}");
    let series =
        ["wasmop_watches", "wasmop_watches_derived"].map(|name| format!("{name}{{resource=\"configmaps/v1\"}}"));
    ensure!(host.metric(&series[0]).await? == Some(1.0) && host.metric(&series[1]).await? == Some(2.0), "{series:?}");
    let open: Vec<_> = open(cluster)?;
    ensure!(open.len() == 1, "{} watches are open: {open:?}", open.len());
    host.stop().await
}

/// Open watches of ConfigMaps by hosts.
fn open(cluster: &TestCluster) -> Result<Vec<String>> {
    let is_open = |reached: &audit::AuditedRequest| {
        reached.verb == "watch"
            && !reached.ended
            && reached.uri.contains("/configmaps?")
            && reached.user_agent.starts_with("wasmop/")
    };
    Ok(audit::read(cluster.dir())?.into_iter().filter(is_open).map(|reached| reached.uri).collect())
}

/// Acts, and waits until exactly these controllers have reconciled once more.
async fn reconciled_by<const N: usize>(
    host: &InProcessHost,
    names: [&str; N],
    act: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let reconciles = async || {
        let all = host.controllers().await?;
        let of = |name: &str| all.iter().find(|c| c.name == name).map(|c| c.reconciles).context("no controller");
        Ok::<_, anyhow::Error>([of(ALL)?, of(TEAM)?, of(PICKED)?])
    };
    let before = reconciles().await?;
    act().await?;
    let once = |name| u64::from(names.contains(&name));
    let expected = [before[0] + once(ALL), before[1] + once(TEAM), before[2] + once(PICKED)];
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let now = reconciles().await?;
        if now == expected {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{names:?}: {before:?}, then {now:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn create(maps: &Api<ConfigMap>, name: &str, labels: &[(&str, &str)]) -> Result<()> {
    let labels = labels.iter().map(|(label, value)| (label.to_string(), value.to_string())).collect();
    let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await?;
    Ok(())
}

/// A controller that reconciles ConfigMaps and does nothing.
fn package(name: &str, namespace: &str, selector: &str) -> Result<Package> {
    let spec = format!(
        r#"{{"name":"{name}",{namespace}"primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps"{selector}}},"watches":[]}}"#
    );
    Code { reconcile: "(call $finish (local.get $task))", spec: Some(spec), ..Code::default() }
        .package(name, Limits::default())
}
