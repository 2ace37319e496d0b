//! `cargo xtask test`: runs parts of the test suite, and prints a line for each and a total.

mod cargo_test;
mod checks;
mod dependency_policy;
mod go_test;
mod lint;
mod parts;
mod report;
mod shared_features;
mod staticcheck;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;

use parts::{Build, PARTS, Part};
use report::Report;

use crate::setup;

#[derive(Args)]
pub struct Test {
    /// Run only this part; repeatable
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PARTS.iter().map(|part| part.name)))]
    only: Vec<String>,
    /// List the parts with their usual duration, and run none
    #[arg(long, conflicts_with = "only")]
    list: bool,
    /// Begin no further part after this time; the remaining parts count as skipped
    #[arg(long, value_name = "MINUTES", env = "WASMOP_TEST_STOP_AFTER")]
    stop_after: Option<u64>,
}

impl Test {
    /// Runs the parts, or lists them.
    ///
    /// # Errors
    ///
    /// The toolchain is incomplete. A part that fails is no error, but an exit code.
    pub fn run(self) -> Result<ExitCode> {
        if self.list {
            PARTS.iter().for_each(|part| println!("{}", list_line(part)));
            return Ok(ExitCode::SUCCESS);
        }
        setup::toolchain()?;
        let (parts, build): (Vec<&Part>, _) = if self.only.is_empty() {
            (PARTS.iter().collect(), Build::Everything)
        } else {
            (self.only.iter().filter_map(|name| parts::find(name)).collect(), Build::Needed)
        };
        let (begun, limit) = (Instant::now(), self.stop_after.map(|minutes| Duration::from_secs(60 * minutes)));
        let reports = parts.into_iter().map(|part| match limit {
            Some(limit) if begun.elapsed() > limit => not_begun(part, limit),
            _ => run(part, build),
        });
        Ok(report::summary(&reports.collect::<Vec<_>>()))
    }
}

fn not_begun(part: &Part, limit: Duration) -> Report {
    let mut report = Report::new(part.name);
    report.skipped(format!("not begun, since the run took more than {} minutes", limit.as_secs() / 60));
    report
}

fn run(part: &Part, build: Build) -> Report {
    println!("\n=== {} ===", part.name);
    let begun = Instant::now();
    let mut report = Report::new(part.name);
    if let Err(error) = part.run(build, &mut report) {
        report.failed(format!("{error:#}"));
    }
    println!();
    report.print_details();
    println!("{} took {:.0} s", part.name, begun.elapsed().as_secs_f64());
    println!("{}", report.line());
    report
}

fn list_line(part: &Part) -> String {
    let seconds = part.seconds.map_or("-".to_owned(), |seconds| format!("{seconds} s"));
    format!("{:<14} {seconds:>6}  {}", part.name, part.about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_begun_counts_as_skipped() {
        let part = parts::find("restart").expect("a part");
        assert_eq!(not_begun(part, Duration::from_secs(4200)).line(), "restart: 0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_part_is_listed_with_its_name_duration_and_subject() {
        let part = parts::find("restart").expect("a part");
        assert_eq!(
            list_line(part),
            "restart          15 s  a host of 1,000 controllers restarts and reconciles what changed"
        );
    }
}
