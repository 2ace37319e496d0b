//! Every behaviour with every guest in one host, on a real API server.
//!
//! The guests run side by side. Each runs through all behaviours in order; then the host restarts are verified.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::future::join_all;
use wasmop_e2e::environment::Environment;
use wasmop_e2e::guest_fixture::GuestFixture;
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::scenarios::behaviour::Behaviour;
use wasmop_e2e::scenarios::host_restart::{HostRestart, Prepared, RestartRow, Stop};
use wasmop_e2e::scenarios::{behaviours, host_restarts};
use wasmop_e2e::test_cluster::TestCluster;

/// The deadline for a row that hangs. A row that waits has deadlines of its own.
const LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    part::main("conformance", &guests::COLUMNS, run)
}

async fn run(part: &Part) -> Result<()> {
    let behaviours = behaviours();
    let mut restarts = host_restarts();
    restarts.iter_mut().for_each(|restart| restart.rows.retain(|row| part.wants(row.name)));
    restarts.retain(|restart| !restart.rows.is_empty());
    let rows = (behaviours.iter().map(|behaviour| behaviour.name))
        .chain(restarts.iter().flat_map(|restart| &restart.rows).map(|row| row.name));
    let rows: Vec<&str> = rows.collect();
    rows.iter().for_each(|row| part.list(row));

    let cluster = TestCluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
    for Column { name, guest } in &columns {
        if let Err(reason) = guest {
            rows.iter().for_each(|row| part.skip(row, name, reason));
        }
    }
    let guests: Vec<Guest> = columns.into_iter().filter_map(|column| column.guest.ok()).collect();
    let env = Environment::start(cluster, guests.clone()).await?;
    let fixtures: Vec<GuestFixture> =
        guests.into_iter().map(|guest| GuestFixture { env: env.clone(), guest }).collect();

    join_all(fixtures.iter().map(|fixture| run_behaviours(part, fixture, &behaviours))).await;
    for restart in &restarts {
        run_restart(part, &env, &fixtures, restart).await;
    }

    drop(fixtures);
    if part.has_failures()
        && let Some(files) = env.keep_files()
    {
        part.keep(files);
    }
    Ok(())
}

/// Runs all behaviours with one guest, one after the other.
async fn run_behaviours(part: &Part, fixture: &GuestFixture, behaviours: &[Behaviour]) {
    for behaviour in behaviours {
        let check = within_limit((behaviour.check)(fixture.clone()));
        part.row(behaviour.name, fixture.guest.column, check).await;
    }
}

/// Prepares all guests, restarts the host, and verifies all rows of all guests.
async fn run_restart(part: &Part, env: &Environment, fixtures: &[GuestFixture], restart: &HostRestart) {
    let prepared: Vec<Result<Prepared>> =
        join_all(fixtures.iter().map(|fixture| (restart.prepare)(fixture.clone()))).await;
    let restarted = restart_host(env, fixtures, restart).await;
    let rows = fixtures.iter().zip(&prepared).flat_map(|(fixture, prepared)| {
        let restarted = &restarted;
        restart.rows.iter().map(move |row| {
            let check = within_limit(verify(row, fixture, prepared, restarted));
            part.row(row.name, fixture.guest.column, check)
        })
    });
    join_all(rows).await;
}

async fn restart_host(env: &Environment, fixtures: &[GuestFixture], restart: &HostRestart) -> Result<()> {
    match restart.stop {
        Stop::Terminate => env.terminate_host().await?,
        Stop::Kill => env.kill_host()?,
    }
    let changed = join_all(fixtures.iter().map(|fixture| (restart.while_down)(fixture.clone()))).await;
    env.restart_host_with(&(restart.args)(fixtures.first().context("no guest")?, fixtures)?).await?;
    changed.into_iter().collect()
}

async fn verify(
    row: &RestartRow,
    fixture: &GuestFixture,
    prepared: &Result<Prepared>,
    restarted: &Result<()>,
) -> Result<()> {
    let prepared = prepared.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    restarted.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    (row.verify)(fixture.clone(), prepared.clone()).await
}

async fn within_limit(check: impl Future<Output = Result<()>>) -> Result<()> {
    match tokio::time::timeout(LIMIT, check).await {
        Ok(result) => result,
        Err(_) => bail!("hangs: not done after {LIMIT:?}"),
    }
}
