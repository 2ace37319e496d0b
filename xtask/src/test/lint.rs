//! Formatting, static analysis, documentation and the policy for dependencies. Each check counts as one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use wasmop_testbed::controlplane::{self, Binaries};

use super::checks::check;
use super::report::Report;
use super::{dependency_policy, shared_features, staticcheck};
use crate::{command, repository, setup};

/// Rust workspaces besides the root one.
const GUEST_CRATES: [&str; 2] = ["guest-rust/Cargo.toml", "e2e/guests/rust/Cargo.toml"];

/// Go modules that are quick to compile, natively and for WASI. The tests of `guest-go` are native, and `go vet` looks at
/// tests, so for WASI that module is only built.
const GO_CHECKS: [(&str, &str, Environment); 4] = [
    ("guest-go", "vet", &[]),
    ("guest-go", "build", &WASIP1),
    ("e2e/guests/go", "vet", &[]),
    ("e2e/guests/go", "vet", &WASIP1),
];
type Environment = &'static [(&'static str, &'static str)];
const WASIP1: [(&str, &str); 2] = [("GOOS", "wasip1"), ("GOARCH", "wasm")];

/// Runs all checks.
///
/// # Errors
///
/// The control plane, whose sources are checked, cannot be found or built.
pub fn run(report: &mut Report) -> Result<()> {
    formatting(report);
    go(report)?;
    dependency_policy::run(report);
    check(report, "shared features", shared_features::check);
    rust(report);
    Ok(())
}

fn formatting(report: &mut Report) {
    check(report, "cargo fmt", || command::run(command::cargo().args(["fmt", "--all", "--check"])));
    for manifest in GUEST_CRATES {
        check(report, &format!("cargo fmt, {manifest}"), || {
            command::run(command::cargo().args(["fmt", "--check", "--manifest-path", manifest]))
        });
    }
    check(report, "gofmt", gofmt);
}

fn gofmt() -> Result<()> {
    let root = repository::root();
    let tracked = command::output(Command::new("git").args(["ls-files", "*.go"]).current_dir(root))?;
    let files: Vec<PathBuf> = tracked.lines().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect();
    let unformatted = command::output(Command::new("gofmt").arg("-l").args(&files).current_dir(Path::new(root)))?;
    if !unformatted.trim().is_empty() {
        bail!("not formatted, run gofmt -w on:\n{}", unformatted.trim());
    }
    Ok(())
}

fn go(report: &mut Report) -> Result<()> {
    for (module, verb, target) in GO_CHECKS {
        let what = format!("go {verb}, {module}{}", if target.is_empty() { "" } else { " for wasip1" });
        check(report, &what, || {
            let mut go = Command::new("go");
            go.args([verb, "./..."]).current_dir(repository::root().join(module)).envs(target.iter().copied());
            command::run(&mut go)
        });
    }
    staticcheck::run(report);
    match setup::control_plane()? {
        Binaries::Bundled(_) => {
            // Both import Kubernetes' own packages, which are compiled once.
            let twin = repository::root().join("bench/controller-runtime");
            for (module, source) in
                [("e2e/controlplane", controlplane::source_dir()), ("bench/controller-runtime", twin)]
            {
                check(report, &format!("go vet, {module}"), || {
                    let mut vet = Command::new("go");
                    vet.arg("vet").args(controlplane::TEST_FLAGS).arg("./...").current_dir(source);
                    command::run(vet.env("CGO_ENABLED", "0"))
                });
            }
        }
        Binaries::Separate { .. } => report.skipped("go vet, e2e/controlplane: another control plane was found"),
    }
    Ok(())
}

/// In the release profile, like all builds, so that build scripts and macros are compiled once. Checks make no programs, so
/// they may include the simulation and its feature of tokio.
fn rust(report: &mut Report) {
    let release = |verb: &str, args: &[&str]| {
        let mut cargo = command::cargo();
        cargo.args([verb, "--quiet", "--release"]).args(args);
        cargo
    };
    check(report, "cargo clippy", || {
        command::run(&mut release("clippy", &["--workspace", "--all-targets", "--", "--deny", "warnings"]))
    });
    check(report, "cargo clippy, guest-rust", || {
        let mut clippy =
            release("clippy", &["--all-targets", "--manifest-path", GUEST_CRATES[0], "--", "--deny", "warnings"]);
        command::run(clippy.env("CARGO_TARGET_DIR", repository::guest_target()))
    });
    check(report, "cargo doc", || {
        let mut doc = release("doc", &["--workspace", "--no-deps"]);
        command::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    });
}
