//! The parts of the test suite.

use std::process::Command;

use anyhow::Result;
use wasmop_testbed::controlplane::{self, Binaries};

use super::report::Report;
use super::{cargo_test, go_test, lint};
use crate::{chromium, command, componentize_py, programs, repository, setup, simulate, tinygo, torture};

/// A part of the suite. A static item of [`PARTS`].
pub struct Part {
    /// Its argument of `--only`.
    pub name: &'static str,
    /// What it tests.
    pub about: &'static str,
    /// How long it usually takes on two cores once everything is built, in seconds. Measured with `cargo xtask test`.
    pub seconds: Option<u32>,
    tests: Tests,
}

enum Tests {
    /// Neither a cluster nor a guest.
    Local(fn(&mut Report) -> Result<()>),
    /// An integration test of the workspace that prints its own line of counts, and needs the program and a control plane.
    Cluster { test: &'static str, tool: Tool },
    /// Others that need the program and a control plane.
    Host(fn(&mut Report) -> Result<()>),
}

/// A tool that some of a part's tests need. Without it they are skipped.
enum Tool {
    Nothing,
    TinyGo,
    ComponentizePy,
    Chromium,
}

const fn local(
    name: &'static str,
    seconds: Option<u32>,
    tests: fn(&mut Report) -> Result<()>,
    about: &'static str,
) -> Part {
    Part { name, about, seconds, tests: Tests::Local(tests) }
}

const fn cluster(name: &'static str, seconds: u32, test: &'static str, tool: Tool, about: &'static str) -> Part {
    Part { name, about, seconds: Some(seconds), tests: Tests::Cluster { test, tool } }
}

const fn host(name: &'static str, seconds: u32, tests: fn(&mut Report) -> Result<()>, about: &'static str) -> Part {
    Part { name, about, seconds: Some(seconds), tests: Tests::Host(tests) }
}

/// All parts, in the order in which they run.
#[rustfmt::skip]
pub static PARTS: &[Part] = &[
    local("lint", Some(90), lint::run, "formatting, static analysis, documentation, dependencies"),
    local("unit", Some(90), unit, "the crates, guest-rust as a native library, guest-go"),
    local("fuzz", Some(20), fuzz, "every fuzz target on its seeds and a second of mutations"),
    local("simulation", Some(60), simulation, "whole hosts on a simulated cluster, disk and clock"),
    local("control-plane", Some(20), control_plane, "the bundled control plane in the roles of its components"),
    host("bad-input", 75, bad_input, "error messages name the input and a remedy"),
    cluster("conformance", 200, "conformance", Tool::TinyGo, "every behaviour with every guest on a real API server"),
    cluster("restart", 15, "restart", Tool::Nothing, "a host of 1,000 controllers restarts and reconciles what changed"),
    host("torture", 170, torture, "a host is killed at random moments, and its network breaks"),
    cluster("soft", 80, "soft", Tool::ComponentizePy, "components with WASI on a real API server"),
    cluster("operating", 90, "operating", Tool::Chromium, "metrics, probes and conditions of a host, also on a bad disk"),
    cluster("traces", 50, "traces", Tool::Nothing, "OpenTelemetry traces of reconciles, with and without a collector"),
    cluster("api-server", 35, "api_server", Tool::Nothing, "the API server restarts, credentials rotate"),
    cluster("permissions", 20, "permissions", Tool::Nothing, "forbidden requests, checked against the API server's audit log"),
    cluster("external", 70, "external", Tool::TinyGo, "requests of every guest to hosts other than the API server"),
    cluster("hostile", 45, "hostile", Tool::Nothing, "hostile guests beside one that must keep working"),
    cluster("network", 85, "network", Tool::Nothing, "stalled connections, proxies, credentials as in kubectl"),
    cluster("leases", 60, "leases", Tool::Nothing, "hosts that share controllers are killed, stopped, cut off, replaced"),
    cluster("model", 90, "model", Tool::TinyGo, "guests suspended at random against uninterrupted twins, bit for bit"),
    cluster("operators", 480, "operators", Tool::Nothing, "operators in Go and Rust that do not know wasmop, built as they are"),
];

/// The part of that name.
pub fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

/// How much a part builds when it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Its own programs and tests: a single part begins sooner.
    Needed,
    /// Everything, on all cores at once: the whole suite ends sooner.
    Everything,
}

impl Part {
    /// Runs it and counts its tests into `report`.
    ///
    /// # Errors
    ///
    /// Something cannot be built or started.
    pub fn run(&self, build: Build, report: &mut Report) -> Result<()> {
        if !matches!(self.tests, Tests::Local(_)) {
            match build {
                Build::Needed => programs::build_for_tests(&[programs::WASMOP])?,
                Build::Everything => programs::build_with_integration_tests(&[programs::WASMOP, programs::TORTURE])?,
            }
            setup::control_plane()?;
        }
        match &self.tests {
            Tests::Local(tests) | Tests::Host(tests) => tests(report),
            Tests::Cluster { test, tool } => {
                let mut command = integration_test(&["--test", test]);
                tool.prepare(&mut command)?;
                if build == Build::Everything {
                    command.env("WASMOP_E2E_SHORT", "1");
                }
                cargo_test::run(&mut command, Some(self.name), report)
            }
        }
    }
}

