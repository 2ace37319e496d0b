//! Runs `cargo test` or a test program that prints the same lines, and counts the results.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::Result;

use super::report::{Report, parse_counts};
use crate::command;

/// Runs `command`, passes its output on, and counts its tests into `report`. A test program without cargo's harness prints a
/// line of counts that begins with `own_line`.
///
/// # Errors
///
/// It cannot be started.
pub fn run(command: &mut Command, own_line: Option<&str>, report: &mut Report) -> Result<()> {
    println!("$ {}", command::display(command));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| command::cannot_start(command, &error))?;
    let mut counter = Counter::default();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line?;
        println!("{line}");
        counter.line(&line, own_line);
    }
    let status = child.wait()?;
    if !status.success() && counter.failures.is_empty() {
        counter.failures.push(format!("`{}` failed ({status})", command::display(command)));
    }
    report.passed(counter.passed);
    counter.skips.into_iter().for_each(|skip| report.skipped(skip));
    counter.failures.into_iter().for_each(|failure| report.failed(failure));
    Ok(())
}

#[derive(Default)]
struct Counter {
    passed: usize,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Counter {
    fn line(&mut self, line: &str, own_line: Option<&str>) {
        if let Some((passed, _, _)) = own_line.and_then(|name| parse_counts(line, name)) {
            // Earlier lines named what failed and what was skipped.
            self.passed += passed;
        } else if let Some(failure) = line.strip_prefix("failed: ") {
            self.failures.push(failure.to_owned());
        } else if let Some(skip) = line.strip_prefix("skipped: ") {
            self.skips.push(skip.to_owned());
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            match result.split_once(',').map_or((result, ""), |(result, reason)| (result, reason.trim())) {
                ("ok", _) => self.passed += 1,
                ("FAILED", _) => self.failures.push(name.to_owned()),
                ("ignored", "") => self.skips.push(format!("{name}: ignored")),
                ("ignored", reason) => self.skips.push(format!("{name}: {reason}")),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargos_harness_are_counted() {
        let mut counter = Counter::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs root",
            "test a::e - should panic ... ok",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            counter.line(line, None);
        }
        assert_eq!(
            (counter.passed, counter.failures, counter.skips),
            (2, vec!["a::c".into()], vec!["a::d: needs root".into()])
        );
    }

    #[test]
    fn the_lines_of_a_program_with_its_own_harness_are_counted() {
        let mut counter = Counter::default();
        for line in
            ["skipped: create, tinygo: no TinyGo", "failed: panic, go: x", "conformance: 7 passed, 1 failed, 1 skipped"]
        {
            counter.line(line, Some("conformance"));
        }
        assert_eq!((counter.passed, counter.failures.len(), counter.skips.len()), (7, 1, 1));
    }
}
