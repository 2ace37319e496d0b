//! Hosts that share controllers, on a real API server: which host runs what, and when, by that server's audit log.
//!
//! ```text
//! shared   the hosts, their controllers' objects, who holds what
//! history  of the audit log: who held each controller when, and whether anybody else wrote for it
//! ```

mod history;
mod shared;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::table::Table;
use wasmop_e2e::world::{Cluster, PATIENCE};
use wasmop_e2e::{audit, part};

use shared::{LEASE, Member, RENEW, Shared};

const COLUMN: &str = "result";
/// For what takes no waiting for time to pass; the machine may be busy.
const SLACK: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    part::main("leases", run())
}

async fn run() -> Result<bool> {
    let cluster = Cluster::start_with(audit::flags).await?;
    let shared = Arc::new(Shared::set_up(cluster).await?);
    let mut table = Table::new(&[COLUMN]);
    let mut set = |row, result| table.tell(row, COLUMN, result);
    let proxy = FaultProxy::start(shared.cluster.client.clone()).await?;
    let proxied = shared.cluster.dir().join("proxy.kubeconfig");
    std::fs::write(&proxied, proxy.kubeconfig())?;
    let [first, second] = shared.spread_names()?;
    let mut a = shared.start(&first, None)?;
    let alone = shared.until_held_by(&a, &shared.all(), PATIENCE * 4).await;
    set("a host without others runs every controller", alone);
    let refuses = proxy.add(Rule::new("", "/leases", Fault::Status { code: 403, retry_after_seconds: None }));
    let mut b = shared.start(&second, Some(&proxied))?;
    set("without rights on Leases a host says so and runs nothing, until it has them", refused(&mut b));
    drop(refuses);
    set("one that comes gets its share, each controller runs on exactly one", shared_out(&shared, &a, &b).await);
    let stopped = stopped(&shared, &a, &b).await;
    set("stopped for longer than its Lease (SIGSTOP), it is followed, and takes part again", stopped);
    let cut_off = cut_off(&shared, &mut a, &mut b, &proxy).await;
    set("cut off from the API server, it stops before another begins", cut_off);
    set("killed, it is followed within the Lease's duration, and no change is lost", killed(&shared, &mut a, &b).await);
    set("started again, it continues from its snapshots what nobody else has run", continued(&shared, &mut b).await);
    let rolled = rolled(&shared, b).await;
    set("replaced again and again under changes: each is followed at once", rolled);
    set("every change was reconciled", shared.until_current(PATIENCE).await);
    set("by the audit log no controller ever had two writers", history::check(shared.cluster.dir(), &shared.names));
    println!("\n{}", table.render("leases"));
    if !table.is_good()
        && let Some(shared) = Arc::into_inner(shared)
    {
        println!("files are kept in {}", shared.cluster.keep_files().display());
    }
    Ok(table.is_good())
}

fn refused(b: &mut Member) -> Result<()> {
    let told = "Leases could not be read or written";
    let record = tokio::task::block_in_place(|| {
        b.host.log.wait_for(0, PATIENCE * 4, "word of it", |r| r.message().starts_with(told))
    })?;
    ensure!(record.text("help").contains("list, create, update and delete leases"), "{record:?}");
    ensure!(record.text("reason").contains("Forbidden"), "{record:?}");
    let runs = b.host.log.records()?.iter().find(|r| r.message().starts_with("its Lease is acquired"));
    ensure!(runs.is_none(), "{runs:?}");
    Ok(())
}

/// Each host gets what rendezvous hashing gives it, and changes are reconciled.
async fn shared_out(shared: &Shared, a: &Member, b: &Member) -> Result<()> {
    shared.until_shared(&[a, b], PATIENCE * 2).await?;
    shared.change("shared").await?;
    shared.until_current(PATIENCE).await
}

async fn stopped(shared: &Shared, a: &Member, b: &Member) -> Result<()> {
    let theirs = shared.assigned(b, &[a, b]);
    shared.change("before the stop").await?;
    b.stop()?;
    let begun = Instant::now();
    let followed = async {
        shared.until_held_by(a, &theirs, LEASE + SLACK).await?;
        ensure!(begun.elapsed() >= RENEW, "taken over after {:?} already", begun.elapsed());
        shared.change("while it is stopped").await?;
        shared.until_current(PATIENCE).await
    };
    let followed = followed.await;
    // It has seen none of this, and has events, timers and answers waiting for it.
    shared.change("as it goes on").await?;
    b.go_on()?;
    followed?;
    shared.until_shared(&[a, b], PATIENCE).await?;
    shared.until_current(PATIENCE).await
}

