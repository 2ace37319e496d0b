//! `cargo xtask torture`: rounds of killing a host or of spoiling its network, then a line of counts; with
//! `--json`, rows for machines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::rows::Rows;
use wasmop_e2e::torture::Torture;
use wasmop_e2e::torture::faults::FaultTorture;
use wasmop_e2e::test_cluster::TestCluster;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    torture: What,
}

#[derive(Subcommand)]
enum What {
    /// SIGKILL at random moments under load
    Kill {
        #[arg(long)]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// A network and an API server that go wrong under load
    Faults {
        #[arg(long)]
        minutes: f64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    /// What the moments and the load are drawn from; another one each time if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the rows as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let result = runtime.block_on(async {
        match Cli::parse().torture {
            What::Kill { rounds, common } => kill(rounds, &common).await,
            What::Faults { minutes, common } => faults(minutes, &common).await,
        }
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print_item("failed", &format!("torture: {error:#}"));
            println!("torture: 0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

/// What every torture begins with.
struct Prepared {
    cluster: TestCluster,
    guests: Vec<Guest>,
    seed: u64,
    skipped: u64,
}

impl Prepared {
    async fn new(what: &str, common: &Common) -> Result<Prepared> {
        let seed = common.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        println!("seed {seed}");
        let cluster = TestCluster::start().await?;
        let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
        let mut skipped = 0;
        for Column { name, guest } in &columns {
            if let Err(reason) = guest {
                skipped += 1;
                print_item("skipped", &format!("{what}, {name}: {reason}"));
            }
        }
        let guests: Vec<Guest> = columns.into_iter().filter_map(|column| column.guest.ok()).collect();
        Ok(Prepared { cluster, guests, seed, skipped })
    }
}

/// How a torture ended.
struct Ended {
    rows: Rows,
    summary: String,
    passed: u64,
    failures: Vec<String>,
    gave_up: Option<anyhow::Error>,
    skipped: u64,
}

impl Ended {
    /// Prints all; whether nothing failed. `keep_files`: for what did.
    fn tell(self, json: Option<&Path>, keep_files: impl FnOnce() -> PathBuf) -> Result<bool> {
        println!();
        self.rows.print();
        if let Some(path) = json {
            self.rows.write(path)?;
        }
        println!("\n{}", self.summary);
        self.failures.iter().for_each(|failure| print_item("failed", failure));
        if let Some(error) = &self.gave_up {
            print_item("failed", &format!("torture: {error:#}"));
        }
        let failed = self.failures.len() as u64 + u64::from(self.gave_up.is_some());
        println!("torture: {} passed, {failed} failed, {} skipped", self.passed, self.skipped);
        if failed > 0 {
            println!("logs and state are in {}", keep_files().display());
        }
        Ok(failed == 0)
    }
}

async fn kill(rounds: u64, common: &Common) -> Result<bool> {
    let Prepared { cluster, guests, seed, skipped } = Prepared::new("kill", common).await?;
    let mut torture = Torture::prepare(cluster, guests, seed).await?;
    let begun = Instant::now();
    let gave_up = torture.run(rounds).await.err();
    let took = begun.elapsed();
    let tally = torture.tally();
    let ended = Ended {
        rows: tally.rows(took),
        summary: format!("kill: {tally}; {:.0} s, seed {seed}", took.as_secs_f64()),
        passed: tally.passed,
        failures: tally.failures.clone(),
        gave_up,
        skipped,
    };
    ended.tell(common.json.as_deref(), || torture.keep_files())
}

async fn faults(minutes: f64, common: &Common) -> Result<bool> {
    let Prepared { cluster, guests, seed, skipped } = Prepared::new("faults", common).await?;
    let mut torture = FaultTorture::prepare(cluster, guests, seed).await?;
    let begun = Instant::now();
    let gave_up = torture.run(Duration::from_secs_f64(minutes * 60.0)).await.err();
    let took = begun.elapsed();
    let rounds = torture.rounds;
    let ended = Ended {
        rows: torture.rows(took),
        summary: format!("faults: {rounds} rounds; {:.0} s, seed {seed}", took.as_secs_f64()),
        passed: rounds - torture.failures.len() as u64,
        failures: torture.failures.clone(),
        gave_up,
        skipped,
    };
    ended.tell(common.json.as_deref(), || torture.keep_files())
}

/// As `cargo xtask test` reads it.
fn print_item(label: &str, text: &str) {
    println!("{label}: {}", text.replace('\n', "\n    "));
}
