//! Hosts that share controllers by leader election, on a real API server whose audit log is the evidence.
//!
//! ```text
//! fixture        the hosts, the objects of their controllers, who holds which Lease
//! lease_history  the audit log: who held each controller when, and who wrote for it
//! ```

mod fixture;
mod lease_history;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};
use wasmop_e2e::audit;
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};

use fixture::{Candidate, Fixture, LEASE, RENEW};

const COLUMN: &str = "result";
/// The time for anything that needs no waiting. The machine may be busy.
const SLACK: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    part::main("leases", &[COLUMN], run)
}

/// Each row starts from the hosts that the row before has left, so all rows run as steps.
async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start_with(audit::flags).await?;
    let fixture = Arc::new(Fixture::set_up(cluster).await?);
    let proxy = FaultProxy::start(fixture.cluster.client.clone()).await?;
    let proxied = fixture.cluster.dir().join("proxy.kubeconfig");
    std::fs::write(&proxied, proxy.kubeconfig())?;
    let [first, second] = fixture.spread_names()?;
    let mut a = fixture.start(&first, None)?;
    let all = fixture.all();
    let alone = fixture.until_held_by(&a, &all, TIMEOUT * 4);
    part.step("a single host runs every controller", COLUMN, alone).await;
    let forbidden = proxy.add(Rule::new("", "/leases", Fault::Status { code: 403, retry_after_seconds: None }));
    let mut b = fixture.start(&second, Some(&proxied))?;
    let row = "a host without rights on Leases reports it and runs no controller";
    part.step(row, COLUMN, async { refused(&mut b) }).await;
    drop(forbidden);
    let row = "a second host gets its share, and each controller runs on one host";
    part.step(row, COLUMN, shared_out(&fixture, &a, &b)).await;
    let row = "a host stopped (SIGSTOP) for longer than its Lease is replaced and rejoins";
    part.step(row, COLUMN, stopped(&fixture, &a, &b)).await;
    let row = "a host cut off from the API server stops before another host takes over";
    part.step(row, COLUMN, cut_off(&fixture, &mut a, &mut b, &proxy)).await;
    let row = "a killed host is replaced within the Lease duration, and no change is lost";
    part.step(row, COLUMN, killed(&fixture, &mut a, &b)).await;
    let row = "a restarted host continues from its snapshots if no other host ran its controllers";
    part.step(row, COLUMN, continued(&fixture, &mut b)).await;
    part.step("a rolling replacement under load hands over at once", COLUMN, rolled(&fixture, b)).await;
    part.step("every change is reconciled", COLUMN, fixture.until_current(TIMEOUT)).await;
    let one_writer = async { lease_history::check(fixture.cluster.dir(), &fixture.names) };
    part.step("by the audit log, no controller ever has two writers", COLUMN, one_writer).await;
    if part.has_failures()
        && let Some(fixture) = Arc::into_inner(fixture)
    {
        part.keep(fixture.cluster.keep_files());
    }
    Ok(())
}

fn refused(b: &mut Candidate) -> Result<()> {
    let message = "Leases could not be read or written";
    let record = tokio::task::block_in_place(|| {
        b.host.log.wait_for(0, TIMEOUT * 4, "report about Leases", |r| r.message().starts_with(message))
    })?;
    ensure!(record.text("help").contains("list, create, update and delete leases"), "{record:?}");
    ensure!(record.text("reason").contains("Forbidden"), "{record:?}");
    let runs = b.host.log.records()?.iter().find(|r| r.message().starts_with("its Lease is acquired"));
    ensure!(runs.is_none(), "{runs:?}");
    Ok(())
}

/// Each host gets the controllers that rendezvous hashing assigns to it, and changes are reconciled.
async fn shared_out(fixture: &Fixture, a: &Candidate, b: &Candidate) -> Result<()> {
    fixture.until_shared(&[a, b], TIMEOUT * 2).await?;
    fixture.change("shared").await?;
    fixture.until_current(TIMEOUT).await
}

async fn stopped(fixture: &Fixture, a: &Candidate, b: &Candidate) -> Result<()> {
    let theirs = fixture.assigned(b, &[a, b]);
    fixture.change("before the stop").await?;
    b.pause_process()?;
    let begun = Instant::now();
    let taken_over = async {
        fixture.until_held_by(a, &theirs, LEASE + SLACK).await?;
        ensure!(begun.elapsed() >= RENEW, "taken over after only {:?}", begun.elapsed());
        fixture.change("while it is stopped").await?;
        fixture.until_current(TIMEOUT).await
    };
    let taken_over = taken_over.await;
    // Events, timers and responses are waiting for the stopped host.
    fixture.change("as it continues").await?;
    b.resume_process()?;
    taken_over?;
    fixture.until_shared(&[a, b], TIMEOUT).await?;
    fixture.until_current(TIMEOUT).await
}

