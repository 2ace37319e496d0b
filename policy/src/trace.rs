//! Traces: when which controllers had something to do. As CSV:
//!
//! ```text
//! time,controller,known
//! 0.000,website,0
//! 5.217,website,0
//! 2026-03-01T12:00:00Z …  or times like this, but not both
//! ```
//!
//! `time` is in seconds or RFC 3339. `known` (optional) is 1 if the host knew of the event when the
//! controller became idle: a timer, requeue or backoff. The first line may name the columns in
//! another order; without names they are as above. Lines may come in any order of time; empty ones
//! and those that begin with `#` are skipped.

pub(crate) mod builtin;

use std::collections::BTreeMap;
use std::time::Duration;

pub use builtin::Builtin;

/// The line that names the columns of a trace.
pub const HEADER: &str = "time,controller,known";

/// A line of a trace, as it is recorded: the controller was given something to do at `at`, counted
/// from any fixed moment.
pub fn line(at: Duration, controller: &str, known: bool) -> String {
    format!("{}.{:06},{controller},{}", at.as_secs(), at.subsec_micros(), u8::from(known))
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The events of each controller, by time.
    pub controllers: BTreeMap<String, Vec<Event>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Since the trace's first event.
    pub at: Duration,
    /// What the host knew when the controller became idle before it: the earliest timer. That is the
    /// event itself, or something later that it came before. CSV has only the former.
    pub due: Option<Duration>,
}

impl Event {
    /// Whether the host knew of it.
    pub fn is_known(&self) -> bool {
        self.due == Some(self.at)
    }
}

/// What is wrong with a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    #[error(
        "line {line}: `{text}` is not a time\nhelp: write seconds like `12.5`, or RFC 3339 like `2026-03-01T12:00:00Z`"
    )]
    Time { line: usize, text: String },
    #[error(
        "line {line}: `{text}` is another kind of time than in the lines before\nhelp: write all times in one way, as seconds or as RFC 3339"
    )]
    Mixed { line: usize, text: String },
    #[error(
        "line {line}: `{text}` has no {column}\nhelp: each line is `time,controller` or `time,controller,known`, like `12.5,website,0`"
    )]
    Missing { line: usize, text: String, column: &'static str },
    #[error(
        "line {line}: `{text}` has more fields than there are columns\nhelp: each line is `time,controller` or `time,controller,known`, like `12.5,website,0`"
    )]
    TooMany { line: usize, text: String },
    #[error(
        "line {line}: `{text}` is not a value of `known`\nhelp: write 1 for an event that the host had scheduled itself, else 0"
    )]
    Known { line: usize, text: String },
    #[error("line {line}: unknown column `{text}`\nhelp: the columns are time, controller and, if you like, known")]
    Column { line: usize, text: String },
    #[error(
        "no controller has two events\nhelp: record for longer; what counts are the gaps between a controller's events"
    )]
    NoGaps,
}

/// A time as it was written, nanoseconds.
#[derive(Clone, Copy)]
enum Written {
    /// Since whatever the trace counts from.
    Seconds(i128),
    /// Since the epoch.
    Date(i128),
}

impl Trace {
    /// Reads CSV.
    pub fn parse(text: &str) -> Result<Trace, TraceError> {
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
                _ => Err(TraceError::Missing { line, text: row.to_owned(), column }),
            };
            if fields.len() > columns.count {
                return Err(TraceError::TooMany { line, text: row.to_owned() });
            }
            let time = field(columns.time, "time")?;
            let controller = field(columns.controller, "controller")?;
            let at = match written(&time) {
                None => return Err(TraceError::Time { line, text: time }),
                Some(at) => at,
            };
            let (at, is_date) = match at {
                Written::Seconds(ns) => (ns, false),
                Written::Date(ns) => (ns, true),
            };
            if *dates.get_or_insert(is_date) != is_date {
                return Err(TraceError::Mixed { line, text: time });
            }
            let known = match columns.known.and_then(|index| fields.get(index)).copied() {
                None | Some("" | "0" | "false") => false,
                Some("1" | "true") => true,
                Some(other) => return Err(TraceError::Known { line, text: other.to_owned() }),
            };
            rows.push((at, controller, known));
        }
        let begin = rows.iter().map(|(at, ..)| *at).min().unwrap_or(0);
        let mut trace = Trace { controllers: BTreeMap::new() };
        for (at, controller, known) in rows {
            let at = Duration::from_nanos(u64::try_from(at - begin).unwrap_or(u64::MAX));
            trace.controllers.entry(controller).or_default().push(Event { at, due: known.then_some(at) });
        }
        trace.controllers.values_mut().for_each(|events| events.sort());
        match trace.controllers.values().any(|events| events.len() > 1) {
            true => Ok(trace),
            false => Err(TraceError::NoGaps),
        }
    }

    /// From the first event to the last.
    pub fn length(&self) -> Duration {
        self.controllers.values().filter_map(|events| events.last()).map(|event| event.at).max().unwrap_or_default()
    }
}

