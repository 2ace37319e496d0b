//! `cargo xtask operators DIR...`: builds operators, runs each as a package and natively, and prints a row for each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use wasmop_e2e::operators::{Options, compare, table};

#[derive(Parser)]
struct Cli {
    /// Directories of operators
    #[arg(required = true, value_name = "DIR")]
    operators: Vec<PathBuf>,
    /// Objects that make the operator work, in place of its own samples: a file or folder
    #[arg(long, value_name = "PATH")]
    samples: Option<PathBuf>,
    /// How long each is watched while nothing changes, in seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    idle: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = Options { idle: Duration::from_secs(cli.idle) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let outcomes = runtime.block_on(async {
        let mut outcomes = Vec::new();
        for dir in &cli.operators {
            eprintln!("{}", dir.display());
            outcomes.push(compare(dir, cli.samples.as_deref(), &options).await);
        }
        outcomes
    });
    print!("{}", table(&outcomes));
    if outcomes.iter().all(|outcome| outcome.is_good()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