async fn cut_off(fixture: &Fixture, a: &mut Candidate, b: &mut Candidate, proxy: &FaultProxy) -> Result<()> {
    let theirs = fixture.assigned(b, &[a, b]);
    let position = b.host.log.position()?;
    let begun = Instant::now();
    let held = proxy.add(Rule::new("", "", Fault::Hold));
    fixture.change("cut off").await?;
    let taken_over = fixture.until_held_by(a, &theirs, LEASE + RENEW + SLACK).await;
    let lost = tokio::task::block_in_place(|| {
        b.host.log.wait_for(position, SLACK, "loss of the Lease", |r| r.message().starts_with("its Lease is lost"))
    });
    println!("cut off: taken over after {:?}", begun.elapsed());
    let current = fixture.until_current(TIMEOUT).await;
    drop(held);
    taken_over?;
    current?;
    let acquired = lease_history::first_acquired(fixture.cluster.dir(), &theirs, a.identity())?;
    let lost = lost?;
    let lost = lost.text("timestamp");
    ensure!(
        lease_history::instant(lost)? < lease_history::instant(&acquired)?,
        "lost at {lost}, acquired at {acquired}"
    );
    fixture.until_shared(&[a, b], TIMEOUT).await
}

async fn killed(fixture: &Fixture, a: &mut Candidate, b: &Candidate) -> Result<()> {
    fixture.until_current(TIMEOUT).await?;
    fixture.change("just before").await?;
    a.host.kill()?;
    let begun = Instant::now();
    fixture.change("while no host runs it").await?;
    fixture.until_held_by(b, &fixture.all(), LEASE + SLACK).await?;
    println!("killed: taken over after {:?}", begun.elapsed());
    fixture.until_current(TIMEOUT).await
}

/// The restarted host has the same identity, so it does not wait for its own Leases to expire.
async fn continued(fixture: &Fixture, b: &mut Candidate) -> Result<()> {
    fixture.until_current(TIMEOUT).await?;
    b.until_suspended(&fixture.names).await?;
    let end = tokio::task::block_in_place(|| b.host.terminate())?;
    ensure!(end.success(), "it ended with {end}");
    let begun = Instant::now();
    b.start_again()?;
    fixture.until_held_by(b, &fixture.all(), TIMEOUT).await?;
    println!("restarted: ready after {:?}", begun.elapsed());
    let records = b.host.log.records()?;
    let from_snapshot = records.iter().filter(|r| r.message().starts_with("its Lease is acquired"));
    let from: Vec<_> = from_snapshot.map(|r| (r.text("controller").to_owned(), r.text("from").to_owned())).collect();
    ensure!(from.len() == fixture.names.len() && from.iter().all(|(_, from)| from == "snapshot"), "{from:?}");
    Ok(())
}

/// Starts a new host and stops the old one, several times, while objects change all the time.
async fn rolled(fixture: &Arc<Fixture>, mut old: Candidate) -> Result<()> {
    const ROUNDS: usize = 3;
    let changing = tokio::spawn({
        let fixture = fixture.clone();
        async move {
            for number in 0.. {
                if let Err(error) = fixture.change(&format!("rolled-{number}")).await {
                    return error;
                }
                sleep(Duration::from_millis(150)).await;
            }
            anyhow::anyhow!("the loop has ended")
        }
    });
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let new = fixture.start(&format!("rolled-{round}"), None)?;
        fixture.until_shared(&[&old, &new], TIMEOUT * 2).await.with_context(|| format!("round {round}"))?;
        let end = tokio::task::block_in_place(|| old.host.terminate())?;
        ensure!(end.success(), "it ended with {end}");
        let begun = Instant::now();
        fixture.until_held_by(&new, &fixture.all(), LEASE).await.with_context(|| format!("round {round}"))?;
        slowest = slowest.max(begun.elapsed());
        old = new;
    }
    println!("replaced: taken over after at most {slowest:?}");
    ensure!(!changing.is_finished(), "objects could not be changed: {:#}", changing.await?);
    changing.abort();
    let _ = changing.await;
    // A handover takes at most two retry periods: no host waits for a Lease to expire.
    ensure!(slowest < RENEW, "taken over only after {slowest:?}");
    let current = fixture.until_current(TIMEOUT).await;
    let end = tokio::task::block_in_place(|| old.host.terminate())?;
    ensure!(end.success(), "the last one ended with {end}");
    current
}
