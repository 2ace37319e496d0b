//! How values of other crates are written in TOML files, and the remedy for a wrong one.

use std::net::IpAddr;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;
use wasmop_core::service_account::ServiceAccount;
use wasmop_package::external::HostPattern;
use wasmop_policy::Policy;
use wasmop_snapshot::Durability;

use crate::logging::LogFormat;
use crate::toml_file::value::Written;
use crate::units;

/// Types that are written in the format of their `FromStr`.
macro_rules! written_as_parsed {
    ($($Type:ty: $help:literal),* $(,)?) => {
        $(impl Written for $Type {
            const HELP: &'static str = $help;

            fn parse(text: &str) -> Result<$Type, String> {
                text.parse().map_err(|error: <$Type as std::str::FromStr>::Err| error.to_string())
            }
        })*
    };
}

written_as_parsed! {
    Policy: "write `adaptive`, `immediate`, `after=1s` or `never`",
    Durability: "write `event`, `interval=SECONDS` or `none`",
    ServiceAccount: "write it as NAMESPACE/NAME",
    HostPattern: "write it like `https://api.example.com`",
}

impl Written for Duration {
    const HELP: &'static str = "write a number and a unit, like `300ms` or `15s`";

    fn parse(text: &str) -> Result<Duration, String> {
        units::parse_duration(text)
    }
}

impl Written for LogFormat {
    const HELP: &'static str = "write `text` or `json`";

    fn parse(text: &str) -> Result<LogFormat, String> {
        LogFormat::from_str(text, false).map_err(|_| format!("`{text}` is not a log format"))
    }
}

impl Written for LevelFilter {
    const HELP: &'static str = "write `off`, `error`, `warn`, `info`, `debug` or `trace`";

    fn parse(text: &str) -> Result<LevelFilter, String> {
        let is_name = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
        text.parse().ok().filter(|_| is_name).ok_or_else(|| format!("`{text}` is not a log level"))
    }
}

impl Written for IpNet {
    const HELP: &'static str = "write a range like `10.96.0.0/12`, without bits after the prefix, or an address";

    fn parse(text: &str) -> Result<IpNet, String> {
        let range = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let is_exact = |range: &IpNet| range.trunc() == *range;
        range.filter(is_exact).ok_or_else(|| format!("`{text}` is no range of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_are_lower_case_names() {
        for level in ["off", "error", "warn", "info", "debug", "trace"] {
            assert_eq!(LevelFilter::parse(level).unwrap().to_string(), level);
        }
        for text in ["", "DEBUG", "3", "verbose"] {
            assert!(LevelFilter::parse(text).is_err(), "{text}");
        }
    }
}
