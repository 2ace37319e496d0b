use anyhow::Result;
use clap::Parser;
use clap_complete::Shell;

use super::Cli;

/// Print a completion script for a shell.
///
/// For bash: `wasmop completions bash > ~/.local/share/bash-completion/completions/wasmop`
#[derive(Debug, Parser)]
pub struct Completions {
    /// The shell to complete for.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "wasmop", &mut script);
        crate::output::data(&script)
    }
}