async fn cut_off(shared: &Shared, a: &mut Member, b: &mut Member, proxy: &FaultProxy) -> Result<()> {
    let theirs = shared.assigned(b, &[a, b]);
    let position = b.host.log.position()?;
    let begun = Instant::now();
    let nothing_passes = proxy.add(Rule::new("", "", Fault::Hold));
    shared.change("cut off").await?;
    let followed = shared.until_held_by(a, &theirs, LEASE + RENEW + SLACK).await;
    let lost = tokio::task::block_in_place(|| {
        b.host.log.wait_for(position, SLACK, "loss of the Lease", |r| r.message().starts_with("its Lease is lost"))
    });
    println!("cut off: followed after {:?}", begun.elapsed());
    let current = shared.until_current(PATIENCE).await;
    drop(nothing_passes);
    followed?;
    current?;
    let acquired = history::first_acquired(shared.cluster.dir(), &theirs, a.identity())?;
    let lost = lost?;
    let lost = lost.text("timestamp");
    ensure!(history::instant(lost)? < history::instant(&acquired)?, "lost at {lost}, acquired at {acquired}");
    shared.until_shared(&[a, b], PATIENCE).await
}

async fn killed(shared: &Shared, a: &mut Member, b: &Member) -> Result<()> {
    shared.until_current(PATIENCE).await?;
    shared.change("just before").await?;
    a.host.kill()?;
    let begun = Instant::now();
    shared.change("while nobody runs it").await?;
    shared.until_held_by(b, &shared.all(), LEASE + SLACK).await?;
    println!("killed: followed after {:?}", begun.elapsed());
    shared.until_current(PATIENCE).await
}

/// Its own Lease's name, the controllers' tenures and snapshots are all its own: it needs not wait for itself.
async fn continued(shared: &Shared, b: &mut Member) -> Result<()> {
    shared.until_current(PATIENCE).await?;
    b.until_suspended(&shared.names).await?;
    let end = tokio::task::block_in_place(|| b.host.terminate())?;
    ensure!(end.success(), "it ended with {end}");
    let begun = Instant::now();
    b.start_again()?;
    shared.until_held_by(b, &shared.all(), PATIENCE).await?;
    println!("started again: after {:?}", begun.elapsed());
    let records = b.host.log.records()?;
    let from_snapshot = records.iter().filter(|r| r.message().starts_with("its Lease is acquired"));
    let from: Vec<_> = from_snapshot.map(|r| (r.text("controller").to_owned(), r.text("from").to_owned())).collect();
    ensure!(from.len() == shared.names.len() && from.iter().all(|(_, from)| from == "snapshot"), "{from:?}");
    Ok(())
}

/// A new host is started and the old one told to end, again and again, while objects are changed all the time.
async fn rolled(shared: &Arc<Shared>, mut old: Member) -> Result<()> {
    const ROUNDS: usize = 3;
    let changing = tokio::spawn({
        let shared = shared.clone();
        async move {
            for number in 0.. {
                if let Err(error) = shared.change(&format!("rolled-{number}")).await {
                    return error;
                }
                sleep(Duration::from_millis(150)).await;
            }
            anyhow::anyhow!("it never ends")
        }
    });
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let new = shared.start(&format!("rolled-{round}"), None)?;
        shared.until_shared(&[&old, &new], PATIENCE * 2).await.with_context(|| format!("round {round}"))?;
        let end = tokio::task::block_in_place(|| old.host.terminate())?;
        ensure!(end.success(), "it ended with {end}");
        let begun = Instant::now();
        shared.until_held_by(&new, &shared.all(), LEASE).await.with_context(|| format!("round {round}"))?;
        slowest = slowest.max(begun.elapsed());
        old = new;
    }
    println!("replaced: followed after {slowest:?} at most");
    ensure!(!changing.is_finished(), "objects could not be changed: {:#}", changing.await?);
    changing.abort();
    let _ = changing.await;
    // Not for longer than two looks at the others: nobody waited for a Lease to run out.
    ensure!(slowest < RENEW, "followed only after {slowest:?}");
    let current = shared.until_current(PATIENCE).await;
    let end = tokio::task::block_in_place(|| old.host.terminate())?;
    ensure!(end.success(), "the last one ended with {end}");
    current
}
