//! Reads lines that programs print with the usual loggers: their level, logger, message and fields.
//!
//! Programs that were not written for a host print formatted lines on standard output and error. The host reads the
//! formats below, so that levels, filters and fields work as for loggers that know the host. It keeps other lines as they
//! are. The time in a line is dropped: the host's log has its own.
//!
//! | format | printed by |
//! |---|---|
//! | `I1129 12:00:00.000000 1 main.go:12] "Synced" key="a/b"` | klog |
//! | `{"level":"info","msg":"Synced","key":"a/b"}` | zap, slog, logrus, zerolog, tracing-subscriber as JSON |
//! | `2026-11-29T12:00:00Z⇥INFO⇥setup⇥Synced⇥{"key":"a/b"}` | zap's console encoder, as kubebuilder projects use it |
//! | `time="…" level=info msg=Synced key=a/b` | logrus, slog, go-kit |
//! | `2026-11-29T12:00:00Z  INFO app: Synced key="a/b"` | tracing-subscriber, env_logger |
//! | `2026/11/29 12:00:00 Synced` | Go's log |

mod console;
mod json;
mod klog;
mod logfmt;
mod text;

use std::borrow::Cow;

use serde_json::{Map, Value};
use tracing::Level;

use crate::step::LogLine;

/// A line as its logger meant it.
#[derive(Debug, Default, PartialEq)]
struct Entry<'a> {
    level: Option<Level>,
    /// The logger or module.
    logger: Cow<'a, str>,
    message: Cow<'a, str>,
    fields: Map<String, Value>,
}

/// Whether the text is what a program printed, and not what it gave to the host's log.
pub fn is_printed(line: &LogLine) -> bool {
    matches!(&*line.target, "stdout" | "stderr")
}

/// Reads the lines of a text that a program printed. A line in an unknown format belongs to the one before: it is part of
/// a trace or of a longer message. Other text is kept.
pub fn read(printed: &LogLine) -> Cow<'_, [LogLine]> {
    if !is_printed(printed) || !printed.fields.is_empty() {
        return Cow::Borrowed(std::slice::from_ref(printed));
    }
    let plain = without_escapes(&printed.message);
    let mut lines: Vec<LogLine> = Vec::new();
    for text in plain.trim_end().split('\n') {
        match (entry(text.trim_end()), lines.last_mut()) {
            (Some(Entry { level, logger, message, fields }), _) => lines.push(LogLine {
                level: level.unwrap_or(printed.level),
                target: if logger.is_empty() { printed.target.clone() } else { logger.into_owned() },
                message: message.into_owned(),
                fields: if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() },
            }),
            (None, Some(last)) => {
                last.message.push('\n');
                last.message.push_str(text);
            }
            (None, None) => lines.push(LogLine { message: text.into(), ..printed.clone() }),
        }
    }
    lines.into()
}

fn entry(text: &str) -> Option<Entry<'_>> {
    None.or_else(|| klog::read(text))
        .or_else(|| json::read(text))
        .or_else(|| console::read(text))
        .or_else(|| logfmt::read(text))
        .or_else(|| text::read(text))
}

/// The level of a word, as loggers print it.
fn level_of(word: &str) -> Option<Level> {
    Some(match &*word.to_ascii_lowercase() {
        "trace" | "trc" => Level::TRACE,
        "debug" | "dbg" | "debu" => Level::DEBUG,
        "info" | "inf" | "information" | "notice" => Level::INFO,
        "warn" | "warning" | "wrn" => Level::WARN,
        "error" | "err" | "erro" | "fatal" | "fata" | "ftl" | "panic" | "pnc" | "dpanic" | "critical" => Level::ERROR,
        _ => return None,
    })
}

/// Whether a word is a time of RFC 3339, or seconds since 1970.
fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    let is_date = bytes.len() >= 19
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && (bytes[4], bytes[7], bytes[13], bytes[16]) == (b'-', b'-', b':', b':')
        && matches!(bytes[10], b'T' | b' ');
    is_date || (bytes.len() >= 10 && word.parse::<f64>().is_ok_and(|seconds| seconds > 1e9))
}

/// Drops the colours of terminals.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut pieces = text.split("\u{1b}[");
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        // Parameters, then a letter.
        let end = piece.find(|c: char| !matches!(c, '0'..='9' | ';'));
        plain.extend(end.map(|end| piece[end..].chars().skip(1)).into_iter().flatten());
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
