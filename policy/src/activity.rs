//! Activity traces: the times at which controllers received work.
//!
//! The file format is CSV:
//!
//! ```text
//! time,controller,known
//! 0.000,website,0
//! 5.217,website,0
//! ```
//!
//! * `time` is in seconds, or in RFC 3339 such as `2026-03-01T12:00:00Z`. All lines use the same notation.
//! * `known` is optional. It is 1 if the host knew the time in advance, because of a timer, requeue or backoff.
//! * The first line may name the columns, in any order. Without it, the order is as above.
//! * Lines need not be sorted by time. Empty lines and lines that begin with `#` are skipped.

pub(crate) mod builtin;

use std::collections::BTreeMap;
use std::time::Duration;

pub use builtin::BuiltinActivity;

/// The first line of a recorded activity trace, which names the columns.
pub const HEADER: &str = "time,controller,known";

/// Formats a line of an activity trace without a line break.
///
/// `at` is the time since an arbitrary fixed point, rounded down to microseconds. `known` says whether the host knew
/// the time in advance.
pub fn line(at: Duration, controller: &str, known: bool) -> String {
    format!("{}.{:06},{controller},{}", at.as_secs(), at.subsec_micros(), u8::from(known))
}

/// The times at which controllers received work.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivityTrace {
    /// The arrivals of each controller, sorted by time.
    pub controllers: BTreeMap<String, Vec<Arrival>>,
}

/// The arrival of work for one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// Time since the first arrival of the trace.
    pub at: Duration,
    /// The earliest timer when the controller last became idle.
    ///
    /// It equals `at` if the timer caused the arrival, and is later if something else arrived first. CSV represents
    /// only the former.
    pub due: Option<Duration>,
}

impl Arrival {
    /// Whether the host knew the time in advance.
    pub fn is_known(&self) -> bool {
        self.due == Some(self.at)
    }
}

/// Why a text is not an activity trace. `line` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant explains its fields")]
pub enum ActivityTraceError {
    /// The time is neither a number of seconds nor RFC 3339.
    #[error(
        "line {line}: `{text}` is not a time\nhelp: write seconds like `12.5`, or RFC 3339 like `2026-03-01T12:00:00Z`"
    )]
    Time { line: usize, text: String },
    /// The trace mixes seconds and RFC 3339.
    #[error(
        "line {line}: `{text}` is another kind of time than in the previous lines\nhelp: write all times as seconds, or all as RFC 3339"
    )]
    Mixed { line: usize, text: String },
    /// A field or a column is missing.
    #[error(
        "line {line}: `{text}` has no {column}\nhelp: each line is `time,controller` or `time,controller,known`, like `12.5,website,0`"
    )]
    Missing { line: usize, text: String, column: &'static str },
    /// A line has too many fields.
    #[error(
        "line {line}: `{text}` has more fields than there are columns\nhelp: each line is `time,controller` or `time,controller,known`, like `12.5,website,0`"
    )]
    TooMany { line: usize, text: String },
    /// The field `known` is neither 0 nor 1.
    #[error(
        "line {line}: `{text}` is not a value of `known`\nhelp: write 1 if the host had scheduled the event, else 0"
    )]
    Known { line: usize, text: String },
    /// The first line names a column that does not exist.
    #[error("line {line}: unknown column `{text}`\nhelp: the columns are time, controller and, optionally, known")]
    Column { line: usize, text: String },
    /// There is no gap to simulate.
    #[error("no controller has two events\nhelp: record for longer; the simulation needs gaps between events")]
    NoGaps,
}

/// A parsed time in nanoseconds.
#[derive(Clone, Copy)]
enum ParsedTime {
    /// Since the zero of the trace.
    Seconds(i128),
    /// Since the Unix epoch.
    Date(i128),
}

impl ActivityTrace {
    /// Parses CSV.
    ///
    /// # Errors
    ///
    /// The error names the first invalid line. A trace in which no controller has two events is an error too.
    pub fn parse(text: &str) -> Result<ActivityTrace, ActivityTraceError> {
        let mut columns = Columns { time: 0, controller: 1, known: Some(2), count: 3 };
        let mut rows = Vec::new();
        let mut first = true;
        let mut dates = None;
        for (number, row) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (line, row) = (number + 1, row.trim());
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = row.split(',').map(|field| field.trim().trim_matches('"')).collect();
            if std::mem::take(&mut first) && fields.contains(&"time") {
                columns = Columns::named(&fields, line)?;
                continue;
            }
            let field = |index: usize, column| match fields.get(index) {
                Some(field) if !field.is_empty() => Ok((*field).to_owned()),
                _ => Err(ActivityTraceError::Missing { line, text: row.to_owned(), column }),
            };
            if fields.len() > columns.count {
                return Err(ActivityTraceError::TooMany { line, text: row.to_owned() });
            }
            let time = field(columns.time, "time")?;
            let controller = field(columns.controller, "controller")?;
            let at = match parse_time(&time) {
                None => return Err(ActivityTraceError::Time { line, text: time }),
                Some(at) => at,
            };
            let (at, is_date) = match at {
                ParsedTime::Seconds(ns) => (ns, false),
                ParsedTime::Date(ns) => (ns, true),
            };
            if *dates.get_or_insert(is_date) != is_date {
                return Err(ActivityTraceError::Mixed { line, text: time });
            }
            let known = match columns.known.and_then(|index| fields.get(index)).copied() {
                None | Some("" | "0" | "false") => false,
                Some("1" | "true") => true,
                Some(other) => return Err(ActivityTraceError::Known { line, text: other.to_owned() }),
            };
            rows.push((at, controller, known));
        }
        let begin = rows.iter().map(|(at, ..)| *at).min().unwrap_or(0);
        let mut trace = ActivityTrace { controllers: BTreeMap::new() };
        for (at, controller, known) in rows {
            let at = Duration::from_nanos(u64::try_from(at - begin).unwrap_or(u64::MAX));
            trace.controllers.entry(controller).or_default().push(Arrival { at, due: known.then_some(at) });
        }
        trace.controllers.values_mut().for_each(|events| events.sort());
        match trace.controllers.values().any(|events| events.len() > 1) {
            true => Ok(trace),
            false => Err(ActivityTraceError::NoGaps),
        }
    }

    /// Returns the time from the first to the last arrival.
    pub fn length(&self) -> Duration {
        self.controllers.values().filter_map(|events| events.last()).map(|event| event.at).max().unwrap_or_default()
    }
}

