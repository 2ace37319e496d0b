//! `cargo xtask simulate`: runs whole hosts in virtual time, one seed a run.
//!
//! The simulation stops tokio's clock, which needs a feature of tokio that no program should have. So it is built by
//! itself, and builds of the workspace leave it out: see [`programs::WORKSPACE`](crate::programs::WORKSPACE).

use std::process::{Command, ExitCode};
use std::thread;

use anyhow::Result;
use clap::Args;

use crate::{command, setup};

const PACKAGE: &str = "wasmop-simulation";

#[derive(Args)]
pub struct Simulate {
    /// Number of seeds; each is a run of some milliseconds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first seed; a run depends on nothing else
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print every event and effect
    #[arg(long)]
    trace: bool,
    /// Run each seed twice, and compare
    #[arg(long)]
    check_determinism: bool,
    /// Continue after a failure, and list all seeds that fail
    #[arg(long)]
    keep_going: bool,
}

impl Simulate {
    /// Builds the simulation and runs it.
    ///
    /// # Errors
    ///
    /// It cannot be built or started.
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        let mut simulate = command(self.seeds, self.seed);
        simulate.args(self.trace.then_some("--trace"));
        simulate.args(self.check_determinism.then_some("--check-determinism"));
        simulate.args(self.keep_going.then_some("--keep-going"));
        let status = simulate.status().map_err(|error| command::cannot_start(&simulate, &error))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The command for that many seeds, on all cores.
pub fn command(seeds: u64, seed: u64) -> Command {
    let mut cargo = command::cargo();
    let jobs = thread::available_parallelism().map_or(1, |cores| cores.get());
    cargo.args(["run", "--release", "--quiet", "--package", PACKAGE, "--", "--jobs", &jobs.to_string()]);
    cargo.args(["--seeds", &seeds.to_string(), "--seed", &seed.to_string()]);
    cargo
}

/// The command for its own tests, which plant bugs and expect that they are found.
pub fn tests() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--release", "--no-fail-fast", "--package", PACKAGE]);
    cargo
}
