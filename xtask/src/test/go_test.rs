//! Runs `go test -json` and counts its events.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::Value;

use super::report::Report;
use crate::command;

/// Runs the tests of the module in `dir`, passes their output on, and counts them into `report`.
///
/// # Errors
///
/// Go cannot be started.
pub fn run(dir: &Path, args: &[&str], environment: &[(&str, &str)], report: &mut Report) -> Result<()> {
    let mut command = Command::new("go");
    command.args(["test", "-json"]).args(args).arg("./...").current_dir(dir).envs(environment.iter().copied());
    println!("$ (cd {}; {})", dir.display(), command::display(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| command::cannot_start(&command, &error))?;
    let mut failures = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let event: Value = serde_json::from_str(&line?)?;
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let test = format!("{} {}", text("Package"), text("Test"));
        match (text("Action"), text("Test").is_empty()) {
            ("pass", false) => report.passed(1),
            ("fail", false) => failures.push(test),
            ("skip", false) => report.skipped(format!("{test}: skipped by the test")),
            // A package that does not compile fails without any test.
            ("fail", true) if !failures.iter().any(|failure| failure.starts_with(text("Package"))) => {
                failures.push(test)
            }
            ("output" | "build-output", _) => print!("{}", text("Output")),
            _ => {}
        }
    }
    let status = child.wait()?;
    if !status.success() && failures.is_empty() {
        failures.push(format!("`{}` failed ({status})", command::display(&command)));
    }
    failures.into_iter().for_each(|failure| report.failed(failure));
    Ok(())
}