struct Columns {
    time: usize,
    controller: usize,
    known: Option<usize>,
    count: usize,
}

impl Columns {
    fn named(names: &[&str], line: usize) -> Result<Columns, TraceError> {
        if let Some(other) = names.iter().find(|name| !["time", "controller", "known"].contains(*name)) {
            return Err(TraceError::Column { line, text: (*other).to_owned() });
        }
        let find = |name: &str| names.iter().position(|it| *it == name);
        let missing = |column| TraceError::Missing { line, text: names.join(","), column };
        Ok(Columns {
            time: find("time").ok_or_else(|| missing("time"))?,
            controller: find("controller").ok_or_else(|| missing("controller"))?,
            known: find("known"),
            count: names.len(),
        })
    }
}

fn written(text: &str) -> Option<Written> {
    // Three hundred years on either side, what fits into nanoseconds.
    const LIMIT: f64 = 9e9;
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() < LIMIT => Some(Written::Seconds((seconds * 1e9).round() as i128)),
        Ok(_) => None,
        Err(_) => text.parse::<jiff::Timestamp>().ok().map(|at| Written::Date(at.as_nanosecond())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(trace: &Trace, controller: &str) -> Vec<(f64, bool)> {
        trace.controllers[controller].iter().map(|e| (e.at.as_secs_f64(), e.is_known())).collect()
    }

    #[test]
    fn lines_are_sorted_by_controller_and_time() {
        let trace =
            Trace::parse("time,controller,known\n10.5,a,0\n7,b,1\n\n# a comment\n8,a\n9.25,b,true\n").expect("ok");
        assert_eq!(seconds(&trace, "a"), [(1.0, false), (3.5, false)]);
        assert_eq!(seconds(&trace, "b"), [(0.0, true), (2.25, true)]);
        assert_eq!(trace.length(), Duration::from_millis(3500));
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        let events = [(Duration::from_micros(1_500_001), true), (Duration::from_secs(100), false)];
        let lines = events.map(|(at, known)| line(at, "web", known)).join("\n");
        assert_eq!(lines, "1.500001,web,1\n100.000000,web,0");
        let trace = Trace::parse(&format!("{HEADER}\n{lines}\n")).expect("ok");
        assert_eq!(seconds(&trace, "web"), [(0.0, true), (98.499999, false)]);
    }

    #[test]
    fn columns_may_be_named_in_another_order_or_not_at_all() {
        for text in
            ["controller,time\na,1\na,2.5\n", "1,a\n2.5,a", "\"time\",\"controller\"\r\n1,\"a\"\r\n2.5,\"a\"\r\n"]
        {
            assert_eq!(seconds(&Trace::parse(text).expect(text), "a"), [(0.0, false), (1.5, false)]);
        }
    }

    #[test]
    fn times_may_be_dates_of_any_zone() {
        let trace = Trace::parse("2026-03-01T12:00:00Z,a\n2026-03-01T13:00:01.500+01:00,a\n").expect("ok");
        assert_eq!(seconds(&trace, "a"), [(0.0, false), (1.5, false)]);
    }

    #[test]
    fn a_bad_line_is_named_with_a_remedy() {
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
            let error = Trace::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(message) && error.contains("\nhelp: "), "{error}");
        }
    }
}
