//! Components with WASI on a real API server: a table of what the soft tier promises.

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::guests::{self, Column};
use wasmop_e2e::part;
use wasmop_e2e::scenarios::{NotHere, Outcome, soft};
use wasmop_e2e::scene::Scene;
use wasmop_e2e::table::{Cell, Table};
use wasmop_e2e::world::{Cluster, World};

const OVER_RESTART: &str = "host restarted: begins anew, forgets no object";
const GRANTED: &str = "host restarted with a grant: that is reached, no more";

fn main() -> ExitCode {
    part::main("soft", run())
}

async fn run() -> Result<bool> {
    let cluster = Cluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_soft(cluster.dir()))?;
    let behaviours = soft::all();
    let mut table = Table::new(&guests::SOFT_COLUMNS);
    behaviours.iter().map(|behaviour| behaviour.name).chain([OVER_RESTART, GRANTED]).for_each(|row| table.row(row));
    let built = columns.iter().filter_map(|column| column.guest.clone().ok()).collect();
    let world = World::start(cluster, built).await?;
    for Column { name, guest } in columns {
        let scene = guest.map(|guest| Scene { world: world.clone(), guest });
        for behaviour in &behaviours {
            let cell = match &scene {
                Ok(scene) => cell((behaviour.run)(scene.clone()).await),
                Err(reason) => Cell::Skipped(reason.clone()),
            };
            table.set(behaviour.name, name, cell);
        }
        let restarted = match &scene {
            Ok(scene) => cell(soft::over_restart(scene).await.map(Ok)),
            Err(reason) => Cell::Skipped(reason.clone()),
        };
        table.set(OVER_RESTART, name, restarted);
        let granted = match &scene {
            Ok(scene) => cell(soft::granted(scene).await),
            Err(reason) => Cell::Skipped(reason.clone()),
        };
        table.set(GRANTED, name, granted);
    }
    println!("\n{}", table.render("soft"));
    if !table.is_good()
        && let Some(files) = world.keep_files()
    {
        eprintln!("the hosts' logs and state are in {}", files.display());
    }
    Ok(table.is_good())
}

fn cell(outcome: Outcome) -> Cell {
    match outcome {
        Ok(Ok(())) => Cell::Passed,
        Ok(Err(NotHere(reason))) => Cell::Skipped(reason),
        Err(error) => Cell::Failed(format!("{error:#}")),
    }
}