/// The positions of the columns in a line.
struct Columns {
    time: usize,
    controller: usize,
    known: Option<usize>,
    count: usize,
}

impl Columns {
    fn named(names: &[&str], line: usize) -> Result<Columns, ActivityTraceError> {
        if let Some(other) = names.iter().find(|name| !["time", "controller", "known"].contains(*name)) {
            return Err(ActivityTraceError::Column { line, text: (*other).to_owned() });
        }
        let find = |name: &str| names.iter().position(|it| *it == name);
        let missing = |column| ActivityTraceError::Missing { line, text: names.join(","), column };
        Ok(Columns {
            time: find("time").ok_or_else(|| missing("time"))?,
            controller: find("controller").ok_or_else(|| missing("controller"))?,
            known: find("known"),
            count: names.len(),
        })
    }
}

fn parse_time(text: &str) -> Option<ParsedTime> {
    // About 300 years, the range of 64-bit nanoseconds.
    const LIMIT: f64 = 9e9;
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() < LIMIT => Some(ParsedTime::Seconds((seconds * 1e9).round() as i128)),
        Ok(_) => None,
        Err(_) => text.parse::<jiff::Timestamp>().ok().map(|at| ParsedTime::Date(at.as_nanosecond())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(trace: &ActivityTrace, controller: &str) -> Vec<(f64, bool)> {
        trace.controllers[controller].iter().map(|e| (e.at.as_secs_f64(), e.is_known())).collect()
    }

    #[test]
    fn arrivals_are_grouped_by_controller_and_sorted() {
        let trace = ActivityTrace::parse("time,controller,known\n10.5,a,0\n7,b,1\n\n# a comment\n8,a\n9.25,b,true\n")
            .expect("ok");
        assert_eq!(seconds(&trace, "a"), [(1.0, false), (3.5, false)]);
        assert_eq!(seconds(&trace, "b"), [(0.0, true), (2.25, true)]);
        assert_eq!(trace.length(), Duration::from_millis(3500));
    }

    #[test]
    fn recorded_lines_can_be_parsed() {
        let events = [(Duration::from_micros(1_500_001), true), (Duration::from_secs(100), false)];
        let lines = events.map(|(at, known)| line(at, "web", known)).join("\n");
        assert_eq!(lines, "1.500001,web,1\n100.000000,web,0");
        let trace = ActivityTrace::parse(&format!("{HEADER}\n{lines}\n")).expect("ok");
        assert_eq!(seconds(&trace, "web"), [(0.0, true), (98.499999, false)]);
    }

    #[test]
    fn the_header_is_optional_and_may_reorder_columns() {
        for text in
            ["controller,time\na,1\na,2.5\n", "1,a\n2.5,a", "\"time\",\"controller\"\r\n1,\"a\"\r\n2.5,\"a\"\r\n"]
        {
            assert_eq!(seconds(&ActivityTrace::parse(text).expect(text), "a"), [(0.0, false), (1.5, false)]);
        }
    }

    #[test]
    fn times_may_be_rfc_3339_in_any_time_zone() {
        let trace = ActivityTrace::parse("2026-03-01T12:00:00Z,a\n2026-03-01T13:00:01.500+01:00,a\n").expect("ok");
        assert_eq!(seconds(&trace, "a"), [(0.0, false), (1.5, false)]);
    }

    #[test]
    fn errors_name_the_line_and_offer_help() {
        for (text, message) in [
            ("time,controller\nsoon,a\n", "line 2: `soon` is not a time"),
            ("1,a\nNaN,a\n", "line 2: `NaN` is not a time"),
            ("1,a\n1e300,a\n", "line 2: `1e300` is not a time"),
            ("1,a\n\n2026-03-01T12:00:00Z,a\n", "line 3: `2026-03-01T12:00:00Z` is another kind of time"),
            ("1,a\n2\n", "line 2: `2` has no controller"),
            ("1,a\n,a\n", "line 2: `,a` has no time"),
            ("1,a\n2,a,0,x\n", "line 2: `2,a,0,x` has more fields"),
            ("1,a\n2,a,maybe\n", "line 2: `maybe` is not a value of `known`"),
            ("time,controller,size\n", "line 1: unknown column `size`"),
            ("time,known\n", "line 1: `time,known` has no controller"),
            ("", "no controller has two events"),
            ("1,a\n2,b\n", "no controller has two events"),
        ] {
            let error = ActivityTrace::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(message) && error.contains("\nhelp: "), "{error}");
        }
    }
}
