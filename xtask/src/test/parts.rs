//! The parts of the test suite.

use anyhow::Result;
use clap::ValueEnum;
use wasmop_testbed::controlplane::{self, Binaries};

use super::report::Report;
use super::{cargo_test, go_test, lint};
use crate::{chromium, command, componentize_py, repository, setup, tinygo, torture};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Formatting, clippy, vet, licences.
    Lint,
    /// Everything that needs neither a cluster nor a guest.
    Unit,
    /// The bundled control plane in the roles of its components.
    ControlPlane,
    /// What goes wrong is said, and said well.
    BadInput,
    /// Every behaviour with every guest, on a real API server.
    Conformance,
    /// A thousand controllers of one host, restarted.
    Restart,
    /// A host killed at random moments, and its network spoilt, a few times; `cargo xtask torture` does so more often.
    Torture,
    /// Components with WASI, on a real API server.
    Soft,
    /// What a running host tells about itself, above all on a bad disk.
    Operating,
    /// What a collector gets of reconciles, and what a host does without one.
    Traces,
    /// The API server killed and started anew, credentials rotated.
    ApiServer,
    /// What controllers try at the API server, and what its audit log has of it.
    Permissions,
    /// Requests of all guests to hosts other than the API server.
    External,
    /// Hostile guests, beside one that keeps working.
    Hostile,
    /// Connections that freeze, proxies, and credentials as kubectl has them.
    Network,
    /// Two hosts that share controllers: killed, stopped, cut off, replaced.
    Leases,
    /// The conformance guests, suspended at random moments, against uninterrupted twins.
    Model,
}

impl Part {
    pub fn all() -> Vec<Part> {
        Part::value_variants().to_vec()
    }

    pub fn name(self) -> &'static str {
        match self {
            Part::Lint => "lint",
            Part::Unit => "unit",
            Part::ControlPlane => "control-plane",
            Part::BadInput => "bad-input",
            Part::Conformance => "conformance",
            Part::Restart => "restart",
            Part::Torture => "torture",
            Part::Soft => "soft",
            Part::Operating => "operating",
            Part::Traces => "traces",
            Part::ApiServer => "api-server",
            Part::Permissions => "permissions",
            Part::External => "external",
            Part::Hostile => "hostile",
            Part::Network => "network",
            Part::Leases => "leases",
            Part::Model => "model",
        }
    }

    pub fn run(self, report: &mut Report) -> Result<()> {
        match self {
            Part::Lint => lint::run(report),
            Part::Unit => unit(report),
            Part::ControlPlane => control_plane(report),
            Part::BadInput => bad_input(report),
            Part::Conformance => conformance(report),
            Part::Restart => restart(report),
            Part::Torture => torture(report),
            Part::Soft => soft(report),
            Part::Operating => operating(report),
            Part::Traces => traces(report),
            Part::ApiServer => api_server(report),
            Part::Permissions => permissions(report),
            Part::External => external(report),
            Part::Hostile => hostile(report),
            Part::Network => network(report),
            Part::Leases => leases(report),
            Part::Model => model(report),
        }
    }
}

/// `cargo test` with `args`, every test whatever fails before.
fn cargo_test(args: &[&str]) -> std::process::Command {
    let mut cargo = command::cargo();
    cargo.args(["test", "--no-fail-fast", "--release"]).args(args);
    cargo
}

fn unit(report: &mut Report) -> Result<()> {
    cargo_test::run(
        &mut cargo_test(&[
            "--workspace",
            "--lib",
            "--bins",
            "--test",
            "assembled",
            "--test",
            "verbs",
            "--test",
            "suspend",
        ]),
        None,
        report,
    )?;
    cargo_test::run(
        cargo_test(&["--manifest-path", "guest-rust/Cargo.toml"]).env("CARGO_TARGET_DIR", repository::guest_target()),
        None,
        report,
    )?;
    go_test::run(&repository::root().join("guest-go"), &[], &[], report)
}

fn control_plane(report: &mut Report) -> Result<()> {
    if !matches!(setup::control_plane()?, Binaries::Bundled(_)) {
        report.skipped("the bundled control plane: another one was found (KUBEBUILDER_ASSETS or PATH)");
        return Ok(());
    }
    // Vet is part of lint, and would compile all of Kubernetes once more here.
    let args = [&["-vet=off"], &controlplane::TEST_FLAGS[..]].concat();
    go_test::run(&controlplane::source_dir(), &args, &[("CGO_ENABLED", "0")], report)?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "links"]), None, report)
}

fn bad_input(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    // Of the command line, of a host with an API server, and of dependencies.
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "bad_input", "--test", "dependencies"]), None, report)
}

fn conformance(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    let mut test = cargo_test(&["--workspace", "--test", "conformance"]);
    if let Some(reason) = tinygo::missing() {
        test.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    cargo_test::run(&mut test, Some("conformance"), report)
}

fn restart(report: &mut Report) -> Result<()> {
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "restart"]), Some("restart"), report)
}

/// Enough for each phase to be met now and then, and for a minute.
const TORTURE_ROUNDS: u64 = 15;

fn torture(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut torture::kill(TORTURE_ROUNDS), Some("torture"), report)?;
    // Each kind once.
    cargo_test::run(&mut torture::faults(0.0), Some("torture"), report)
}

fn soft(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    let mut test = cargo_test(&["--workspace", "--test", "soft"]);
    match componentize_py::folder(false) {
        Ok(None) => {}
        Ok(Some(folder)) => {
            test.env("PATH", componentize_py::path_with(&folder)?);
        }
        Err(error) => {
            let reason = format!("componentize-py cannot be had: {error:#}");
            test.env("WASMOP_E2E_SKIP_PYTHON", reason.lines().next().unwrap_or_default());
        }
    }
    cargo_test::run(&mut test, Some("soft"), report)
}

fn operating(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    let mut test = cargo_test(&["--workspace", "--test", "operating"]);
    if let Some(reason) = chromium::missing() {
        test.env("WASMOP_E2E_SKIP_BROWSER", reason);
    }
    cargo_test::run(&mut test, Some("operating"), report)
}

fn traces(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "traces"]), Some("traces"), report)
}

fn api_server(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "api_server"]), Some("api-server"), report)
}

fn permissions(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "permissions"]), Some("permissions"), report)
}

fn external(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    let mut test = cargo_test(&["--workspace", "--test", "external"]);
    if let Some(reason) = tinygo::missing() {
        test.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    cargo_test::run(&mut test, Some("external"), report)
}

fn hostile(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "hostile"]), Some("hostile"), report)
}

fn network(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "network"]), Some("network"), report)
}

fn leases(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    setup::control_plane()?;
    cargo_test::run(&mut cargo_test(&["--workspace", "--test", "leases"]), Some("leases"), report)
}

fn model(report: &mut Report) -> Result<()> {
    command::build_with_tests()?;
    let mut test = cargo_test(&["--workspace", "--test", "model"]);
    if let Some(reason) = tinygo::missing() {
        test.env("WASMOP_E2E_SKIP_TINYGO", reason);
    }
    cargo_test::run(&mut test, Some("model"), report)
}
