//! A table of limits, `[limits]`, as checked values.

use std::ops::RangeInclusive;
use std::time::Duration;

use wasmop_package::manifest::Limits;

use crate::error::Failure;
use crate::toml_table::Table;
use crate::units;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 86_400;

/// Reads what the table gives; the rest is as in `limits`.
pub fn read(table: &Table<'_>, mut limits: Limits) -> Result<Limits, Failure> {
    table.only(&limits.by_key().map(|(key, _)| key))?;
    // Room for a stack and the smallest program, and what a 32-bit linear memory can be.
    size(table, "memory", &mut limits.memory_bytes, MIB..=4 * GIB, "1MiB and 4GiB")?;
    time(table, "cpu-per-step", &mut limits.cpu_per_step_ns, (Duration::from_millis(1), 600), "1ms and 10m")?;
    share(table, "cpu-share", &mut limits.cpu_share_millis)?;
    time(
        table,
        "reconcile-timeout",
        &mut limits.reconcile_timeout_ns,
        (Duration::from_secs(1), 365 * DAY),
        "1s and 1y",
    )?;
    count(table, "api-rate", &mut limits.api_requests_per_second)?;
    count(table, "api-burst", &mut limits.api_burst)?;
    count(table, "api-in-flight", &mut limits.api_in_flight)?;
    size(table, "response", &mut limits.response_bytes, 64 * KIB..=4 * GIB, "64KiB and 4GiB")?;
    size(table, "log-rate", &mut limits.log_bytes_per_second, KIB..=GIB, "1KiB and 1GiB")?;
    size(table, "disk", &mut limits.disk_bytes, MIB..=1024 * GIB, "1MiB and 1TiB")?;
    Ok(limits)
}

fn size(
    table: &Table<'_>,
    key: &str,
    limit: &mut u64,
    range: RangeInclusive<u64>,
    between: &str,
) -> Result<(), Failure> {
    let Some(text) = table.string(key)? else { return Ok(()) };
    let bytes = units::parse_bytes(text)
        .map_err(|problem| table.bad_value(key, problem, "write a number and a unit, like `128MiB`"))?;
    if !range.contains(&bytes) {
        return Err(out_of_range(table, key, text, between));
    }
    *limit = bytes;
    Ok(())
}

fn time(
    table: &Table<'_>,
    key: &str,
    limit: &mut u64,
    (least, most_seconds): (Duration, u64),
    between: &str,
) -> Result<(), Failure> {
    let Some(text) = table.string(key)? else { return Ok(()) };
    let time = units::parse_duration(text)
        .map_err(|problem| table.bad_value(key, problem, "write a number and a unit, like `300ms` or `1s`"))?;
    if !(least..=Duration::from_secs(most_seconds)).contains(&time) {
        return Err(out_of_range(table, key, text, between));
    }
    *limit = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(())
}

fn share(table: &Table<'_>, key: &str, limit: &mut u64) -> Result<(), Failure> {
    let Some(text) = table.string(key)? else { return Ok(()) };
    let millis = units::parse_cpu(text).map_err(|problem| {
        table.bad_value(key, problem, "write thousandths of a core, like `500m`, or a part, like `0.5`")
    })?;
    // A controller runs one step at a time, so one core is all it can use.
    if !(1..=1000).contains(&millis) {
        return Err(out_of_range(table, key, text, "1m and 1"));
    }
    *limit = millis;
    Ok(())
}

fn count(table: &Table<'_>, key: &str, limit: &mut u64) -> Result<(), Failure> {
    let Some(number) = table.integer(key)? else { return Ok(()) };
    match u64::try_from(number) {
        Ok(number @ 1..=1_000_000) => *limit = number,
        _ => return Err(out_of_range(table, key, &number.to_string(), "1 and 1000000")),
    }
    Ok(())
}

fn out_of_range(table: &Table<'_>, key: &str, given: &str, between: &str) -> Failure {
    table.bad_value(key, format!("`{given}` is out of range"), format!("give between {between}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::toml_table::Source;

    fn parsed(text: &str) -> Result<Limits, String> {
        let source = Source { file: Path::new("wasmop.toml"), text };
        let document = DeTable::parse(text).expect("TOML");
        let table = Table::top(source, "", document.get_ref()).table("limits", "[limits]").expect("a table");
        read(&table.expect("is there"), Limits::default()).map_err(|failure| format!("{failure}"))
    }

    #[test]
    fn every_key_sets_its_limit_and_no_other() {
        for (line, expected) in [
            ("memory = \"64MiB\"", Limits { memory_bytes: 64 << 20, ..Limits::default() }),
            ("cpu-per-step = \"300ms\"", Limits { cpu_per_step_ns: 300_000_000, ..Limits::default() }),
            ("cpu-share = \"50m\"", Limits { cpu_share_millis: 50, ..Limits::default() }),
            ("cpu-share = \"0.25\"", Limits { cpu_share_millis: 250, ..Limits::default() }),
            ("reconcile-timeout = \"10m\"", Limits { reconcile_timeout_ns: 600_000_000_000, ..Limits::default() }),
            ("api-rate = 5", Limits { api_requests_per_second: 5, ..Limits::default() }),
            ("api-burst = 6", Limits { api_burst: 6, ..Limits::default() }),
            ("api-in-flight = 7", Limits { api_in_flight: 7, ..Limits::default() }),
            ("response = \"1MiB\"", Limits { response_bytes: 1 << 20, ..Limits::default() }),
            ("log-rate = \"10KiB\"", Limits { log_bytes_per_second: 10 << 10, ..Limits::default() }),
            ("disk = \"10MiB\"", Limits { disk_bytes: 10 << 20, ..Limits::default() }),
        ] {
            assert_eq!(parsed(&format!("[limits]\n{line}")), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, named) in [
            ("memory = \"1KiB\"", "`memory`"),
            ("cpu-share = \"2\"", "`cpu-share`"),
            ("cpu-share = \"half\"", "`cpu-share`"),
            ("reconcile-timeout = \"1ms\"", "`reconcile-timeout`"),
            ("api-rate = 0", "`api-rate`"),
            ("api-rate = \"5\"", "`api-rate`"),
            ("api-burst = -1", "`api-burst`"),
            ("log-rate = \"1B\"", "`log-rate`"),
            ("disc = \"10MiB\"", "`disc`"),
        ] {
            let error = parsed(&format!("[limits]\n{line}")).expect_err(line);
            assert!(error.contains(named) && error.contains("wasmop.toml:2"), "{line}: {error}");
        }
    }
}
