//! Parses and formats durations such as `300ms`.

use std::time::Duration;

/// Nanoseconds per unit. `s` and `m` are as in Go and Kubernetes.
const UNITS: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Parses a duration such as `1s`, `500ms`, `1.5s` or `1m`.
///
/// The units are `ns`, `us`, `ms`, `s`, `m` and `h`.
///
/// # Errors
///
/// The error is a phrase that quotes the input and says what is wrong with it.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(wasmop_policy::parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
/// assert!(wasmop_policy::parse_duration("soon").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) => {
            Duration::try_from_secs_f64(number * factor / 1e9).map_err(|_| format!("`{text}` is too long"))
        }
        _ => Err(format!("`{text}` is not a duration")),
    }
}

/// Formats a duration in the largest unit up to seconds that gives an integer. `parse_duration` parses the result.
pub fn write_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let whole = UNITS[..4].iter().rev().find(|(_, factor)| ns.is_multiple_of(*factor as u128));
    match whole {
        _ if ns == 0 => "0s".into(),
        Some((unit, factor)) => format!("{}{unit}", ns / *factor as u128),
        None => format!("{ns}ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_known_unit() {
        for (text, millis) in [("1s", 1000), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1 day", "1.2.3s", "999999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_formatted_in_the_largest_unit_that_gives_an_integer() {
        for (millis, text) in [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (60_000, "60s"), (90_000, "90s")] {
            assert_eq!(write_duration(Duration::from_millis(millis)), text);
        }
    }
}
