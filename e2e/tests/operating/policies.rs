//! What decides when a controller is suspended, as it is seen from outside.

use anyhow::{Result, ensure};
use tokio::time::Instant;
use wasmop_core::status::state::State;
use wasmop_e2e::guests::Guest;
use wasmop_e2e::inner_host::Host;
use wasmop_e2e::object::Object;
use wasmop_e2e::probe::{ProbeSpec, spec};
use wasmop_e2e::world::{Cluster, PATIENCE};
use wasmop_host::Options;
use wasmop_host::status::values::ControllerStatus;
use wasmop_package::Package;
use wasmop_policy::Policy;

const MIB: u64 = 1 << 20;
/// What each of two controllers holds, and what both may hold together.
const HEAP_MIB: u64 = 16;
const BUDGET: u64 = 24 * MIB;
/// Changes one after the other: the gaps are far below the second or so that a suspend must be worth.
const CHANGES: u64 = 40;
/// The machine may stop now and then, so that a gap is longer.
const SUSPENDS: u64 = 4;
/// Far beyond what a suspend must be worth, on any disk.
const REQUEUE_MS: u64 = 3_600_000;

pub async fn all(cluster: &Cluster, guest: &Guest, other: &Guest) -> [(&'static str, Result<()>); 2] {
    [
        (
            "adaptive: stays between short gaps, goes for long ones and for what is due later",
            adaptive(cluster, guest).await,
        ),
        ("memory budget: kept against a policy that never suspends", budget(cluster, guest, other).await),
    ]
}

fn load(guest: &Guest) -> Result<Package> {
    Ok(Package::parse(std::fs::read(&guest.package)?)?)
}

async fn adaptive(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let state = cluster.dir().join("adaptive-state");
    let host = Host::start_with(vec![load(guest)?], &cluster.plane.kubeconfig, &state, |options| Options {
        policy: Policy::Adaptive,
        ..options
    })?;
    host.until_ready().await?;
    let probe = Object::new(cluster, guest, "rhythm");
    probe.create().await?;
    let before = host.controller().await?;
    for change in 0..CHANGES {
        probe.change(&format!("quick-{change}")).await?;
    }
    let busy = host.controller().await?;
    ensure!(busy.steps >= before.steps + CHANGES, "{} steps, then {}", before.steps, busy.steps);
    ensure!(
        busy.suspends <= before.suspends + SUSPENDS,
        "suspended {} times in {CHANGES} changes",
        busy.suspends - before.suspends
    );
    host.until("suspended once nothing happens", |c| c.state == State::Suspended).await?;
    // It knows when it will be needed, and nothing else happens until then.
    probe.change_to(ProbeSpec { delay_ms: REQUEUE_MS, ..spec("requeue", "") }).await?;
    let asked = host.until("waiting for its time", |c| c.queue_delayed >= 1).await?;
    let waiting = host.until("suspended until it is due", |c| c.state == State::Suspended).await?;
    ensure!(waiting.queue_delayed >= 1 && waiting.reconciles == asked.reconciles, "it was due already: {waiting:?}");
    host.stop().await
}

async fn budget(cluster: &Cluster, guest: &Guest, other: &Guest) -> Result<()> {
    let state = cluster.dir().join("budget-state");
    let packages = vec![load(guest)?, load(other)?];
    let host = Host::start_with(packages, &cluster.plane.kubeconfig, &state, |options| Options {
        policy: Policy::Never,
        memory_budget: Some(BUDGET),
        ..options
    })?;
    host.until_ready().await?;
    let heap = || ProbeSpec { count: HEAP_MIB, ..spec("heap", "") };
    let (first, second) = (Object::new(cluster, guest, "first"), Object::new(cluster, other, "second"));
    first.create_with(heap()).await?;
    host.until("resident with its heap", |c| c.resident_bytes > HEAP_MIB * MIB).await?;
    second.create_with(heap()).await?;
    // It may be back already: then little of it is its own.
    let kept = |all: &[ControllerStatus]| {
        all.iter().any(|c| c.suspends > 0) && all.iter().map(|c| c.resident_bytes).sum::<u64>() <= BUDGET
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = host.controllers().await?;
        if kept(&all) {
            break;
        }
        ensure!(Instant::now() < deadline, "more than {BUDGET} bytes are held: {all:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Whichever went: both have all that they had.
    for probe in [&first, &second] {
        let before = probe.observed().await?;
        probe.change("after").await?;
        let after = probe.observed().await?;
        ensure!(after.seen > before.seen, "{}: {before:?}, then {after:?}", probe.object);
    }
    let restarts: u64 = host.controllers().await?.iter().map(|c| c.restarts).sum();
    ensure!(restarts == 0, "{restarts} restarts");
    host.stop().await
}
