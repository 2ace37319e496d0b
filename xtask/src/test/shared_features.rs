//! Checks that `-p PACKAGE` turns on the same features of dependencies as `--workspace`, so that both use the same artefacts.
//!
//! Packages that depend on `wasmop-features` promise it, and the program, which has all features anyway.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{command, programs};

const PROGRAM: &str = "wasmop-cli";
const PROMISE: &str = "wasmop-features";
/// Builds of the workspace leave the simulation out. It stops tokio's clock, so it has a tokio of its own. Crates that
/// do not depend on tokio are shared.
const SIMULATION: &str = "wasmop-simulation";
const OF_SIMULATION: [&str; 2] = [SIMULATION, "tokio"];

/// Checks all of them.
///
/// # Errors
///
/// Names crates whose features differ.
pub fn check() -> Result<()> {
    let workspace = features(&programs::WORKSPACE)?;
    let mut problems = Vec::new();
    for package in promising(&programs::metadata()?) {
        let alone = features(&["--package", &package])?;
        let differing = alone.difference(&workspace).filter(|crate_| !may_differ(&package, crate_));
        problems.extend(differing.map(|crate_| format!("{package}: {crate_}")));
    }
    if !problems.is_empty() {
        bail!(
            "features that are off without the rest of the workspace:\n{}\nhelp: ask for them in xtask/features/Cargo.toml",
            problems.join("\n")
        );
    }
    Ok(())
}

fn promising(metadata: &Value) -> Vec<String> {
    let depends = |package: &Value| {
        package["dependencies"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == PROMISE))
    };
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let names = packages.filter(|package| package["name"] == PROGRAM || depends(package));
    names.filter_map(|package| Some(package["name"].as_str()?.to_owned())).collect()
}

/// Whether a package may build a crate with features of its own. `crate_`: a line of [`features`].
fn may_differ(package: &str, crate_: &str) -> bool {
    package == SIMULATION && crate_.split(' ').next().is_some_and(|name| OF_SIMULATION.contains(&name))
}

/// A line for each crate of a build, with its features.
fn features(selection: &[&str]) -> Result<BTreeSet<String>> {
    let mut tree = command::cargo();
    tree.args(["tree", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p} [{f}]"]);
    let output = command::output(tree.args(selection))?;
    // A crate that was shown before ends with a mark.
    let crates = output.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty());
    Ok(crates.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_packages_that_depend_on_the_promise_are_checked() {
        let metadata = serde_json::json!({"packages": [
            {"name": "wasmop-cli", "dependencies": [{"name": "clap"}]},
            {"name": "wasmop-host", "dependencies": [{"name": "clap"}, {"name": "wasmop-features"}]},
            {"name": "wasmop-policy", "dependencies": []},
        ]});
        assert_eq!(promising(&metadata), ["wasmop-cli", "wasmop-host"]);
    }

    #[test]
    fn only_the_simulation_has_a_tokio_of_its_own() {
        for (package, crate_, expected) in [
            ("wasmop-simulation", "tokio v1.54.1 [test-util]", true),
            ("wasmop-simulation", "wasmop-simulation v0.1.0 (/w) []", true),
            ("wasmop-simulation", "tokio-util v0.7.0 []", false),
            ("wasmop-host", "tokio v1.54.1 [test-util]", false),
        ] {
            assert_eq!(may_differ(package, crate_), expected, "{package}: {crate_}");
        }
    }
}
