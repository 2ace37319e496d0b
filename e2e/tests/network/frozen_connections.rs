//! Connections that stop passing bytes and are not closed.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, try_join_all};
use tokio::time::sleep;
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::freezing_proxy::FreezingProxy;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::TIMEOUT;

use crate::fixture::{COLUMN, Fixture};

/// The time that client-go takes to notice a dead connection, plus a retry with backoff and a reconcile.
const RECOVERY: Duration = Duration::from_secs(45 + 15);
/// How long connections are accepted and not served.
const HALF_OPEN: Duration = Duration::from_secs(15);
/// Objects that change while the connection is frozen.
const OBJECTS: usize = 20;

pub fn rows<'a>(part: &'a Part, fixture: &'a Fixture) -> Vec<LocalBoxFuture<'a, ()>> {
    vec![
        part.row("frozen HTTP/2: changes are reconciled within a minute", COLUMN, http2(fixture)).boxed_local(),
        part.row("frozen HTTP/1.1: changes are reconciled within a minute", COLUMN, http1(fixture)).boxed_local(),
        part.row("half-open: reconciles go on once connections are served", COLUMN, half_open(fixture)).boxed_local(),
        part.row("frozen during leadership: the Lease is kept", COLUMN, election(fixture)).boxed_local(),
        part.row("slow: responses that trickle in are accepted", COLUMN, slow(fixture)).boxed_local(),
    ]
}

/// A kubeconfig that leads to the cluster through the proxy.
fn through(fixture: &Fixture, name: &str, proxy: &FreezingProxy) -> Result<std::path::PathBuf> {
    fixture.kubeconfig(name, |kubeconfig| {
        if let Some(cluster) = &mut kubeconfig.clusters[0].cluster {
            cluster.server = Some(format!("https://{}", proxy.address()));
        }
    })
}

async fn http2(fixture: &Fixture) -> Result<()> {
    let proxy = FreezingProxy::start(fixture.api_server()?).await?;
    let kubeconfig = through(fixture, "frozen-http2", &proxy)?;
    freezes(fixture, "frozen-http2", &kubeconfig, &proxy).await
}

async fn http1(fixture: &Fixture) -> Result<()> {
    let plain = FaultProxy::start(fixture.cluster.client.clone()).await?;
    let proxy = FreezingProxy::start(plain.address()).await?;
    let kubeconfig = fixture.path("frozen-http1.kubeconfig");
    std::fs::write(
        &kubeconfig,
        plain.kubeconfig().replace(&plain.address().to_string(), &proxy.address().to_string()),
    )?;
    freezes(fixture, "frozen-http1", &kubeconfig, &proxy).await
}

async fn freezes(
    fixture: &Fixture,
    name: &'static str,
    kubeconfig: &std::path::Path,
    proxy: &FreezingProxy,
) -> Result<()> {
    let run = fixture.run(name, kubeconfig, &[]).await?;
    let names: Vec<_> = (0..OBJECTS).map(|n| format!("probe-{n}")).collect();
    // The connection freezes while the host reconciles the first half.
    let (before, after) = names.split_at(OBJECTS / 2);
    try_join_all(before.iter().map(|name| run.create(name))).await?;
    proxy.freeze();
    try_join_all(after.iter().map(|name| run.create(name))).await?;
    run.change("probe", "while it is frozen").await?;
    let all = names.iter().map(String::as_str).chain(["probe"]);
    try_join_all(all.map(|name| run.until_current(name, RECOVERY))).await?;
    run.stop().await
}

async fn half_open(fixture: &Fixture) -> Result<()> {
    let proxy = FreezingProxy::start(fixture.api_server()?).await?;
    let kubeconfig = through(fixture, "half-open", &proxy)?;
    let run = fixture.run("half-open", &kubeconfig, &[]).await?;
    proxy.set_half_open(true);
    proxy.freeze();
    let accepted = proxy.accepted();
    run.change("probe", "while no connection is served").await?;
    let tried = async {
        while proxy.accepted() == accepted {
            sleep(Duration::from_millis(100)).await;
        }
    };
    ensure!(tokio::time::timeout(RECOVERY, tried).await.is_ok(), "the host does not reconnect");
    sleep(HALF_OPEN).await;
    proxy.set_half_open(false);
    run.until_current("probe", RECOVERY).await?;
    run.stop().await
}

async fn election(fixture: &Fixture) -> Result<()> {
    let proxy = FreezingProxy::start(fixture.api_server()?).await?;
    let kubeconfig = through(fixture, "frozen-election", &proxy)?;
    let args = ["--leader-elect", "--leader-elect-resource-name", "frozen-election"];
    let run = fixture.run("frozen-election", &kubeconfig, &args).await?;
    let position = run.host().log.position()?;
    proxy.freeze();
    run.reconciles("probe", "while it is frozen", RECOVERY).await?;
    let lost = run.host().log.records()?[position..].iter().any(|record| record.message().contains("has stopped here"));
    ensure!(!lost, "the Lease was lost:\n{}", run.host().log.tail(15));
    run.stop().await
}

async fn slow(fixture: &Fixture) -> Result<()> {
    let proxy = FaultProxy::start(fixture.cluster.client.clone()).await?;
    let kubeconfig = fixture.path("slow.kubeconfig");
    std::fs::write(&kubeconfig, proxy.kubeconfig())?;
    let run = fixture.run("slow", &kubeconfig, &[]).await?;
    // A response has about ten pieces, each after a quarter of a second.
    let _slow = proxy.add(Rule::new("", "", Fault::Slow { bytes: 64, pause: Duration::from_millis(250) }));
    proxy.cut_connections().await;
    run.reconciles("probe", "slowly", RECOVERY + TIMEOUT).await?;
    run.stop().await
}