impl Tool {
    /// Finds it, or has the tests skip what needs it.
    fn prepare(&self, test: &mut Command) -> Result<()> {
        match self {
            Tool::Nothing => {}
            Tool::TinyGo => skip(test, "WASMOP_E2E_SKIP_TINYGO", tinygo::missing()),
            Tool::Chromium => skip(test, "WASMOP_E2E_SKIP_BROWSER", chromium::missing()),
            Tool::ComponentizePy => match componentize_py::folder(false) {
                Ok(None) => {}
                Ok(Some(folder)) => {
                    test.env("PATH", componentize_py::path_with(&folder)?);
                }
                Err(error) => {
                    let reason = format!("componentize-py is unavailable: {error:#}");
                    let reason = reason.lines().next().unwrap_or_default().to_owned();
                    skip(test, "WASMOP_E2E_SKIP_PYTHON", Some(reason));
                }
            },
        }
        Ok(())
    }
}

fn skip(test: &mut Command, variable: &str, reason: Option<String>) {
    test.envs(reason.map(|reason| (variable.to_owned(), reason)));
}

/// `cargo test` with `args`. It runs every test even if one fails.
fn cargo_test(args: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--no-fail-fast", "--release"]).args(programs::WORKSPACE).args(args);
    cargo
}

/// Integration tests of a program.
fn integration_test(args: &[&str]) -> Command {
    let mut cargo = cargo_test(args);
    cargo.args(programs::unoptimized_cli());
    cargo
}

fn unit(report: &mut Report) -> Result<()> {
    let unoptimized = programs::unoptimized_members()?;
    for tests in [&["--lib", "--bins", "--test", "assembled", "--test", "suspend"][..], &["--doc"]] {
        cargo_test::run(cargo_test(tests).args(&unoptimized), None, report)?;
    }
    for manifest in ["guest-rust/Cargo.toml", "guest-rust/runtime/Cargo.toml"] {
        let mut guest = command::cargo();
        guest.args(["test", "--no-fail-fast", "--release", "--manifest-path", manifest]);
        guest.args(["--config", "profile.release.opt-level=0"]);
        cargo_test::run(guest.env("CARGO_TARGET_DIR", repository::guest_target()), None, report)?;
    }
    go_test::run(&repository::root().join("guest-go"), &[], &[], report)?;
    go_test::run(&repository::root().join("guest-go/port"), &[], &[], report)
}

fn control_plane(report: &mut Report) -> Result<()> {
    if !matches!(setup::control_plane()?, Binaries::Bundled(_)) {
        report.skipped("the bundled control plane: another one was found (KUBEBUILDER_ASSETS or PATH)");
        return Ok(());
    }
    // Vet is part of lint, and would compile all of Kubernetes once more here.
    let args = [&["-vet=off"], &controlplane::TEST_FLAGS[..]].concat();
    go_test::run(&controlplane::source_dir(), &args, &[("CGO_ENABLED", "0")], report)?;
    cargo_test::run(&mut integration_test(&["--test", "links"]), None, report)
}

fn fuzz(report: &mut Report) -> Result<()> {
    programs::build_with_assertions(&[programs::FUZZ_SMOKE])?;
    cargo_test::run(&mut Command::new(programs::path(programs::FUZZ_SMOKE)), Some("fuzz"), report)
}

/// Seeds of the simulation in each run of the tests, and those that run twice to see that nothing differs.
const SIMULATED_SEEDS: u64 = 400;
const REPEATED_SEEDS: u64 = 40;

fn simulation(report: &mut Report) -> Result<()> {
    cargo_test::run(&mut simulate::tests(), None, report)?;
    cargo_test::run(&mut simulate::command(SIMULATED_SEEDS, 0), Some("simulation"), report)?;
    let mut repeated = simulate::command(REPEATED_SEEDS, 1_000_000);
    cargo_test::run(repeated.arg("--check-determinism"), Some("simulation"), report)
}

fn bad_input(report: &mut Report) -> Result<()> {
    // Of the command line, of a host with an API server, and of dependencies.
    let tests = ["verbs", "init", "bad_input", "dependencies"].map(|test| ["--test", test]);
    cargo_test::run(&mut integration_test(tests.as_flattened()), Some("bad-input"), report)
}

/// Takes about 20 seconds, in which a kill hits each phase of a host now and then.
const TORTURE_ROUNDS: u64 = 15;

fn torture(report: &mut Report) -> Result<()> {
    programs::build_for_tests(&[programs::WASMOP, programs::TORTURE])?;
    cargo_test::run(&mut torture::kill(TORTURE_ROUNDS), Some("torture"), report)?;
    // Each kind of fault once.
    cargo_test::run(&mut torture::faults(0.0), Some("torture"), report)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn parts_have_distinct_names_that_are_found() {
        let names: BTreeSet<_> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), PARTS.len());
        assert!(names.iter().all(|name| find(name).is_some_and(|part| part.name == *name)));
        assert!(find("units").is_none());
    }

    #[test]
    fn every_integration_test_of_a_part_exists() {
        for part in PARTS {
            if let Tests::Cluster { test, .. } = part.tests {
                let tests = repository::root().join("e2e/tests");
                let file = tests.join(format!("{test}.rs"));
                assert!(file.is_file() || tests.join(test).join("main.rs").is_file(), "{test}");
            }
        }
    }

    #[test]
    fn a_reason_makes_the_tests_skip_and_no_reason_does_not() {
        for (reason, expected) in [(None, 0), (Some("none".to_owned()), 1)] {
            let mut test = Command::new("test");
            skip(&mut test, "WASMOP_E2E_SKIP_TINYGO", reason);
            assert_eq!(test.get_envs().count(), expected);
        }
    }
}
