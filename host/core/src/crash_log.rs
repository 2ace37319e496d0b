//! Joins the crash report of a program into one log line, instead of one line for each goroutine and frame.

use serde_json::json;

use crate::excerpt::excerpt;
use crate::step::LogLine;

/// First words of crash reports, by language runtime.
const BEGINNINGS: [&str; 9] = [
    // Go and TinyGo
    "panic: ",
    "fatal error: ",
    "runtime: ",
    "unexpected fault address ",
    "SIGSEGV: ",
    // Rust
    "thread '",
    "Error: ",
    // Python
    "Traceback (most recent call last):",
    // C
    "Assertion failed",
];

/// Joins the crash report in the lines of a failed step into one line. The field `trace` holds the rest of the report,
/// shortened. Other lines are kept unchanged.
pub fn gather(logs: Vec<LogLine>) -> Vec<LogLine> {
    // TinyGo reports on standard output.
    let is_stream = |line: &LogLine| matches!(&*line.target, "stderr" | "stdout");
    let begins = |line: &LogLine| is_stream(line) && BEGINNINGS.iter().any(|text| line.message.starts_with(text));
    let Some(first) = logs.iter().position(begins) else { return logs };
    let stream = logs[first].target.clone();
    let (mut kept, report): (Vec<_>, Vec<_>) =
        logs.into_iter().enumerate().partition(|(index, line)| *index < first || line.target != stream);
    let text: String =
        report.iter().map(|(_, line)| line.message.trim_end_matches('\n')).collect::<Vec<_>>().join("\n");
    let (headline, trace) = headline(&text);
    let trace = excerpt(trace.trim_matches('\n'));
    let fields = if trace.is_empty() { String::new() } else { json!({ "trace": trace }).to_string() };
    let line = LogLine { level: tracing::Level::ERROR, target: stream, message: headline, fields };
    kept.push((first, line));
    kept.sort_by_key(|(index, _)| *index);
    kept.into_iter().map(|(_, line)| line).collect()
}

/// Splits a crash report into a headline and the rest.
fn headline(report: &str) -> (String, &str) {
    let (first, rest) = report.split_once('\n').unwrap_or((report, ""));
    // Python ends with the error.
    if first.starts_with("Traceback") {
        let (trace, last) = rest.trim_end().rsplit_once('\n').unwrap_or(("", rest.trim_end()));
        return (last.to_owned(), trace);
    }
    // Rust prints the location first, then the message.
    if first.starts_with("thread '") {
        let (what, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        return (format!("{first} {what}").trim_end().to_owned(), rest);
    }
    (first.to_owned(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str, message: &str) -> LogLine {
        LogLine { level: tracing::Level::INFO, target: target.into(), message: message.into(), fields: String::new() }
    }

    /// Target, message and trace.
    fn gathered(logs: Vec<LogLine>) -> Vec<(String, String, String)> {
        let trace = |line: &LogLine| match &*line.fields {
            "" => String::new(),
            fields => serde_json::from_str::<serde_json::Value>(fields).unwrap()["trace"].as_str().unwrap().to_owned(),
        };
        gather(logs).iter().map(|line| (line.target.clone(), line.message.clone(), trace(line))).collect()
    }

    fn stderr(text: &str) -> Vec<LogLine> {
        text.split_inclusive('\n').map(|text| line("stderr", text)).collect()
    }

    #[test]
    fn a_crash_report_becomes_one_line_with_a_trace() {
        for (report, headline, trace) in [
            (
                "panic: assignment to entry in nil map\n\ngoroutine 7 [running]:\nmain.f()\n\tmain.go:3\n",
                "panic: assignment to entry in nil map",
                "goroutine 7 [running]:\nmain.f()\n\tmain.go:3",
            ),
            (
                "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1:\n",
                "fatal error: all goroutines are asleep - deadlock!",
                "goroutine 1:",
            ),
            ("panic: runtime error: index out of range\n", "panic: runtime error: index out of range", ""),
            ("Error: cannot list\n\nCaused by:\n    denied\n", "Error: cannot list", "Caused by:\n    denied"),
            (
                "thread 'main' (1) panicked at src/lib.rs:1:2:\nas asked\nnote: run with\n",
                "thread 'main' (1) panicked at src/lib.rs:1:2: as asked",
                "note: run with",
            ),
            (
                "Traceback (most recent call last):\n  File \"app.py\", line 1\nValueError: no\n",
                "ValueError: no",
                "  File \"app.py\", line 1",
            ),
        ] {
            let found = gathered(stderr(report));
            assert_eq!(found, [("stderr".into(), headline.into(), trace.into())], "{report}");
        }
    }

    #[test]
    fn lines_of_others_stay_and_keep_their_order() {
        let mut logs = vec![line("slog", "before"), line("stderr", "a warning\n")];
        logs.extend(stderr("panic: x\n\ngoroutine 1 [running]:\n"));
        logs.insert(4, line("stdout", "meanwhile"));
        let messages: Vec<_> = gathered(logs).into_iter().map(|(_, message, _)| message).collect();
        assert_eq!(messages, ["before", "a warning\n", "panic: x", "meanwhile"]);
        let found = gathered(vec![line("stdout", "panic: y\n"), line("stderr", "other\n")]);
        assert_eq!(found[0], ("stdout".into(), "panic: y".into(), String::new()));
        assert_eq!(found[1].1, "other\n");
    }

    #[test]
    fn without_a_report_nothing_is_joined() {
        let logs = || vec![line("stderr", "one\n"), line("stderr", "two\n"), line("slog", "panic: no")];
        let messages: Vec<_> = gathered(logs()).into_iter().map(|(_, message, _)| message).collect();
        assert_eq!(messages, logs().into_iter().map(|line| line.message).collect::<Vec<_>>());
        assert!(gather(Vec::new()).is_empty());
    }

    #[test]
    fn a_long_trace_is_shortened() {
        let report = format!("panic: x\n{}", "goroutine 9 [select]:\nmain.g()\n".repeat(1000));
        let [(_, headline, trace)] = gathered(stderr(&report)).try_into().unwrap();
        assert_eq!(headline, "panic: x");
        assert!(trace.len() < 4200 && trace.ends_with('…'), "{} bytes", trace.len());
    }
}
