//! `cargo xtask torture kill`: rounds of killing and restarting a host, then a line of counts; with
//! `--json`, rows for machines.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::torture::Torture;
use wasmop_e2e::world::Cluster;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    torture: What,
}

#[derive(Subcommand)]
enum What {
    /// SIGKILL at random moments under load
    Kill(Kill),
}

#[derive(clap::Args)]
struct Kill {
    #[arg(long)]
    rounds: u64,
    /// What the moments and the load are drawn from; another one each time if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the rows as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let What::Kill(kill) = Cli::parse().torture;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run(&kill)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_item("failed", &format!("torture: {error:#}"));
            println!("torture: 0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

async fn run(kill: &Kill) -> Result<bool> {
    let seed = kill.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("seed {seed}");
    let cluster = Cluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
    let mut skipped = 0;
    for Column { name, guest } in &columns {
        if let Err(reason) = guest {
            skipped += 1;
            print_item("skipped", &format!("kill, {name}: {reason}"));
        }
    }
    let guests: Vec<Guest> = columns.into_iter().filter_map(|column| column.guest.ok()).collect();
    let mut torture = Torture::prepare(cluster, guests, seed).await?;
    let begun = Instant::now();
    let gave_up = torture.run(kill.rounds).await.err();
    let took = begun.elapsed();

    let tally = torture.tally();
    println!();
    let rows = tally.rows(took);
    rows.print();
    if let Some(path) = &kill.json {
        rows.write(path)?;
    }
    println!("\nkill: {tally}; {:.0} s, seed {seed}", took.as_secs_f64());
    tally.failures.iter().for_each(|failure| print_item("failed", failure));
    if let Some(error) = &gave_up {
        print_item("failed", &format!("torture: {error:#}"));
    }
    let failed = tally.failures.len() as u64 + u64::from(gave_up.is_some());
    println!("torture: {} passed, {failed} failed, {skipped} skipped", tally.passed);
    if failed > 0 {
        println!("logs and state are in {}", torture.keep_files().display());
    }
    Ok(failed == 0)
}

/// As `cargo xtask test` reads it.
fn print_item(label: &str, text: &str) {
    println!("{label}: {}", text.replace('\n', "\n    "));
}
