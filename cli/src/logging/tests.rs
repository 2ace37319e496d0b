//! Log lines built from their parts.

use serde_json::{Value, json};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use super::fields::Fields;
use super::filter_for;
use super::{json, text};
use crate::output::Paint;

const AT: &str = "2026-11-24T12:30:01.250123Z";

fn fields(message: &str, others: &[(&'static str, Value)]) -> Fields {
    Fields { message: message.to_owned(), others: others.to_vec() }
}

#[test]
fn a_host_line_has_time_level_controller_message_and_units() {
    let line = text::line(
        Paint::PLAIN,
        AT,
        Level::INFO,
        "wasmop_core::control_loop",
        fields(
            "suspended",
            &[
                ("controller", json!("web")),
                ("ram_bytes", json!(512)),
                ("disk_bytes", json!(65536)),
                ("took_us", json!(350)),
                ("in_flight", json!(0)),
            ],
        ),
    );
    assert_eq!(line, "12:30:01.250 INFO  web: suspended  ram=512 B disk=64.0 KiB took=350 µs in_flight=0\n");
}

#[test]
fn a_controllers_line_has_a_bar_and_its_own_fields() {
    let line = text::line(
        Paint::PLAIN,
        AT,
        Level::WARN,
        "guest",
        fields(
            "it is late",
            &[("controller", json!("web")), ("fields", json!({"object": "default/a", "note": "two words"}))],
        ),
    );
    assert_eq!(line, "12:30:01.250 WARN  web │ it is late  note=\"two words\" object=default/a\n");
}

#[test]
fn help_and_multi_line_values_follow_below() {
    let line = text::line(
        Paint::PLAIN,
        AT,
        Level::ERROR,
        "wasmop_core::control_loop",
        fields(
            "permission denied",
            &[("controller", json!("web")), ("detail", json!("a\nb")), ("help", json!("add\nthis"))],
        ),
    );
    assert_eq!(
        line,
        "12:30:01.250 ERROR web: permission denied\n    detail:\n      a\n      b\n    help: add\n          this\n"
    );
}

/// Parses the fields of a line: `name=value`, where a quoted part is a JSON string.
fn read_back(line: &str) -> Vec<(String, String)> {
    let (_, mut rest) = line.trim_end_matches('\n').split_once(": m  ").unwrap_or_default();
    let mut fields = Vec::new();
    let take = |rest: &mut &str| {
        if !rest.starts_with('"') {
            let (word, after) = rest.split_at(rest.find([' ', '=']).unwrap_or(rest.len()));
            *rest = after;
            return word.to_owned();
        }
        let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let text = strings.next().expect("a string").expect("JSON");
        let end = strings.byte_offset();
        *rest = &rest[end..];
        text
    };
    while !rest.is_empty() {
        let name = take(&mut rest);
        rest = rest.strip_prefix('=').expect("a value");
        fields.push((name, take(&mut rest)));
        rest = rest.trim_start();
    }
    fields
}

#[test]
fn names_and_values_with_any_content_can_be_parsed() {
    let contents = [
        "",
        "plain",
        "two words",
        "say \"hi\"",
        "\"",
        "\\",
        "a\\\"b=c\" d",
        "x=1 level=ERROR",
        "tab\there",
        "a\rb",
        "\u{1b}[2J",
        "nul\0",
        "\u{85}",
        "\u{2028}x",
        "\u{202e}evil",
        "ü 漢字 🦀",
        "trailing\\",
    ];
    for content in contents {
        let guest = json!({ content: content, "other": [1, content] });
        let line = text::line(
            Paint::PLAIN,
            AT,
            Level::INFO,
            "guest",
            fields("m", &[("host", json!(content)), ("fields", guest)]),
        );
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{line:?}");
        let read = read_back(&line);
        let list = json!([1, content]).to_string();
        let expected = [("host", content), (content, content), ("other", &list)];
        for (name, value) in expected {
            assert!(read.contains(&(name.to_owned(), value.to_owned())), "{name:?}={value:?} in {line:?}: {read:?}");
        }
        assert_eq!(read.len(), 3, "{line:?}");
    }
}

#[test]
fn a_name_with_a_newline_stays_on_its_line() {
    let line =
        text::line(Paint::PLAIN, AT, Level::INFO, "guest", fields("m", &[("fields", json!({"a\nERROR x": "v"}))]));
    assert_eq!(line, "12:30:01.250 INFO  guest: m  \"a\\nERROR x\"=v\n");
}

#[test]
fn a_json_line_stays_one_line_for_any_content() {
    for content in ["a\nb", "\"}\n{\"level\":\"ERROR\"", "\u{1b}\u{2028}\0"] {
        let line = json::object(AT, "INFO", "guest", fields(content, &[("fields", json!({ content: content }))]));
        let written = Value::Object(line.clone()).to_string();
        assert!(!written.contains('\n'), "{written}");
        assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), Value::Object(line));
    }
}

#[test]
fn a_controller_cannot_control_the_terminal() {
    let line = text::line(Paint::PLAIN, AT, Level::INFO, "guest", fields("\u{1b}[2Jhi\u{7}", &[]));
    assert!(!line.contains('\u{1b}') && !line.contains('\u{7}') && line.contains("hi"), "{line:?}");
}

#[test]
fn a_json_line_is_flat_and_its_four_fixed_fields_cannot_be_replaced() {
    let line = json::object(
        AT,
        "INFO",
        "guest",
        fields("hello", &[("controller", json!("web")), ("level", json!("x")), ("fields", json!({"a": 1}))]),
    );
    assert_eq!(
        Value::Object(line),
        json!({"timestamp": AT, "level": "INFO", "target": "guest", "message": "hello", "controller": "web", "fields": {"a": 1}})
    );
}

#[test]
fn verbosity_raises_wasmop_and_controllers_but_not_the_compiler() {
    use tracing::subscriber::with_default;
    for verbose in 0..=4 {
        let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter_for(verbose))).finish();
        with_default(subscriber, || {
            let said = [
                tracing::enabled!(target: "cranelift_codegen::isa", Level::INFO),
                tracing::enabled!(target: "wasmtime::runtime", Level::INFO),
                tracing::enabled!(target: "regalloc2", Level::INFO),
                tracing::enabled!(target: "h2::codec", Level::INFO),
                tracing::enabled!(target: "hyper_util::client", Level::TRACE),
                tracing::enabled!(target: "kube_client::client", Level::TRACE),
            ];
            assert_eq!(said, [false; 6], "-v {verbose} times");
            assert!(tracing::enabled!(target: "cranelift_codegen::isa", Level::WARN));
            assert_eq!(tracing::enabled!(target: "wasmop_core::control_loop", Level::DEBUG), verbose >= 1);
            // The host filters by the level of each controller.
            assert!(tracing::enabled!(target: "guest", Level::TRACE));
            assert_eq!(tracing::enabled!(target: "hyper_util::client", Level::DEBUG), verbose >= 3);
        });
    }
}
