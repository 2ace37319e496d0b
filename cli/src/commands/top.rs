use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::top::{DEFAULT_ADDRESS, SortBy, fetch, plain, screen};
use crate::units;

/// Show the controllers of a running host: state, memory, disk, rates and last error.
///
/// On a terminal the table refreshes itself until you press `q`. Otherwise, or with `--once`, it is printed
/// once. The host must run with `--metrics-address`.
#[derive(Debug, Parser)]
pub struct Top {
    /// The host's `--metrics-address`.
    #[arg(long, value_name = "[HOST]:PORT", default_value = DEFAULT_ADDRESS, value_parser = units::parse_address)]
    address: String,

    /// The column to sort by: names ascending, numbers descending.
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t)]
    sort_by: SortBy,

    /// How often the table refreshes.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,

    /// Print the table once and exit.
    #[arg(long)]
    once: bool,

    /// Print no column titles.
    #[arg(long)]
    no_headers: bool,

    /// Print the JSON of `/api/controllers` once.
    #[arg(long, conflicts_with_all = ["once", "no_headers", "sort_by"])]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval =
        units::parse_duration(text).map_err(|problem| format!("{problem}; write it like `500ms` or `1s`"))?;
    if interval < Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(interval) }
}

impl Top {
    pub fn run(self) -> Result<()> {
        if self.json {
            print!("{}", fetch::text(&self.address)?);
            return Ok(());
        }
        let first = fetch::overview(&self.address)?;
        if self.once || !std::io::stdout().is_terminal() {
            print!("{}", plain::table(&first, self.sort_by, !self.no_headers));
            return Ok(());
        }
        screen::show(&self.address, self.interval, self.sort_by, first).context("cannot draw on this terminal")
    }
}
