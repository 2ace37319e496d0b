//! Log lines as text: `12:30:01.250 INFO  website: suspended  ram=512 B disk=64.0 KiB`.
//!
//! In a line that a controller logs, a bar follows its name instead of the colon. All text is escaped, so that no
//! controller can control the terminal. A quoted value is a JSON string.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::GUEST_TARGET;
use super::fields::{Fields, GUEST_FIELDS};
use crate::escape::{escape, is_escaped, push_escaped};
use crate::output::{self, Paint};

pub struct Text {
    pub paint: Paint,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        writer.write_str(&line(self.paint, &timestamp, *metadata.level(), metadata.target(), Fields::of(event)))
    }
}

/// The whole line, or several lines if a value has newlines.
pub fn line(paint: Paint, timestamp: &str, level: Level, target: &str, mut fields: Fields) -> String {
    // Of 2026-11-24T12:30:01.250123Z, only the time of day in milliseconds is shown.
    let time = timestamp.get(11..23).unwrap_or(timestamp);
    let level = match level {
        Level::ERROR => paint.error("ERROR"),
        Level::WARN => paint.warning("WARN "),
        Level::INFO => paint.success("INFO "),
        Level::DEBUG => paint.dim("DEBUG"),
        Level::TRACE => paint.dim("TRACE"),
    };
    let guest = target == GUEST_TARGET;
    let who = match fields.take_text("controller") {
        Some(name) => paint.strong(&escape(&name)) + if guest { " │" } else { ":" },
        // Lines of libraries show their target.
        None if target.starts_with("wasmop") => String::new(),
        None => paint.dim(&format!("{target}:")),
    };
    let help = if guest { None } else { fields.take_text("help") };

    let mut line = format!("{} {level}", paint.dim(time));
    // Continuation lines are indented, so that a message cannot forge a log line.
    for part in [who, escape(fields.message.trim_end()).replace('\n', "\n    ")] {
        if !part.is_empty() {
            let _ = write!(line, " {part}");
        }
    }
    let mut below = Vec::new();
    let mut gap = "  ";
    for (name, value) in fields.others {
        let values = match value {
            Value::Object(object) if name == GUEST_FIELDS => object.into_iter().collect(),
            value => vec![(name.to_owned(), value)],
        };
        for (name, value) in values {
            let (name, text) = show(&name, &value);
            if text.contains('\n') {
                below.push((name, text));
                continue;
            }
            let _ = write!(line, "{gap}{}{text}", paint.dim(&format!("{name}=")));
            gap = " ";
        }
    }
    line.push('\n');
    for (name, text) in below {
        let _ = writeln!(line, "    {}", paint.dim(&format!("{name}:")));
        for part in text.lines() {
            let _ = writeln!(line, "      {part}");
        }
    }
    if let Some(help) = help {
        let _ =
            writeln!(line, "    {} {}", paint.help("help:"), escape(&help).trim_end().replace('\n', "\n          "));
    }
    line
}

/// A field's name and value. A unit in the name (`_bytes`, `_us`, `_ms`) moves to the value.
fn show(name: &str, value: &Value) -> (String, String) {
    let unit = |suffix: &str| Some((word(name.strip_suffix(suffix)?), value.as_u64()?));
    if let Some((name, bytes)) = unit("_bytes") {
        return (name, output::bytes(bytes));
    }
    if let Some((name, micros)) = unit("_us") {
        return (name, short(Duration::from_micros(micros)));
    }
    if let Some((name, millis)) = unit("_ms") {
        return (name, short(Duration::from_millis(millis)));
    }
    let text = match value {
        Value::String(text) if text.contains('\n') => escape(text),
        Value::String(text) => word(text),
        other => word(&other.to_string()),
    };
    (word(name), text)
}

/// A name or a value on one line. It is quoted as a JSON string if it contains spaces, `=`, quotes or escapes, so that
/// the line can be parsed.
fn word(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && !is_escaped(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_escaped(c) => push_escaped(&mut quoted, c),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `850 µs`, `12.3 ms`, `4.0 s`.
fn short(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => output::duration(duration),
    }
}
