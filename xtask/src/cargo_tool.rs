//! Cargo subcommands at pinned versions, built from the registry into the user's cache folder, which all checkouts share:
//!
//! ```text
//! $XDG_CACHE_HOME/wasmop/cargo-deny-0.20.2/bin/cargo-deny
//! ```
//!
//! They are built without optimization: that takes two minutes instead of eight, and each runs for seconds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::ci::is_ci;
use crate::{command, repository};

/// Checks licences, advisories, duplicates and sources of dependencies.
pub const DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2" };
/// Finds dependencies that no code uses.
pub const MACHETE: CargoTool = CargoTool { name: "cargo-machete", version: "0.9.2" };

/// A subcommand, and the version that everybody uses.
#[derive(Clone, Copy)]
pub struct CargoTool {
    /// The crate, and its program.
    pub name: &'static str,
    version: &'static str,
}

impl CargoTool {
    /// The program; installs it on a CI machine. `Err` has the reason if there is none.
    ///
    /// # Errors
    ///
    /// It is not installed and this is no CI machine, or it cannot be installed.
    pub fn find(self) -> Result<PathBuf, String> {
        match self.program() {
            Ok(program) if program.is_file() => Ok(program),
            Ok(_) if !is_ci() => Err(format!("{} {} is not installed (cargo xtask setup)", self.name, self.version)),
            Ok(_) => self.install().map_err(|error| self.unavailable(&error)),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// The program; installs it if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be installed.
    pub fn install(self) -> Result<PathBuf> {
        let program = self.program()?;
        if program.is_file() {
            return Ok(program);
        }
        let folder = self.folder()?;
        eprintln!("{}: building {} in {} (once, 1 to 3 minutes)", self.name, self.version, folder.display());
        let mut install = command::cargo();
        install.args(["install", "--quiet", "--locked", "--debug", "--no-track", "--root"]).arg(&folder);
        install.arg(format!("{}@{}", self.name, self.version));
        // Cargo installs with a rename, so a program that is there is complete. Its own target directory is removed.
        install.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_DEV_DEBUG", "0");
        command::run_aside(&mut install)
            .with_context(|| format!("cannot build {}\nhelp: is the crate registry reachable?", self.name))?;
        Ok(program)
    }

    /// How to run `program`, in the repository.
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(repository::root());
        command
    }

    fn folder(self) -> Result<PathBuf> {
        Ok(repository::user_cache()?.join(format!("{}-{}", self.name, self.version)))
    }

    fn program(self) -> Result<PathBuf> {
        Ok(self.folder()?.join("bin").join(self.name))
    }

    fn unavailable(self, error: &anyhow::Error) -> String {
        let error = format!("{error:#}");
        format!("{} is unavailable: {}", self.name, error.lines().next().unwrap_or_default())
    }
}
