//! Runs the torture of the `e2e` crate.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{command, repository, setup, tinygo};

#[derive(Args)]
pub struct Torture {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Kill a host under load at random moments, start it again, and see that nothing is lost.
    Kill {
        /// How often; about 1.5 s each.
        #[arg(long, value_name = "N")]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Spoil the network between a host under load and its API server, and see that everything converges.
    Faults {
        /// How long; each kind of fault comes once in any case.
        #[arg(long, value_name = "N")]
        minutes: f64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    /// Draw the moments and the load from this number, as an earlier run that failed has named it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Also write the counts as JSON, in the rows of a bench.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Torture {
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        command::build_wasmop()?;
        let (mut torture, Common { seed, json }) = match self.what {
            What::Kill { rounds, common } => (kill(rounds), common),
            What::Faults { minutes, common } => (faults(minutes), common),
        };
        if let Some(seed) = seed {
            torture.args(["--seed", &seed.to_string()]);
        }
        if let Some(file) = &json {
            torture.arg("--json").arg(std::path::absolute(file)?);
        }
        let status = torture.status().map_err(|error| command::cannot_start(&torture, &error))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The program, once it is built, for so many kills.
pub fn kill(rounds: u64) -> Command {
    program("kill", &["--rounds", &rounds.to_string()])
}

/// The same for faults of the network.
pub fn faults(minutes: f64) -> Command {
    program("faults", &["--minutes", &minutes.to_string()])
}

fn program(what: &str, args: &[&str]) -> Command {
    let mut torture = Command::new(repository::target().join("release/wasmop-torture"));
    torture.arg(what).args(args);
    if let Some(reason) = tinygo::missing() {
        torture.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    torture
}
