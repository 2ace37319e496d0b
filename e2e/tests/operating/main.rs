//! Metrics, probes, conditions and the page of a running host, with a healthy disk and with a failing one.

mod page;
mod policies;
mod watches;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::{Api, Client};
use wasmop_core::status::save_failure::Reason;
use wasmop_core::status::state::State;
use wasmop_e2e::audit;
use wasmop_e2e::browser;
use wasmop_e2e::guests;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::probe::ProbeStatus;
use wasmop_e2e::probe_object::ProbeObject;
use wasmop_e2e::table::Skip;
use wasmop_e2e::test_cluster::TestCluster;
use wasmop_package::Package;
use wasmop_snapshot::faulty_disk::DiskFault;

const COLUMN: &str = "rust";
/// The guest of rows that need two controllers.
const OTHER_COLUMN: &str = "go";
/// Changes that fill the log of an instance. The host then saves the instance without suspending it.
const MANY: usize = 150;
const FEW: usize = 5;
/// The time that a slow disk takes for each operation.
const SLOW: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    part::main("operating", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start_with(audit::flags).await?;
    let guest = tokio::task::block_in_place(|| guests::build(COLUMN, cluster.dir()))?;
    cluster.create_crd().await?;
    cluster.create_namespace(guest.name).await?;
    let state_dir = cluster.dir().join("state");
    let start = || {
        let package = Package::parse(std::fs::read(&guest.package)?)?;
        InProcessHost::start(vec![package], &cluster.plane.kubeconfig, &state_dir)
    };
    let host = start()?;
    let probe = ProbeObject::new(&cluster, &guest, "disk");
    let is_ready = ready(&host, &cluster.client, guest.name);
    part.step("the host is healthy while it starts and ready once everything is listed", COLUMN, is_ready).await;
    probe.create().await?;
    for (row, fault, reason, changes) in [
        ("full disk: a condition appears, reconciles go on, suspends resume", DiskFault::Full, Reason::DiskFull, MANY),
        ("read-only disk: the same", DiskFault::ReadOnly, Reason::ReadOnly, FEW),
        ("failing writes: the same", DiskFault::Writes, Reason::IOError, FEW),
    ] {
        part.row(row, COLUMN, refused(&host, &probe, fault, reason, changes)).await;
    }
    part.row("failing fsync: a condition lasts until it succeeds", COLUMN, unconfirmed(&host, &probe)).await;
    part.row("slow disk: metrics show it, no condition appears", COLUMN, slow(&host, &probe)).await;
    let shown = in_browser(page::shown(&host, &probe));
    part.row("the page in a browser shows states, errors and memory over time", COLUMN, shown).await;
    let fits = in_browser(page::fits(&host));
    part.row("the page does not scroll sideways on a phone or a desktop", COLUMN, fits).await;
    let before = probe.observed().await?;
    host.stop().await?;
    let host = start()?;
    part.row("a host restart after all these faults loses nothing", COLUMN, restarted(&host, &probe, &before)).await;
    host.stop().await?;
    let other = tokio::task::block_in_place(|| guests::build(OTHER_COLUMN, cluster.dir()))?;
    cluster.create_namespace(other.name).await?;
    let adaptive = policies::adaptive(&cluster, &guest);
    part.row("adaptive policy: resident across short gaps, suspended across long ones", COLUMN, adaptive).await;
    let budget = policies::budget(&cluster, &guest, &other);
    part.row("the memory budget takes precedence over a policy that never suspends", COLUMN, budget).await;
    part.row("controllers with narrower watches share one upstream watch", COLUMN, watches::narrower(&cluster)).await;
    Ok(())
}

/// Skips a row where there is no browser.
async fn in_browser(check: impl Future<Output = Result<()>>) -> Result<()> {
    match browser::missing() {
        Some(reason) => Err(Skip::because(reason)),
        None => check.await,
    }
}

async fn ready(host: &InProcessHost, client: &Client, name: &str) -> Result<()> {
    // This also holds while packages are being compiled.
    ensure!(host.get("/healthz").await?.0 == 200, "not healthy while it starts");
    host.until_ready().await?;
    ensure!(host.get("/healthz").await?.0 == 200, "not healthy");
    let (status, page) = host.get("/").await?;
    ensure!(status == 200 && page.contains("<table>"), "no page");
    let controller = host.until("suspended", |c| c.state == State::Suspended && c.suspends > 0).await?;
    ensure!(controller.name == name && controller.disk_bytes > 0 && controller.resident_bytes == 0, "{controller:?}");
    for series in
        ["wasmop_watches{resource=\"configmaps/v1\"}", "rest_client_requests_total{code=\"200\",method=\"GET\"}"]
    {
        ensure!(host.metric(series).await? > Some(0.0), "no {series}");
    }
    let there = Api::<k8s_openapi::api::core::v1::ConfigMap>::all(client.clone()).list(&Default::default()).await?;
    let watched = host.metric("wasmop_watched_objects{resource=\"configmaps/v1\"}").await?;
    ensure!(watched == Some(there.items.len() as f64), "{watched:?} of {} ConfigMaps are watched", there.items.len());
    Ok(())
}

