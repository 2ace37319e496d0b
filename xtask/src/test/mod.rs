//! `cargo xtask test`: parts in, one line a part and a total out.

mod cargo_test;
mod go_test;
mod licences;
mod lint;
mod parts;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use parts::Part;
use report::Report;

use crate::{setup, tinygo};

#[derive(Args)]
pub struct Test {
    /// Run this part alone; may be given more than once.
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Part>,
}

impl Test {
    pub fn run(self) -> Result<ExitCode> {
        setup::toolchain()?;
        let parts = if self.only.is_empty() { Part::all() } else { self.only };
        let mut reports = Vec::new();
        for part in parts {
            println!("\n=== {} ===", part.name());
            let mut report = Report::new(part.name());
            if let Err(error) = part.run(&mut report) {
                report.failed(format!("{error:#}"));
            }
            println!();
            report.print_details();
            println!("{}", report.line());
            reports.push(report);
        }
        Ok(report::summary(&reports))
    }
}

/// Why there is no TinyGo, if there is none. On a CI machine it is built, elsewhere only looked
/// for: building it installs packages.
fn missing_tinygo() -> Option<String> {
    if tinygo::find().is_some() {
        return None;
    }
    if std::env::var_os("CI").is_none_or(|value| value.is_empty()) {
        return Some("TinyGo is neither on PATH nor built (cargo xtask setup --tinygo)".into());
    }
    tinygo::ensure(crate::repository::root())
        .err()
        .map(|error| format!("TinyGo cannot be had: {}", format!("{error:#}").lines().next().unwrap_or_default()))
}
