//! Checks dependencies against `deny.toml`, and that each is used.

use std::path::Path;
use std::process::Command;

use super::checks::check;
use super::report::Report;
use crate::cargo_tool::{CargoTool, DENY, MACHETE};
use crate::{command, repository};

/// Workspaces whose dependencies reach a user. Each has a lock file.
const WORKSPACES: [&str; 2] = ["Cargo.toml", "guest-rust/Cargo.toml"];

/// Findings about `deny.toml` itself, which is shared: an entry that one of the workspaces does not need.
const ABOUT_UNUSED_ENTRIES: [&str; 3] = ["license-exception-not-encountered", "unmatched-skip", "unnecessary-skip"];

/// Adds a row for each check, or says why it is skipped.
pub fn run(report: &mut Report) {
    match DENY.find() {
        Ok(deny) => {
            for manifest in WORKSPACES {
                check(report, &format!("cargo deny, {manifest}"), || {
                    // It reads the licences in the sources, also of crates for other systems, which no build downloads.
                    let mut fetch = command::cargo();
                    command::run(fetch.args(["fetch", "--quiet", "--locked", "--manifest-path", manifest]))?;
                    command::run(&mut deny_check(&deny, manifest, &["--offline"], &["licenses", "bans", "sources"]))
                });
            }
            advisories(&deny, report);
        }
        Err(reason) => report.skipped(format!("cargo deny: {reason}")),
    }
    match MACHETE.find() {
        Ok(machete) => check(report, "cargo machete", || {
            command::run(CargoTool::command(&machete).args(["--skip-target-dir", "."]))
        }),
        Err(reason) => report.skipped(format!("cargo machete: {reason}")),
    }
}

/// Advisories are compared with a database that is fetched from its own repository.
fn advisories(deny: &Path, report: &mut Report) {
    let fetched = command::output(CargoTool::command(deny).args(["fetch", "db"]));
    if let Err(error) = fetched {
        report.skipped(format!("cargo deny, advisories: {}", why_not_fetched(&format!("{error:#}"))));
        return;
    }
    for manifest in WORKSPACES {
        check(report, &format!("cargo deny, advisories of {manifest}"), || {
            command::run(&mut deny_check(deny, manifest, &[], &["advisories"]))
        });
    }
}

/// `flags` are cargo-deny's own; `which` are the checks.
fn deny_check(deny: &Path, manifest: &str, flags: &[&str], which: &[&str]) -> Command {
    let mut command = CargoTool::command(deny);
    command.args(["--manifest-path", manifest, "--locked"]).args(flags);
    command.arg("--config").arg(repository::root().join("deny.toml")).arg("check").arg("--hide-inclusion-graph");
    if manifest != WORKSPACES[0] {
        command.args(ABOUT_UNUSED_ENTRIES.iter().flat_map(|finding| ["--allow", finding]));
    }
    command.args(which);
    command
}

/// The line of git that says why, out of all that cargo-deny printed.
fn why_not_fetched(output: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix("fatal: "));
    let why = line.or_else(|| output.lines().next()).unwrap_or_default();
    format!("the database cannot be fetched ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_for_a_missing_database_is_gits_own() {
        for (output, expected) in [
            (
                "`cargo-deny fetch db` failed (exit status: 1)\n[ERROR] failed to fetch\nCloning into 'db'...\nfatal: no route",
                "the database cannot be fetched (no route)",
            ),
            ("cargo-deny cannot be started\nhelp: x", "the database cannot be fetched (cargo-deny cannot be started)"),
        ] {
            assert_eq!(why_not_fetched(output), expected);
        }
    }

    #[test]
    fn only_the_workspace_of_the_policy_reports_entries_that_are_unused() {
        let words = |manifest| {
            let command = deny_check(Path::new("cargo-deny"), manifest, &["--offline"], &["bans"]);
            command::display(&command)
        };
        assert!(!words(WORKSPACES[0]).contains("--allow"));
        assert!(words(WORKSPACES[1]).contains("--allow unmatched-skip"), "{}", words(WORKSPACES[1]));
        assert!(words(WORKSPACES[1]).ends_with(" bans"));
    }
}