/// A disk rejects snapshots. The controller reconciles `changes` changes and has a condition until the disk recovers.
async fn refused(
    host: &InProcessHost,
    probe: &ProbeObject,
    fault: DiskFault,
    reason: Reason,
    changes: usize,
) -> Result<()> {
    let name = probe.name;
    let failing = format!("wasmop_snapshot_failing{{controller=\"{name}\",reason=\"{}\"}}", reason.as_str());
    let before = host.until("suspended", |c| c.state == State::Suspended).await?;
    let seen_before = probe.observed().await?;
    host.disk.set(fault);
    probe.change(&format!("{reason:?}")).await?;
    let failing_status = host.until("failing", |c| c.conditions.iter().any(|k| k.reason == reason.as_str())).await?;
    let was_suspended = failing_status.state == State::Suspended || failing_status.suspends != before.suspends;
    ensure!(!was_suspended, "it was suspended: {failing_status:?}");
    ensure!(host.metric(&failing).await? == Some(1.0), "no {failing}");
    let top = top(host)?;
    let condition = format!("SnapshotFailing={}", reason.as_str());
    ensure!(top.contains(&condition), "top does not say {condition}:\n{top}");
    for change in 0..changes {
        probe.change(&format!("{reason:?}-{change}")).await.with_context(|| format!("change {change}"))?;
    }
    let now = host.controller().await?;
    ensure!(
        !now.conditions.is_empty() && now.suspends == before.suspends,
        "the condition is gone, or a suspend succeeded: {now:?}"
    );
    // With fewer steps the log is not full, and the save without a suspend is not tested.
    ensure!(changes < MANY || now.steps - before.steps > 256, "only {} steps", now.steps - before.steps);
    host.disk.set(DiskFault::None);
    let healthy = host.until("suspended again", |c| c.conditions.is_empty() && c.state == State::Suspended).await?;
    ensure!(host.metric(&failing).await?.is_none(), "{failing} is still there");
    let last_error = healthy.last_error.as_ref();
    ensure!(last_error.is_some_and(|e| e.message.contains("could not be written")), "the last error is gone");
    probe.change("healthy").await?;
    // The guest's memory has every change: no step was rolled back or lost.
    let seen = probe.observed().await?.seen;
    ensure!(
        seen >= seen_before.seen + changes as u64 + 2,
        "seen {} before and {seen} after {changes} changes",
        seen_before.seen
    );
    ensure!(healthy.restarts == 0, "{} restarts", healthy.restarts);
    Ok(())
}

/// A disk accepts writes, and fsync fails.
async fn unconfirmed(host: &InProcessHost, probe: &ProbeObject) -> Result<()> {
    let before = host.until("suspended", |c| c.state == State::Suspended && c.conditions.is_empty()).await?;
    host.disk.set(DiskFault::Syncs);
    probe.change("unconfirmed").await?;
    let condition = |c: &wasmop_host::status::values::ControllerStatus| {
        c.suspends > before.suspends && c.conditions.iter().any(|k| k.reason == Reason::IOError.as_str())
    };
    host.until("suspended without fsync", condition).await?;
    host.disk.set(DiskFault::None);
    probe.change("confirmed").await?;
    host.until("confirmed", |c| c.state == State::Suspended && c.conditions.is_empty()).await?;
    Ok(())
}

async fn slow(host: &InProcessHost, probe: &ProbeObject) -> Result<()> {
    host.until("suspended", |c| c.state == State::Suspended).await?;
    let fast = "wasmop_suspend_duration_seconds_bucket{le=\"0.1\"}";
    let all = "wasmop_suspend_duration_seconds_count";
    let slow = async || {
        Ok::<_, anyhow::Error>(host.metric(all).await?.unwrap_or(0.0) - host.metric(fast).await?.unwrap_or(0.0))
    };
    let before = slow().await?;
    host.disk.set(DiskFault::Slow(SLOW));
    for change in 0..FEW {
        probe.change(&format!("slow-{change}")).await?;
        ensure!(host.get("/healthz").await?.0 == 200, "not healthy");
    }
    let suspends = host.controller().await?.suspends;
    let controller = host.until("suspended", |c| c.state == State::Suspended && c.suspends > suspends).await;
    host.disk.set(DiskFault::None);
    let controller = controller?;
    ensure!(controller.conditions.is_empty(), "{:?}", controller.conditions);
    ensure!(slow().await? > before, "no suspend took longer than {SLOW:?}");
    Ok(())
}

async fn restarted(host: &InProcessHost, probe: &ProbeObject, before: &ProbeStatus) -> Result<()> {
    host.until_ready().await?;
    probe.change("after the restart").await?;
    let after = probe.observed().await?;
    ensure!(after.seen > before.seen && after.total > before.total, "{before:?}, then {after:?}");
    Ok(())
}

/// The output of `wasmop top`.
fn top(host: &InProcessHost) -> Result<String> {
    let output =
        Command::new(guests::wasmop()?).args(["top", "--once", "--address", &host.address.to_string()]).output()?;
    ensure!(output.status.success(), "wasmop top: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
