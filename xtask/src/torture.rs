//! `cargo xtask torture`: runs the torture program of the `e2e` crate.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{command, programs, setup, tinygo};

#[derive(Args)]
pub struct Torture {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Kill a host under load at random moments, restart it, and check that nothing is lost
    Kill {
        /// Number of kills; each takes about 1.5 s
        #[arg(long, value_name = "N")]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Inject network faults between a host under load and its API server, and check that everything converges
    Faults {
        /// Duration; each kind of fault occurs at least once
        #[arg(long, value_name = "N")]
        minutes: f64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    /// Repeat the random choices of an earlier run, which printed this number
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Also write the counts as JSON, in the format of a benchmark
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Torture {
    /// Builds what it needs and runs it.
    ///
    /// # Errors
    ///
    /// Something cannot be built or started.
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        programs::build(&[programs::WASMOP, programs::TORTURE])?;
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

/// The command for that many kills. The program must be built.
pub fn kill(rounds: u64) -> Command {
    program("kill", &["--rounds", &rounds.to_string()])
}

/// The command for network faults. The program must be built.
pub fn faults(minutes: f64) -> Command {
    program("faults", &["--minutes", &minutes.to_string()])
}

fn program(what: &str, args: &[&str]) -> Command {
    let mut torture = Command::new(programs::path(programs::TORTURE));
    torture.arg(what).args(args);
    if let Some(reason) = tinygo::missing() {
        torture.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    torture
}
