//! Parses byte sizes (`128MiB`), durations (`300ms`), parts of a core and addresses. Errors are one-line problems.

use std::time::Duration;

// `after=DURATION` of a policy has the same parser. jiff's `Span` and humantime take more: `1 day`, `P1D`, `1h 30m`.
pub use wasmop_policy::parse_duration;

/// The remedy for a size that is wrong.
pub const SIZE_HELP: &str = "write a number and a unit, like `64MiB`";

// Not bytesize: it takes a number without a unit, decimal units (`12MB`) and fractions, which are mistakes here.
const BYTE_UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    // As in Kubernetes' quantities.
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a size such as `64MiB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large")),
        _ => Err(format!("`{text}` is not a size in bytes")),
    }
}

/// Reads a part of a core in thousandths, in Kubernetes' format: `500m` or `0.5`.
pub fn parse_cpu(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a part of a core");
    match split(text) {
        (number, "m") => number.parse().map_err(|_| bad()),
        (number, "") => {
            let cores: f64 = number.parse().map_err(|_| bad())?;
            Ok((cores * 1000.0).round() as u64)
        }
        _ => Err(bad()),
    }
}

/// Reads an address to listen at: `HOST:PORT`, `:PORT`, or `PORT`, which means `:PORT`.
pub fn parse_address(text: &str) -> Result<String, String> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match text.rsplit_once(':') {
        None if is_port(text) => Ok(format!(":{text}")),
        Some((_, port)) if is_port(port) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not an address; write HOST:PORT, :PORT or PORT, like `127.0.0.1:8080`")),
    }
}

/// A size in the largest unit that divides it, `64KiB`.
pub fn exact_bytes(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let (unit, factor) = units.into_iter().find(|(_, factor)| bytes.is_multiple_of(*factor)).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// A duration in the largest unit that divides it, `10m`.
pub fn exact_duration(duration: Duration) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let millis = duration.as_millis();
    let (unit, factor) = units.into_iter().find(|(_, factor)| millis.is_multiple_of(*factor)).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// Splits a text into its leading number and the rest.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_core_are_thousandths_or_a_number() {
        for (text, millis) in [("500m", 500), ("0.5", 500), ("1", 1000), ("0.0004", 0)] {
            assert_eq!(parse_cpu(text), Ok(millis), "{text}");
        }
        for bad in ["", "m", "0.5m", "-1", "1 core", "half"] {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_may_be_a_port_alone() {
        for (text, address) in
            [("8080", ":8080"), (":8080", ":8080"), ("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(parse_address(text), Ok(address.to_owned()));
        }
        for bad in ["", ":", "localhost", "80800", ":+80", "localhost:http", "127.0.0.1"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_shown_as_they_can_be_written() {
        for (bytes, text) in [(64 << 10, "64KiB"), (4 << 30, "4GiB"), (1 << 40, "1TiB"), (1500, "1500B")] {
            assert_eq!((&*exact_bytes(bytes), parse_bytes(text)), (text, Ok(bytes)));
        }
        for (millis, text) in [(1, "1ms"), (1000, "1s"), (600_000, "10m"), (31_536_000_000, "8760h")] {
            let duration = Duration::from_millis(millis);
            assert_eq!((&*exact_duration(duration), parse_duration(text)), (text, Ok(duration)));
        }
    }

    #[test]
    fn sizes_need_a_number_and_a_known_unit() {
        for (text, bytes) in [("0B", 0), ("128MiB", 128 << 20), ("64 KiB", 64 << 10), ("1Gi", 1 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "128", "MiB", "-1MiB", "1.5MiB", "12MB", "99999999999GiB", "1 M iB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
