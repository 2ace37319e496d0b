//! Installs missing Debian packages.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Names of packages, and a file that each installs.
pub type Packages = &'static [(&'static str, &'static str)];

/// Installs those of `packages` that are missing, which needs root. `instead` says what to do on another system.
///
/// # Errors
///
/// This is no Debian, the user is not root, or apt-get fails.
pub fn install(what: &str, packages: Packages, instead: &str) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, file)| !Path::new(file).exists()).map(|&(package, _)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let command = format!("apt-get install --no-install-recommends {names}");
    if !command::succeeds(Command::new("apt-get").arg("--version")) {
        bail!("{what} needs {names}, which this script installs on Debian and Ubuntu only\nhelp: {instead}");
    }
    // The owner of /proc/self is the user who runs this; reading it needs no libc.
    if !fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
        bail!("{what} needs packages that are not installed: {names}\nhelp: sudo {command}");
    }
    eprintln!("installing {names}");
    // An old list of packages may still do.
    let updated = run(&["-qq", "update"]);
    run(&[&["-qq", "-y", "--no-install-recommends", "install"], &missing[..]].concat()).with_context(|| {
        let update = updated.err().map(|error| format!(" (`apt-get update` failed too: {error:#})"));
        format!("cannot install what {what} needs{}\nhelp: run `{command}` to see why", update.unwrap_or_default())
    })
}

fn run(arguments: &[&str]) -> Result<()> {
    command::run_aside(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
}
