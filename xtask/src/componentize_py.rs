//! From a machine with Python to one with the componentize-py that builds the test component in Python.
//!
//! One on the PATH is taken as it is. Otherwise the pinned version is installed from the Python package
//! index, in an environment of its own in the user's cache folder, which every checkout shares.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, repository};

const VERSION: &str = "0.25.1";
const PROGRAM: &str = "componentize-py";

/// The folder of its programs, to be put on the PATH; `None` if it is there already. Installed only on a CI
/// machine or with `install`.
///
/// # Errors
///
/// Why it can't be had.
pub fn folder(install: bool) -> Result<Option<PathBuf>> {
    if runs(Path::new(PROGRAM)) {
        return Ok(None);
    }
    let environment = repository::user_cache()?.join(format!("componentize-py-{VERSION}"));
    let bin = environment.join("bin");
    if !runs(&bin.join(PROGRAM)) {
        if !install && std::env::var_os("CI").is_none_or(|value| value.is_empty()) {
            bail!("componentize-py is neither on PATH nor installed (cargo xtask setup --componentize-py)");
        }
        self::install(&environment)?;
    }
    Ok(Some(bin))
}

/// The PATH with that folder in front.
pub fn path_with(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path)))?)
}

/// Environments can't be moved, so one that is incomplete is replaced.
fn install(environment: &Path) -> Result<()> {
    eprintln!("componentize-py: installing {VERSION} in {}", environment.display());
    let python = which_python()?;
    if environment.exists() {
        fs::remove_dir_all(environment).with_context(|| format!("cannot replace `{}`", environment.display()))?;
    }
    command::run_aside(Command::new(python).args(["-m", "venv"]).arg(environment)).context(
        "cannot make a Python environment\nhelp: Debian and Ubuntu have its module apart: apt-get install python3-venv",
    )?;
    let requirement = format!("{PROGRAM}=={VERSION}");
    let mut pip = Command::new(environment.join("bin/python"));
    command::run_aside(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &requirement]))
        .context("cannot install componentize-py\nhelp: is a Python package index reachable?")?;
    if !runs(&environment.join("bin").join(PROGRAM)) {
        bail!("componentize-py {VERSION} was installed and does not run");
    }
    Ok(())
}

fn which_python() -> Result<&'static str> {
    let found = ["python3", "python"].into_iter().find(|python| runs(Path::new(python)));
    found.context("there is no `python3` on the PATH\nhelp: install Python 3.10 or later")
}

fn runs(program: &Path) -> bool {
    command::succeeds(Command::new(program).arg("--version"))
}
