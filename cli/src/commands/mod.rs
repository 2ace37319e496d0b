//! The verbs, one file each. They parse flags and call the modules that do the work.

mod build;
mod completions;
mod init;
mod inspect;
mod new;
mod policy;
mod run;
mod top;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::error;
use crate::output::{self, Paint};

/// Kubernetes controllers that use almost no memory and CPU while idle.
///
/// `wasmop` builds controllers from Rust or Go sources, packs each into one WebAssembly file, and
/// runs any number of them in one process. It suspends idle controllers to disk with all their
/// state, and resumes them when an object they watch changes.
///
/// Exit codes: 0 success, 1 failure, 2 wrong command line.
#[derive(Debug, Parser)]
#[command(name = "wasmop", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Init(init::Init),
    Build(build::Build),
    Run(Box<run::Run>),
    Top(top::Top),
    Inspect(inspect::Inspect),
    Policy(policy::Policy),
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the verb, prints its error, and returns the exit code.
    pub fn run(self) -> ExitCode {
        match self.command.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                output::line(error::render(&failure, Paint::for_stderr()).trim_end());
                ExitCode::from(error::exit_code(&failure))
            }
        }
    }

    /// The whole command line, for completions.
    fn command() -> clap::Command {
        <Cli as CommandFactory>::command()
    }
}

impl Command {
    fn run(self) -> Result<()> {
        match self {
            Command::New(new) => new.run(),
            Command::Init(init) => init.run(),
            Command::Build(build) => build.run(),
            Command::Run(run) => run.run(),
            Command::Top(top) => top.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Policy(policy) => policy.run(),
            Command::Completions(completions) => completions.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
