//! Runs staticcheck, at the version that `xtask/staticcheck/go.mod` pins. Go builds it once and keeps it in its own cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::checks::check;
use super::report::Report;
use crate::{command, repository};

/// Go modules, each for a platform it is compiled for.
///
/// `e2e/controlplane` and `bench/controller-runtime` are missing: staticcheck also analyses what a module imports, and all
/// of Kubernetes takes it 12 minutes of processor time. `go vet` looks at both.
const RUNS: [Run; 3] = [
    Run { module: "guest-go", wasip1: false, args: &[] },
    // Its tests are native. Functions that the host calls look unused: staticcheck does not know `go:wasmexport`.
    Run { module: "guest-go", wasip1: true, args: &["-tests=false", "-checks=inherit,-U1000"] },
    Run { module: "e2e/guests/go", wasip1: true, args: &[] },
];

struct Run {
    module: &'static str,
    wasip1: bool,
    args: &'static [&'static str],
}

/// Adds a row for each run.
pub fn run(report: &mut Report) {
    let program = program();
    for Run { module, wasip1, args } in RUNS {
        let name = format!("staticcheck, {module}{}", if wasip1 { " for wasip1" } else { "" });
        check(report, &name, || {
            let program = program.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let mut staticcheck = Command::new(program);
            staticcheck.args(args).arg("./...").current_dir(repository::root().join(module));
            if wasip1 {
                staticcheck.envs([("GOOS", "wasip1"), ("GOARCH", "wasm")]);
            }
            command::run(&mut staticcheck)
        });
    }
}

fn program() -> Result<PathBuf> {
    let folder = repository::root().join("xtask/staticcheck");
    // With -n it only prints where the program is, once it is built. `go tool` itself cannot run it for another platform.
    let path = command::output(Command::new("go").args(["tool", "-n", "staticcheck"]).current_dir(folder));
    Ok(path.context("staticcheck cannot be built from its Go module")?.trim().into())
}
