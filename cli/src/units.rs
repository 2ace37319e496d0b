//! Byte sizes ("128MiB") and durations ("300ms") as people write them.

use std::time::Duration;

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

/// Nanoseconds in a unit; `s` and `m` as Go and Kubernetes write them.
const DURATION_UNITS: [(&str, f64); 6] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a size such as `64MiB`; the error is what is wrong with it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large")),
        _ => Err(format!("`{text}` is not a size in bytes")),
    }
}

/// Reads a duration such as `1s`, `500ms`, `1.5s` or `1m`; the error is what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) => {
            Duration::try_from_secs_f64(number * factor / 1e9).map_err(|_| format!("`{text}` is too long"))
        }
        _ => Err(format!("`{text}` is not a duration")),
    }
}

/// A number and what follows it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_number_and_a_known_unit() {
        for (text, bytes) in [("0B", 0), ("128MiB", 128 << 20), ("64 KiB", 64 << 10), ("1Gi", 1 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "128", "MiB", "-1MiB", "1.5MiB", "12MB", "99999999999GiB", "1 M iB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_number_and_a_known_unit() {
        for (text, millis) in [("1s", 1000), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1 day", "1.2.3s", "999999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
