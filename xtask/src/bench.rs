//! Runs a benchmark of the `bench` crate.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{command, repository, setup};

#[derive(Args)]
pub struct Bench {
    /// Which one; a wrong name shows them all.
    name: String,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer repetitions: for trying it out, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// Only this guest (rust, go, tinygo); may be given several times.
    #[arg(long = "guest", value_name = "NAME")]
    guests: Vec<String>,
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        command::build_wasmop()?;
        let mut bench = Command::new(repository::target().join("release/wasmop-bench"));
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
        let status = bench.status()?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
