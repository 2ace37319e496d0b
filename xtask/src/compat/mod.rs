//! `cargo xtask compat`: builds one small operator with each version of its framework, and writes `docs/porting.md`.

mod page;
mod versions;

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use wasmop_testbed::cargo_variables;

use crate::progress::Progress;
use crate::{command, programs, repository, setup};
use page::Built;
use versions::Trial;

#[derive(Args)]
pub struct Compat {
    /// Build only what begins with this, such as `kube-5` or `controller-runtime-0.2`; `none` only lists the port rules
    filter: Option<String>,
}

impl Compat {
    /// Builds what it needs, and then each operator. A refusal is a result, and no error.
    ///
    /// # Errors
    ///
    /// `wasmop` cannot be built, or files cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let trials = versions::all()?;
        let is_wanted = |trial: &Trial| self.filter.as_ref().is_none_or(|filter| trial.name().starts_with(filter));
        if trials.iter().any(is_wanted) {
            setup::toolchain()?;
            programs::build(&[programs::WASMOP])?;
        }
        let progress = Progress::start();
        let mut results = Vec::new();
        for trial in trials {
            let mut built = None;
            if is_wanted(&trial) {
                let found = build(&trial).with_context(|| trial.name())?;
                progress.say(&format!("{}: {found}", trial.name()));
                built = Some(found);
            }
            results.push((trial, built));
        }
        let path = repository::root().join(page::PATH);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, page::write(&before, &results)?).with_context(|| format!("writing {}", path.display()))?;
        let tried: Vec<&Built> = results.iter().filter_map(|(_, built)| built.as_ref()).collect();
        let refused = tried.iter().filter(|built| matches!(built, Built::Refused(_))).count();
        println!("{} of {} versions build", tried.len() - refused, tried.len());
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the project, resolves its dependencies, and builds it.
fn build(trial: &Trial) -> Result<Built> {
    let dir = repository::target().join("compat").join(trial.name());
    for (file, content) in trial.files() {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    let mut resolve = trial.resolve();
    if let Err(error) = command::output(resolve.current_dir(&dir)) {
        return Ok(Built::Refused(format!("{error:#}")));
    }
    let mut wasmop = Command::new(programs::path(programs::WASMOP));
    wasmop.args(["build", "--json"]).current_dir(&dir).stdin(Stdio::null());
    // All Rust projects share what they have in common.
    wasmop.env("CARGO_TARGET_DIR", repository::target().join("compat/cargo"));
    cargo_variables::remove(&mut wasmop);
    let output = wasmop.output().map_err(|error| command::cannot_start(&wasmop, &error))?;
    if !output.status.success() {
        return Ok(Built::Refused(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map(Built::Package).context("the output of `wasmop build --json`")
}
