//! Builds programs of this workspace.
//!
//! Cargo turns on the features that the selected packages ask for, and compiles a dependency again for each other set. All
//! builds here select the whole workspace, so they share one set of artefacts, and build only the targets they need.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::Progress;
use crate::{command, repository};

/// The command line tool.
pub const WASMOP: &str = "wasmop";
/// Runs benchmarks.
pub const BENCH: &str = "wasmop-bench";
/// Runs `cargo xtask torture`.
pub const TORTURE: &str = "wasmop-torture";

/// Runs `cargo xtask operators`.
pub const OPERATORS: &str = "wasmop-operators";

/// Runs the fuzz targets on their seeds and mutations of them.
pub const FUZZ_SMOKE: &str = "fuzz-smoke";

/// What builds and tests select: all packages but the simulation, which needs a feature of tokio for tests.
pub const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "wasmop-simulation"];

/// Libraries, build scripts and programs that a build of `wasmop` makes, for the progress display.
const ARTEFACTS: usize = 496;
const REPORT_EVERY: Duration = Duration::from_secs(20);

/// Where a program is, once it is built.
pub fn path(program: &str) -> PathBuf {
    repository::target().join("release").join(program)
}

/// Builds these.
///
/// # Errors
///
/// Cargo fails; it has said why.
pub fn build(programs: &[&str]) -> Result<()> {
    command::run(&mut cargo_build(programs))
}

/// Builds `wasmop` and says now and then how far it is, in place of cargo's own display.
///
/// # Errors
///
/// Cargo fails; it has said why.
pub fn build_wasmop_with_progress(progress: Progress) -> Result<()> {
    let mut cargo = cargo_build(&[WASMOP]);
    cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut child = cargo.spawn().map_err(|error| command::cannot_start(&cargo, &error))?;
    let (mut made, mut reported) = (0, Instant::now());
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        made += usize::from(is_artefact(&line?));
        if reported.elapsed() > REPORT_EVERY {
            reported = Instant::now();
            progress.say(&format!("wasmop: {made} of about {ARTEFACTS} crates compiled"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", command::display(&cargo));
    }
    Ok(())
}

/// Builds the programs that tests run.
///
/// # Errors
///
/// Cargo fails; it has said why.
pub fn build_for_tests(programs: &[&str]) -> Result<()> {
    command::run(cargo_build(programs).args(unoptimized_cli()))
}

/// Builds programs with assertions and checks for overflows in our own packages.
///
/// # Errors
///
/// Cargo fails; it has said why.
pub fn build_with_assertions(programs: &[&str]) -> Result<()> {
    let checked = settings(&members()?, &["opt-level=0", "debug-assertions=true", "overflow-checks=true"]);
    command::run(cargo_build(programs).args(checked))
}

/// Builds these programs and all integration tests.
///
/// # Errors
///
/// Cargo fails; it has said why.
pub fn build_with_integration_tests(programs: &[&str]) -> Result<()> {
    command::run(cargo_build(programs).args(unoptimized_cli()).args(["--test", "*"]))
}

/// Arguments of cargo for tests that run `wasmop`. What takes time in it is in the crates below the command line, and
/// optimizing its parsers takes minutes.
pub fn unoptimized_cli() -> Vec<String> {
    settings(&["wasmop-cli".to_owned()], &["opt-level=0"])
}

/// Arguments of cargo for unit tests. To optimize our crates once more with their tests takes longer than the tests run.
/// The dependencies are those of the programs.
///
/// # Errors
///
/// Cargo does not list the members of the workspace.
pub fn unoptimized_members() -> Result<Vec<String>> {
    Ok(settings(&members()?, &["opt-level=0"]))
}

/// The workspace's own packages, as `cargo metadata` describes them.
///
/// # Errors
///
/// Cargo fails.
pub fn metadata() -> Result<Value> {
    let metadata = command::output(command::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    serde_json::from_str(&metadata).context("reading cargo metadata")
}

fn members() -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

/// Arguments that change the release profile for `packages`.
fn settings(packages: &[String], settings: &[&str]) -> Vec<String> {
    let pairs = packages.iter().flat_map(|package| settings.iter().map(move |setting| (package, setting)));
    let argument = |(package, setting)| format!("profile.release.package.{package}.{setting}");
    pairs.flat_map(|pair| ["--config".to_owned(), argument(pair)]).collect()
}

fn cargo_build(programs: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo.args(["build", "--release"]).args(WORKSPACE).args(programs.iter().flat_map(|program| ["--bin", program]));
    cargo
}

/// Whether the line is cargo's message about something that it has compiled, or found compiled.
fn is_artefact(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|message| message["reason"] == "compiler-artifact")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_artefacts_count() {
        for (line, expected) in [
            (r#"{"reason":"compiler-artifact","package_id":"x","fresh":true}"#, true),
            (r#"{"reason":"build-script-executed","package_id":"x"}"#, false),
            (r#"{"reason":"build-finished","success":true}"#, false),
            ("warning: x", false),
        ] {
            assert_eq!(is_artefact(line), expected, "{line}");
        }
    }

    #[test]
    fn settings_name_the_members_of_the_workspace_and_no_dependency() {
        let arguments = unoptimized_members().expect("cargo lists them");
        for (package, expected) in [("wasmop-core", true), ("wasmop-cli", true), ("wasmtime", false)] {
            let setting = format!("profile.release.package.{package}.opt-level=0");
            assert_eq!(arguments.contains(&setting), expected, "{package}: {arguments:?}");
        }
    }

    #[test]
    fn a_build_selects_the_workspace_and_only_the_programs_it_is_asked_for() {
        let line = command::display(&cargo_build(&[WASMOP, BENCH]));
        assert!(
            line.ends_with(" build --release --workspace --exclude wasmop-simulation --bin wasmop --bin wasmop-bench"),
            "{line}"
        );
    }
}
