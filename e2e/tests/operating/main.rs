//! What a running host tells about itself, above all while its disk is bad, on a real API server.

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
use wasmop_e2e::inner_host::Host;
use wasmop_e2e::object::Object;
use wasmop_e2e::part;
use wasmop_e2e::probe::ProbeStatus;
use wasmop_e2e::table::{Cell, Table};
use wasmop_e2e::world::Cluster;
use wasmop_package::Package;
use wasmop_snapshot::faults::Fault;

const COLUMN: &str = "rust";
/// For rows that need two controllers.
const OTHER_COLUMN: &str = "go";
/// Enough steps for the log of an instance to be full, at which it is to be saved without being suspended.
const MANY: usize = 150;
const FEW: usize = 5;
/// What a slow disk takes for each operation.
const SLOW: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    part::main("operating", run())
}

async fn run() -> Result<bool> {
    let cluster = Cluster::start_with(audit::flags).await?;
    let guest = tokio::task::block_in_place(|| guests::build(COLUMN, cluster.dir()))?;
    cluster.create_crd().await?;
    cluster.create_namespace(guest.name).await?;
    let state_dir = cluster.dir().join("state");
    let start = || {
        let package = Package::parse(std::fs::read(&guest.package)?)?;
        Host::start(vec![package], &cluster.plane.kubeconfig, &state_dir)
    };
    let host = start()?;
    let probe = Object::new(&cluster, &guest, "disk");
    let mut table = Table::new(&[COLUMN]);
    let mut set = |row, result| table.tell(row, COLUMN, result);
    set("healthy and ready once everything is listed", ready(&host, &cluster.client, guest.name).await);
    probe.create().await?;
    set("full disk: told, goes on, recovers", refused(&host, &probe, Fault::Full, Reason::DiskFull, MANY).await);
    set("read-only disk, same", refused(&host, &probe, Fault::ReadOnly, Reason::ReadOnly, FEW).await);
    set("disk that fails to write, same", refused(&host, &probe, Fault::Writes, Reason::IOError, FEW).await);
    set("disk that confirms nothing: told until it does", unconfirmed(&host, &probe).await);
    set("slow disk: goes on, is measured, no condition", slow(&host, &probe).await);
    let row = "the page in a browser: states, errors, memory over time";
    match browser::missing() {
        Some(reason) => table.set(row, COLUMN, Cell::Skipped(reason)),
        None => table.tell(row, COLUMN, page::shown(&host, &probe).await),
    }
    let row = "the page does not scroll sideways, from a phone to a desktop";
    match browser::missing() {
        Some(reason) => table.set(row, COLUMN, Cell::Skipped(reason)),
        None => table.tell(row, COLUMN, page::fits(&host).await),
    }
    let mut set = |row, result| table.tell(row, COLUMN, result);
    let before = probe.observed().await?;
    host.stop().await?;
    let host = start()?;
    set("nothing is lost over a restart afterwards", restarted(&host, &probe, &before).await);
    host.stop().await?;
    let other = tokio::task::block_in_place(|| guests::build(OTHER_COLUMN, cluster.dir()))?;
    cluster.create_namespace(other.name).await?;
    for (row, result) in policies::all(&cluster, &guest, &other).await {
        set(row, result);
    }
    set("narrower watches: one on the API server for all, each is told of its own", watches::narrower(&cluster).await);
    println!("\n{}", table.render("operating"));
    Ok(table.is_good())
}

async fn ready(host: &Host, client: &Client, name: &str) -> Result<()> {
    // Also while packages are being compiled.
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
    let kept = host.metric("wasmop_watched_objects{resource=\"configmaps/v1\"}").await?;
    ensure!(kept == Some(there.items.len() as f64), "{kept:?} ConfigMaps are kept, there are {}", there.items.len());
    Ok(())
}

