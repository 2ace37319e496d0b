//! `cargo xtask operators`: tries existing operators as packages beside their native programs.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{command, programs, setup};

#[derive(Args)]
pub struct Operators {
    /// Directories of operators: `wasmop init` and `wasmop build` run in each
    #[arg(required = true, value_name = "DIR")]
    operators: Vec<PathBuf>,
    /// Objects that make the operators work, in place of their own samples: a file or folder
    #[arg(long, value_name = "PATH")]
    samples: Option<PathBuf>,
    /// How long each is watched while nothing changes, in seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    idle: u64,
}

impl Operators {
    /// Builds what it needs, and prints a row for each operator.
    ///
    /// # Errors
    ///
    /// Something of this repository cannot be built or started.
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        programs::build(&[programs::WASMOP, programs::OPERATORS])?;
        setup::control_plane()?;
        let mut operators = Command::new(programs::path(programs::OPERATORS));
        operators.args(&self.operators).args(["--idle", &self.idle.to_string()]);
        if let Some(samples) = &self.samples {
            operators.arg("--samples").arg(samples);
        }
        let status = operators.status().map_err(|error| command::cannot_start(&operators, &error))?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
