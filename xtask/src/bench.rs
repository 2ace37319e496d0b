//! `cargo xtask bench`: runs a benchmark of the `bench` crate.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{command, programs, setup, tinygo};

#[derive(Args)]
pub struct Bench {
    /// Name of the benchmark; a wrong one lists all
    name: String,
    /// Also write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer repetitions: to try it out, not for figures to quote
    #[arg(long)]
    quick: bool,
    /// Measure only this guest (rust, go, tinygo); repeatable
    #[arg(long = "guest", value_name = "NAME")]
    guests: Vec<String>,
}

impl Bench {
    /// Builds what it needs and runs it.
    ///
    /// # Errors
    ///
    /// Something cannot be built or started.
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        programs::build(&[programs::WASMOP, programs::BENCH])?;
        let mut bench = Command::new(programs::path(programs::BENCH));
        bench.arg(&self.name);
        if let Some(file) = &self.json {
            bench.arg("--json").arg(std::path::absolute(file)?);
        }
        for guest in &self.guests {
            bench.args(["--guest", guest]);
        }
        if self.quick {
            bench.arg("--quick");
        }
        // The benchmark leaves out rows of tools that are missing, and names the reason.
        if let Some(reason) = tinygo::missing() {
            bench.env("WASMOP_E2E_SKIP_TINYGO", reason);
        }
        let status = bench.status().map_err(|error| command::cannot_start(&bench, &error))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
