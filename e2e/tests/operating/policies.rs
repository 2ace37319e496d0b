//! Suspend policies, as an observer sees them.

use anyhow::{Result, ensure};
use tokio::time::Instant;
use wasmop_core::status::state::State;
use wasmop_e2e::guests::Guest;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::probe::{ProbeSpec, spec};
use wasmop_e2e::probe_object::ProbeObject;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_host::Options;
use wasmop_host::status::values::ControllerStatus;
use wasmop_package::Package;
use wasmop_policy::Policy;

const MIB: u64 = 1 << 20;
/// Memory of each of two controllers, and the budget for both.
const HEAP_MIB: u64 = 16;
const BUDGET: u64 = 24 * MIB;
/// Consecutive changes. The gaps are far below the second or so that makes a suspend worthwhile.
const CHANGES: u64 = 40;
/// Suspends that are tolerated, because a stall of the machine makes a gap longer.
const SUSPENDS: u64 = 4;
/// A delay that makes a suspend worthwhile on any disk.
const REQUEUE_MS: u64 = 3_600_000;

fn load(guest: &Guest) -> Result<Package> {
    Ok(Package::parse(std::fs::read(&guest.package)?)?)
}

/// The controller stays resident during short gaps. It is suspended for long ones and until a requeue is due.
pub async fn adaptive(cluster: &TestCluster, guest: &Guest) -> Result<()> {
    let state = cluster.dir().join("adaptive-state");
    let host = InProcessHost::start_with(vec![load(guest)?], &cluster.plane.kubeconfig, &state, |options| Options {
        policy: Policy::Adaptive,
        ..options
    })?;
    host.until_ready().await?;
    let probe = ProbeObject::new(cluster, guest, "rhythm");
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
    // The requeue time is known, and no other work is pending.
    probe.change_to(ProbeSpec { delay_ms: REQUEUE_MS, ..spec("requeue", "") }).await?;
    let requeued = host.until("waiting for its requeue", |c| c.queue_delayed >= 1).await?;
    let waiting = host.until("suspended until it is due", |c| c.state == State::Suspended).await?;
    ensure!(
        waiting.queue_delayed >= 1 && waiting.reconciles == requeued.reconciles,
        "the requeue was due already: {waiting:?}"
    );
    host.stop().await
}

/// Two controllers together exceed the budget, so one of them is suspended despite the policy.
pub async fn budget(cluster: &TestCluster, guest: &Guest, other: &Guest) -> Result<()> {
    let state = cluster.dir().join("budget-state");
    let packages = vec![load(guest)?, load(other)?];
    let host = InProcessHost::start_with(packages, &cluster.plane.kubeconfig, &state, |options| Options {
        policy: Policy::Never,
        memory_budget: Some(BUDGET),
        ..options
    })?;
    host.until_ready().await?;
    let heap = || ProbeSpec { count: HEAP_MIB, ..spec("heap", "") };
    let (first, second) = (ProbeObject::new(cluster, guest, "first"), ProbeObject::new(cluster, other, "second"));
    first.create_with(heap()).await?;
    host.until("resident with its heap", |c| c.resident_bytes > HEAP_MIB * MIB).await?;
    second.create_with(heap()).await?;
    // The suspended controller may be resident again. Then most of its pages still come from the snapshot.
    let is_within_budget = |all: &[ControllerStatus]| {
        all.iter().any(|c| c.suspends > 0) && all.iter().map(|c| c.resident_bytes).sum::<u64>() <= BUDGET
    };
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let all = host.controllers().await?;
        if is_within_budget(&all) {
            break;
        }
        ensure!(Instant::now() < deadline, "more than {BUDGET} bytes are held: {all:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Whichever controller was suspended, both keep their memory.
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
