//! The results of a part of the tests, and of all parts.

use std::process::ExitCode;

/// Counts, and the names of tests that did not pass.
pub struct Report {
    part: &'static str,
    passed: usize,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Report {
    /// No results yet.
    pub fn new(part: &'static str) -> Report {
        Report { part, passed: 0, failures: Vec::new(), skips: Vec::new() }
    }

    /// Adds tests that passed.
    pub fn passed(&mut self, count: usize) {
        self.passed += count;
    }

    /// Adds a test that failed, with the reason.
    pub fn failed(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    /// Adds a test that was skipped, with the reason.
    pub fn skipped(&mut self, what: impl Into<String>) {
        self.skips.push(what.into());
    }

    /// Prints a line for each test that was skipped or failed.
    pub fn print_details(&self) {
        for (label, items) in [("skipped", &self.skips), ("failed", &self.failures)] {
            for item in items {
                println!("{label}: {}", item.replace('\n', "\n    "));
            }
        }
    }

    /// The line of counts.
    pub fn line(&self) -> String {
        counts(self.part, self.passed, self.failures.len(), self.skips.len())
    }
}

fn counts(name: &str, passed: usize, failed: usize, skipped: usize) -> String {
    format!("{name}: {passed} passed, {failed} failed, {skipped} skipped")
}

/// Parses a line of counts, of this program or another: passed, failed, skipped.
pub fn parse_counts(line: &str, name: &str) -> Option<(usize, usize, usize)> {
    let rest = line.strip_prefix(name)?.strip_prefix(": ")?;
    let mut numbers = rest
        .split(", ")
        .zip(["passed", "failed", "skipped"])
        .map(|(item, unit)| item.strip_suffix(unit)?.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Prints a summary that ends with the total on a line of its own.
pub fn summary(reports: &[Report]) -> ExitCode {
    println!("\n=== summary ===");
    for report in reports {
        println!("{}", report.line());
    }
    let failures =
        || reports.iter().flat_map(|report| report.failures.iter().map(move |failure| (report.part, failure)));
    for (part, failure) in failures() {
        println!("failed: {part}: {}", failure.lines().next().unwrap_or_default());
    }
    for report in reports {
        for skip in &report.skips {
            println!("skipped: {}: {skip}", report.part);
        }
    }
    let failed = failures().count();
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>();
    println!("{}", counts("total", sum(|r| r.passed), failed, sum(|r| r.skips.len())));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counts_can_be_parsed() {
        let mut report = Report::new("unit");
        report.passed(3);
        report.failed("a");
        report.skipped("b: no TinyGo");
        assert_eq!(report.line(), "unit: 3 passed, 1 failed, 1 skipped");
        assert_eq!(parse_counts(&report.line(), "unit"), Some((3, 1, 1)));
        assert_eq!(parse_counts("unit: 3 passed", "unit"), None);
        assert_eq!(parse_counts("other: 3 passed, 1 failed, 1 skipped", "unit"), None);
    }
}
