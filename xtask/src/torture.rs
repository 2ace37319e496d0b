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
    Kill(Kill),
}

#[derive(Args)]
struct Kill {
    /// How often; about 1.5 s each.
    #[arg(long, value_name = "N")]
    rounds: u64,
    /// Draw the moments and the load from this number, as an earlier run that failed has named it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Also write the counts as JSON, in the rows of a bench.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Torture {
    pub fn run(self) -> Result<ExitCode> {
        let What::Kill(Kill { rounds, seed, json }) = self.what;
        setup::toolchain()?;
        command::build_wasmop()?;
        let mut torture = kill();
        torture.args(["--rounds", &rounds.to_string()]);
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

/// The program that does it, once it is built.
pub fn kill() -> Command {
    let mut torture = Command::new(repository::target().join("release/wasmop-torture"));
    torture.arg("kill");
    if let Some(reason) = tinygo::missing() {
        torture.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    torture
}
