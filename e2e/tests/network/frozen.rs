//! Connections that die without a word.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tokio::time::sleep;
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::freezing_proxy::FreezingProxy;

use crate::stage::{Stage, patience};
use crate::{Row, row};

/// As long as client-go takes to notice, with what is then still to be done: a retry with backoff, a reconcile.
const RECOVERY: Duration = Duration::from_secs(45 + 15);
/// For how long connections are accepted and not served.
const HALF_OPEN: Duration = Duration::from_secs(15);
/// Objects that change while nothing passes.
const OBJECTS: usize = 20;

pub fn rows(stage: &Stage) -> Vec<Row<'_>> {
    vec![
        row("frozen over HTTP/2: all that changes is reconciled within a minute", http2(stage)),
        row("frozen over HTTP/1.1: all that changes is reconciled within a minute", http1(stage)),
        row("half-open: goes on once connections are served again", half_open(stage)),
        row("frozen under an election: the Lease is kept", election(stage)),
        row("slow: answers that trickle in are answers", slow(stage)),
    ]
}

/// A kubeconfig that leads to the cluster through the proxy.
fn through(stage: &Stage, name: &str, proxy: &FreezingProxy) -> Result<std::path::PathBuf> {
    stage.kubeconfig(name, |kubeconfig| {
        if let Some(cluster) = &mut kubeconfig.clusters[0].cluster {
            cluster.server = Some(format!("https://{}", proxy.address()));
        }
    })
}

async fn http2(stage: &Stage) -> Result<()> {
    let proxy = FreezingProxy::start(stage.api_server()?).await?;
    let kubeconfig = through(stage, "frozen-http2", &proxy)?;
    freezes(stage, "frozen-http2", &kubeconfig, &proxy).await
}

async fn http1(stage: &Stage) -> Result<()> {
    let plain = FaultProxy::start(stage.cluster.client.clone()).await?;
    let proxy = FreezingProxy::start(plain.address()).await?;
    let kubeconfig = stage.path("frozen-http1.kubeconfig");
    std::fs::write(
        &kubeconfig,
        plain.kubeconfig().replace(&plain.address().to_string(), &proxy.address().to_string()),
    )?;
    freezes(stage, "frozen-http1", &kubeconfig, &proxy).await
}

async fn freezes(stage: &Stage, name: &'static str, kubeconfig: &std::path::Path, proxy: &FreezingProxy) -> Result<()> {
    let run = stage.run(name, kubeconfig, &[]).await?;
    let names: Vec<_> = (0..OBJECTS).map(|n| format!("probe-{n}")).collect();
    // Half of them while the host is at work on the other half.
    let (before, after) = names.split_at(OBJECTS / 2);
    try_join_all(before.iter().map(|name| run.create(name))).await?;
    proxy.freeze();
    try_join_all(after.iter().map(|name| run.create(name))).await?;
    run.change("probe", "while it is frozen").await?;
    let all = names.iter().map(String::as_str).chain(["probe"]);
    try_join_all(all.map(|name| run.until_current(name, RECOVERY))).await?;
    run.stop().await
}

async fn half_open(stage: &Stage) -> Result<()> {
    let proxy = FreezingProxy::start(stage.api_server()?).await?;
    let kubeconfig = through(stage, "half-open", &proxy)?;
    let run = stage.run("half-open", &kubeconfig, &[]).await?;
    proxy.set_half_open(true);
    proxy.freeze();
    let accepted = proxy.accepted();
    run.change("probe", "while nobody answers").await?;
    let tried = async {
        while proxy.accepted() == accepted {
            sleep(Duration::from_millis(100)).await;
        }
    };
    ensure!(tokio::time::timeout(RECOVERY, tried).await.is_ok(), "the host does not try again");
    sleep(HALF_OPEN).await;
    proxy.set_half_open(false);
    run.until_current("probe", RECOVERY).await?;
    run.stop().await
}

async fn election(stage: &Stage) -> Result<()> {
    let proxy = FreezingProxy::start(stage.api_server()?).await?;
    let kubeconfig = through(stage, "frozen-election", &proxy)?;
    let args = ["--leader-elect", "--leader-elect-resource-name", "frozen-election"];
    let run = stage.run("frozen-election", &kubeconfig, &args).await?;
    let position = run.host().log.position()?;
    proxy.freeze();
    run.reconciles("probe", "while it is frozen", RECOVERY).await?;
    let lost = run.host().log.records()?[position..].iter().any(|record| record.message().contains("has stopped here"));
    ensure!(!lost, "the Lease was lost:\n{}", run.host().log.tail(15));
    run.stop().await
}

async fn slow(stage: &Stage) -> Result<()> {
    let proxy = FaultProxy::start(stage.cluster.client.clone()).await?;
    let kubeconfig = stage.path("slow.kubeconfig");
    std::fs::write(&kubeconfig, proxy.kubeconfig())?;
    let run = stage.run("slow", &kubeconfig, &[]).await?;
    // A quarter of a second for each of some ten pieces.
    let _slow = proxy.add(Rule::new("", "", Fault::Slow { bytes: 64, pause: Duration::from_millis(250) }));
    proxy.cut_connections().await;
    run.reconciles("probe", "slowly", RECOVERY + patience()).await?;
    run.stop().await
}
