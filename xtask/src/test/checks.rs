//! A check that counts as one test.

use anyhow::Result;

use super::report::Report;

/// Runs the check and prints what became of it.
pub fn check(report: &mut Report, name: &str, check: impl FnOnce() -> Result<()>) {
    match check() {
        Ok(()) => {
            println!("ok: {name}");
            report.passed(1);
        }
        Err(error) => {
            println!("FAILED: {name}: {error:#}");
            report.failed(format!("{name}: {error:#}"));
        }
    }
}
