//! `[limits]` in `wasmop.toml` and in the configuration file.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use wasmop_package::manifest::Limits;

use crate::error::join_help;
use crate::toml_file::value::{Written, from_text, number};
use crate::units;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// A 32-bit linear memory.
const WASM32: u64 = 4 * GIB;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const TEN_MINUTES: u64 = 600 * SECOND;
const YEAR: u64 = 365 * 86_400 * SECOND;
/// A controller runs one step at a time, so one core is all it can use.
const ONE_CORE: u64 = 1000;
const MAX_COUNT: u64 = 1_000_000;

/// The keys of `[limits]`, each with its range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitKeys {
    // At least a stack and the smallest program.
    #[serde(deserialize_with = "size::<_, MIB, WASM32>")]
    memory: Option<u64>,
    #[serde(deserialize_with = "time::<_, MILLISECOND, TEN_MINUTES>")]
    cpu_per_step: Option<u64>,
    #[serde(deserialize_with = "share")]
    cpu_share: Option<u64>,
    #[serde(deserialize_with = "time::<_, SECOND, YEAR>")]
    reconcile_timeout: Option<u64>,
    #[serde(deserialize_with = "count")]
    api_rate: Option<u64>,
    #[serde(deserialize_with = "count")]
    api_burst: Option<u64>,
    #[serde(deserialize_with = "count")]
    api_in_flight: Option<u64>,
    #[serde(deserialize_with = "size::<_, { 64 * KIB }, WASM32>")]
    response: Option<u64>,
    #[serde(deserialize_with = "size::<_, KIB, GIB>")]
    log_rate: Option<u64>,
    #[serde(deserialize_with = "size::<_, MIB, TIB>")]
    disk: Option<u64>,
}

impl LimitKeys {
    /// The limits that are given; the rest is as in `base`.
    pub fn over(&self, base: Limits) -> Limits {
        Limits {
            memory_bytes: self.memory.unwrap_or(base.memory_bytes),
            cpu_per_step_ns: self.cpu_per_step.unwrap_or(base.cpu_per_step_ns),
            cpu_share_millis: self.cpu_share.unwrap_or(base.cpu_share_millis),
            reconcile_timeout_ns: self.reconcile_timeout.unwrap_or(base.reconcile_timeout_ns),
            api_requests_per_second: self.api_rate.unwrap_or(base.api_requests_per_second),
            api_burst: self.api_burst.unwrap_or(base.api_burst),
            api_in_flight: self.api_in_flight.unwrap_or(base.api_in_flight),
            response_bytes: self.response.unwrap_or(base.response_bytes),
            log_bytes_per_second: self.log_rate.unwrap_or(base.log_bytes_per_second),
            disk_bytes: self.disk.unwrap_or(base.disk_bytes),
        }
    }
}

/// A number of bytes.
fn size<'de, D: Deserializer<'de>, const LEAST: u64, const MOST: u64>(d: D) -> Result<Option<u64>, D::Error> {
    let read = |text: &str| in_range(text, units::parse_bytes(text)?, LEAST..=MOST, units::exact_bytes);
    from_text(d, units::SIZE_HELP, read).map(Some)
}

/// A time in nanoseconds.
fn time<'de, D: Deserializer<'de>, const LEAST: u64, const MOST: u64>(d: D) -> Result<Option<u64>, D::Error> {
    let read = |text: &str| {
        let nanoseconds = u64::try_from(units::parse_duration(text)?.as_nanos()).unwrap_or(u64::MAX);
        in_range(text, nanoseconds, LEAST..=MOST, |bound| units::exact_duration(Duration::from_nanos(bound)))
    };
    from_text(d, Duration::HELP, read).map(Some)
}

/// A part of a core, in thousandths.
fn share<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    let show = |bound| if bound == ONE_CORE { "1".to_owned() } else { format!("{bound}m") };
    let read = |text: &str| in_range(text, units::parse_cpu(text)?, 1..=ONE_CORE, show);
    from_text(d, "write thousandths of a core, like `500m`, or a part, like `0.5`", read).map(Some)
}

fn count<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    number(d, 1..=MAX_COUNT, &format!("give between 1 and {MAX_COUNT}"))
}

fn in_range(text: &str, value: u64, range: RangeInclusive<u64>, show: impl Fn(u64) -> String) -> Result<u64, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    let help = format!("give between {} and {}", show(*range.start()), show(*range.end()));
    Err(join_help(&format!("`{text}` is out of range"), &help))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::toml_file::Document;
    use crate::toml_file::known_keys::known_keys;

    #[derive(Debug, Deserialize)]
    struct File {
        limits: LimitKeys,
    }

    fn parsed(text: &str) -> Result<Limits, String> {
        let document = Document::parse(Path::new("wasmop.toml"), text, None, "docs/wasmop-toml.md").expect("TOML");
        let file: Result<File, _> = document.read();
        file.map(|file| file.limits.over(Limits::default())).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_limit_of_a_package_has_a_key() {
        assert_eq!(known_keys::<LimitKeys>(), Limits::default().by_key().map(|(key, _)| key).into());
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
    fn an_error_names_the_key_and_the_line() {
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
