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

use crate::setup;

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
