//! Every behaviour with every guest, on a real API server, in one host: prints a table.
//!
//! `cargo test --release --package wasmop-e2e --test conformance -- [WORDS]` runs only the
//! behaviours whose name contains one of the words.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::part;
use wasmop_e2e::scenarios::restart::{self, How, Prepared, Restart};
use wasmop_e2e::scenarios::{self, Behaviour};
use wasmop_e2e::scene::Scene;
use wasmop_e2e::table::{Cell, Table};
use wasmop_e2e::world::{Cluster, World};

/// A behaviour waits with deadlines of its own; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    part::main("conformance", run(&words))
}

async fn run(words: &[String]) -> Result<bool> {
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let behaviours: Arc<Vec<Behaviour>> =
        Arc::new(scenarios::all().into_iter().filter(|behaviour| wanted(behaviour.name)).collect());
    let mut restarts = restart::all();
    restarts.iter_mut().for_each(|restart| restart.rows.retain(|row| wanted(row.name)));
    restarts.retain(|restart| !restart.rows.is_empty());
    let rows: Vec<&str> = (behaviours.iter().map(|behaviour| behaviour.name))
        .chain(restarts.iter().flat_map(|restart| &restart.rows).map(|row| row.name))
        .collect();

    let cluster = Cluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
    let mut table = Table::new(&guests::COLUMNS);
    rows.iter().for_each(|row| table.row(row));
    for Column { name, guest } in &columns {
        if let Err(reason) = guest {
            rows.iter().for_each(|row| table.set(row, name, Cell::Skipped(reason.clone())));
        }
    }
    let guests: Vec<Guest> = columns.into_iter().filter_map(|column| column.guest.ok()).collect();
    let world = World::start(cluster, guests.clone()).await?;
    let scenes: Vec<Scene> = guests.into_iter().map(|guest| Scene { world: world.clone(), guest }).collect();

    for (column, row, cell) in
        join_all(scenes.iter().map(|scene| one_guest(scene.clone(), behaviours.clone()))).await.into_iter().flatten()
    {
        table.set(row, column, cell);
    }
    for restart in &restarts {
        for (column, row, cell) in over_restart(&world, &scenes, restart).await {
            println!("{column:<6}  {row}{}", shown(&cell));
            table.set(row, column, cell);
        }
    }

    println!("\n{}", table.render("conformance"));
    drop(scenes);
    if !table.is_good()
        && let Some(files) = world.keep_files()
    {
        eprintln!("the hosts' logs and state are in {}", files.display());
    }
    Ok(table.is_good())
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Passed => String::new(),
        Cell::Failed(reason) => format!(": FAILED: {reason}"),
        Cell::Skipped(reason) => format!(": skipped: {reason}"),
    }
}

/// All behaviours with one guest, one after the other.
async fn one_guest(scene: Scene, behaviours: Arc<Vec<Behaviour>>) -> Vec<(&'static str, &'static str, Cell)> {
    let mut cells = Vec::new();
    for behaviour in behaviours.iter() {
        let begun = std::time::Instant::now();
        let cell = match tokio::time::timeout(LIMIT, (behaviour.run)(scene.clone())).await {
            Ok(Ok(Ok(()))) => Cell::Passed,
            Ok(Ok(Err(not_here))) => Cell::Skipped(not_here.0),
            Ok(Err(error)) => Cell::Failed(format!("{error:#}")),
            Err(_) => Cell::Failed(format!("hangs: not done after {LIMIT:?}")),
        };
        println!(
            "{:<6}  {} ({:.1} s){}",
            scene.guest.column,
            behaviour.name,
            begun.elapsed().as_secs_f64(),
            shown(&cell)
        );
        cells.push((scene.guest.column, behaviour.name, cell));
    }
    cells
}

/// Prepares all guests, ends the host, starts it again, and verifies all rows of all guests.
async fn over_restart(world: &World, scenes: &[Scene], restart: &Restart) -> Vec<(&'static str, &'static str, Cell)> {
    let prepared: Vec<Result<Prepared>> = join_all(scenes.iter().map(|scene| (restart.prepare)(scene.clone()))).await;
    let restarted = async {
        match restart.how {
            How::Terminate => world.terminate_host().await?,
            How::Kill => world.kill_host()?,
        }
        let meanwhile = join_all(scenes.iter().map(|scene| (restart.meanwhile)(scene.clone()))).await;
        world.restart_host_with(&(restart.args)(scenes.first().context("no guest")?, scenes)?).await?;
        meanwhile.into_iter().collect::<Result<()>>()
    }
    .await;
    let restarted = restarted.as_ref().map_err(|error| format!("{error:#}"));
    let verifying = scenes.iter().zip(&prepared).flat_map(|(scene, prepared)| {
        let restarted = restarted.clone();
        restart.rows.iter().map(move |row| {
            let restarted = restarted.clone();
            async move {
                let verified = async {
                    let prepared = prepared.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                    restarted.map_err(anyhow::Error::msg)?;
                    (row.verify)(scene.clone(), prepared.clone()).await
                };
                let cell = match tokio::time::timeout(LIMIT, verified).await {
                    Ok(Ok(())) => Cell::Passed,
                    Ok(Err(error)) => Cell::Failed(format!("{error:#}")),
                    Err(_) => Cell::Failed(format!("hangs: not done after {LIMIT:?}")),
                };
                (scene.guest.column, row.name, cell)
            }
        })
    });
    join_all(verifying).await
}
