//! `cargo xtask torture`: rounds that kill a host or break its network, then figures and a line of counts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::rows::Rows;
use wasmop_e2e::table::{Counts, detail};
use wasmop_e2e::test_cluster::TestCluster;
use wasmop_e2e::torture::faults::FaultTorture;
use wasmop_e2e::torture::kills::KillTorture;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    torture: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// SIGKILL at random moments under load
    Kill {
        #[arg(long)]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Faults of the network and the API server under load
    Faults {
        #[arg(long)]
        minutes: f64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Seed of all random choices; a new one for each run by default
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let result = runtime.block_on(async {
        match Cli::parse().torture {
            Kind::Kill { rounds, common } => kill(rounds, &common).await,
            Kind::Faults { minutes, common } => faults(minutes, &common).await,
        }
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}", detail("failed", &format!("torture: {error:#}")));
            println!("{}", Counts { failed: 1, ..Counts::default() }.line("torture"));
            ExitCode::FAILURE
        }
    }
}

/// The setup that both kinds share.
struct Prepared {
    cluster: TestCluster,
    guests: Vec<Guest>,
    seed: u64,
    skipped: u64,
}

impl Prepared {
    async fn new(kind: &str, common: &Common) -> Result<Prepared> {
        let seed = common.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        println!("seed {seed}");
        let cluster = TestCluster::start().await?;
        let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
        let mut skipped = 0;
        for Column { name, guest } in &columns {
            if let Err(reason) = guest {
                skipped += 1;
                println!("{}", detail("skipped", &format!("{kind}, {name}: {reason}")));
            }
        }
        let guests: Vec<Guest> = columns.into_iter().filter_map(|column| column.guest.ok()).collect();
        Ok(Prepared { cluster, guests, seed, skipped })
    }
}

/// The result of a run.
struct Outcome {
    rows: Rows,
    summary: String,
    passed: u64,
    failures: Vec<String>,
    gave_up: Option<anyhow::Error>,
    skipped: u64,
}

impl Outcome {
    /// Prints everything, and returns whether no round failed. A failed run keeps its files.
    fn print(self, json: Option<&Path>, keep_files: impl FnOnce() -> PathBuf) -> Result<bool> {
        println!();
        self.rows.print();
        if let Some(path) = json {
            self.rows.write(path)?;
        }
        println!("\n{}", self.summary);
        self.failures.iter().for_each(|failure| println!("{}", detail("failed", failure)));
        if let Some(error) = &self.gave_up {
            println!("{}", detail("failed", &format!("torture: {error:#}")));
        }
        let failed = self.failures.len() as u64 + u64::from(self.gave_up.is_some());
        println!("{}", Counts { passed: self.passed, failed, skipped: self.skipped }.line("torture"));
        if failed > 0 {
            println!("logs and state are in {}", keep_files().display());
        }
        Ok(failed == 0)
    }
}

async fn kill(rounds: u64, common: &Common) -> Result<bool> {
    let Prepared { cluster, guests, seed, skipped } = Prepared::new("kill", common).await?;
    let mut torture = KillTorture::prepare(cluster, guests, seed).await?;
    let begun = Instant::now();
    let gave_up = torture.run(rounds).await.err();
    let took = begun.elapsed();
    let tally = torture.tally();
    let outcome = Outcome {
        rows: tally.rows(took),
        summary: format!("kill: {tally}; {:.0} s, seed {seed}", took.as_secs_f64()),
        passed: tally.passed,
        failures: tally.failures.clone(),
        gave_up,
        skipped,
    };
    outcome.print(common.json.as_deref(), || torture.keep_files())
}

async fn faults(minutes: f64, common: &Common) -> Result<bool> {
    let Prepared { cluster, guests, seed, skipped } = Prepared::new("faults", common).await?;
    let mut torture = FaultTorture::prepare(cluster, guests, seed).await?;
    let begun = Instant::now();
    let gave_up = torture.run(Duration::from_secs_f64(minutes * 60.0)).await.err();
    let took = begun.elapsed();
    let rounds = torture.rounds;
    let outcome = Outcome {
        rows: torture.rows(took),
        summary: format!("faults: {rounds} rounds; {:.0} s, seed {seed}", took.as_secs_f64()),
        passed: rounds - torture.failures.len() as u64,
        failures: torture.failures.clone(),
        gave_up,
        skipped,
    };
    outcome.print(common.json.as_deref(), || torture.keep_files())
}