/// A disk that refuses snapshots: the controller reconciles `changes` changes meanwhile, has the condition, and
/// loses it when the disk is well.
async fn refused(host: &Host, probe: &Object, fault: Fault, reason: Reason, changes: usize) -> Result<()> {
    let name = probe.name;
    let failing = format!("wasmop_snapshot_failing{{controller=\"{name}\",reason=\"{}\"}}", reason.as_str());
    let before = host.until("suspended", |c| c.state == State::Suspended).await?;
    let known = probe.observed().await?;
    host.disk.set(fault);
    probe.change(&format!("{reason:?}")).await?;
    let told = host.until("failing", |c| c.conditions.iter().any(|k| k.reason == reason.as_str())).await?;
    ensure!(told.state != State::Suspended && told.suspends == before.suspends, "it was suspended: {told:?}");
    ensure!(host.metric(&failing).await? == Some(1.0), "no {failing}");
    let top = top(host)?;
    let condition = format!("SnapshotFailing={}", reason.as_str());
    ensure!(top.contains(&condition), "top does not say {condition}:\n{top}");
    for change in 0..changes {
        probe.change(&format!("{reason:?}-{change}")).await.with_context(|| format!("change {change}"))?;
    }
    let now = host.controller().await?;
    ensure!(!now.conditions.is_empty() && now.suspends == before.suspends, "the disk is still bad: {now:?}");
    // Else the log would not have been full, and nothing would have been seen of what happens then.
    ensure!(changes < MANY || now.steps - before.steps > 256, "{} steps only", now.steps - before.steps);
    host.disk.set(Fault::None);
    let well = host.until("suspended again", |c| c.conditions.is_empty() && c.state == State::Suspended).await?;
    ensure!(host.metric(&failing).await?.is_none(), "{failing} is still there");
    ensure!(well.last_error.is_some_and(|e| e.message.contains("could not be written")), "the error is forgotten");
    probe.change("well").await?;
    // Its memory has seen every change, and no step was undone or lost.
    let seen = probe.observed().await?.seen;
    ensure!(seen >= known.seen + changes as u64 + 2, "seen {} before and {seen} after {changes} changes", known.seen);
    ensure!(well.restarts == 0, "{} restarts", well.restarts);
    Ok(())
}

/// A disk that takes everything and never says that it lasts.
async fn unconfirmed(host: &Host, probe: &Object) -> Result<()> {
    let before = host.until("suspended", |c| c.state == State::Suspended && c.conditions.is_empty()).await?;
    host.disk.set(Fault::Syncs);
    probe.change("unconfirmed").await?;
    let condition = |c: &wasmop_host::status::values::ControllerStatus| {
        c.suspends > before.suspends && c.conditions.iter().any(|k| k.reason == Reason::IOError.as_str())
    };
    host.until("suspended and not confirmed", condition).await?;
    host.disk.set(Fault::None);
    probe.change("confirmed").await?;
    host.until("confirmed", |c| c.state == State::Suspended && c.conditions.is_empty()).await?;
    Ok(())
}

async fn slow(host: &Host, probe: &Object) -> Result<()> {
    host.until("suspended", |c| c.state == State::Suspended).await?;
    let fast = "wasmop_suspend_duration_seconds_bucket{le=\"0.1\"}";
    let all = "wasmop_suspend_duration_seconds_count";
    let slow = async || {
        Ok::<_, anyhow::Error>(host.metric(all).await?.unwrap_or(0.0) - host.metric(fast).await?.unwrap_or(0.0))
    };
    let before = slow().await?;
    host.disk.set(Fault::Slow(SLOW));
    for change in 0..FEW {
        probe.change(&format!("slow-{change}")).await?;
        ensure!(host.get("/healthz").await?.0 == 200, "not healthy");
    }
    let suspends = host.controller().await?.suspends;
    let controller = host.until("suspended", |c| c.state == State::Suspended && c.suspends > suspends).await;
    host.disk.set(Fault::None);
    let controller = controller?;
    ensure!(controller.conditions.is_empty(), "{:?}", controller.conditions);
    ensure!(slow().await? > before, "no suspend took longer than {SLOW:?}");
    Ok(())
}

async fn restarted(host: &Host, probe: &Object, before: &ProbeStatus) -> Result<()> {
    host.until_ready().await?;
    probe.change("after the restart").await?;
    let after = probe.observed().await?;
    ensure!(after.seen > before.seen && after.total > before.total, "{before:?}, then {after:?}");
    Ok(())
}

/// What a person sees.
fn top(host: &Host) -> Result<String> {
    let output =
        Command::new(guests::wasmop()?).args(["top", "--once", "--address", &host.address.to_string()]).output()?;
    ensure!(output.status.success(), "wasmop top: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
