//! One process of a control plane: its lifetime and its log.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// The deadline for a control plane to respond.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the processes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the `ControlPlane` is dropped, or this process ends.
    Owned,
    /// Until another process stops them. A Ctrl-C in the terminal does not reach them.
    Detached,
}

/// Starts a process with its standard error in a log file.
pub(crate) fn spawn(
    name: &'static str,
    mut command: Command,
    log: &Path,
    lifetime: Lifetime,
) -> Result<std::process::Child> {
    let log_file = fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
    if lifetime == Lifetime::Detached {
        command.process_group(0);
    }
    command
        .stderr(log_file)
        .spawn()
        .map_err(|error| anyhow!("{name} cannot be started: {}: {error}", command.get_program().display()))
}
