//! Finds or installs componentize-py, which builds the test component in Python.
//!
//! A componentize-py on PATH takes precedence. Otherwise the pinned version is installed from the Python package index, in
//! a virtual environment in the user's cache folder, which all checkouts share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::ci::is_ci;
use crate::{command, repository};

const VERSION: &str = "0.25.1";
const PROGRAM: &str = "componentize-py";

/// The folder to add to PATH, or `None` if PATH has it. Installs only on a CI machine or with `install`.
///
/// # Errors
///
/// It is missing and may not or cannot be installed.
pub fn folder(install: bool) -> Result<Option<PathBuf>> {
    if runs(Path::new(PROGRAM)) {
        return Ok(None);
    }
    let environment = repository::user_cache()?.join(format!("componentize-py-{VERSION}"));
    let bin = environment.join("bin");
    if !runs(&bin.join(PROGRAM)) {
        if !install && !is_ci() {
            bail!("componentize-py is neither on PATH nor installed (cargo xtask setup --componentize-py)");
        }
        self::install(&environment)?;
    }
    Ok(Some(bin))
}

/// PATH with that folder in front.
///
/// # Errors
///
/// The folder's name contains a colon.
pub fn path_with(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path)))?)
}

/// A virtual environment cannot be renamed, so an incomplete one is replaced.
fn install(environment: &Path) -> Result<()> {
    eprintln!("componentize-py: installing {VERSION} in {}", environment.display());
    let python = which_python()?;
    if environment.exists() {
        fs::remove_dir_all(environment).with_context(|| format!("cannot replace `{}`", environment.display()))?;
    }
    command::run_aside(Command::new(python).args(["-m", "venv"]).arg(environment))
        .context("cannot create a Python environment\nhelp: on Debian and Ubuntu, apt-get install python3-venv")?;
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
    found.context("there is no `python3` on PATH\nhelp: install Python 3.10 or later")
}

fn runs(program: &Path) -> bool {
    command::succeeds(Command::new(program).arg("--version"))
}
