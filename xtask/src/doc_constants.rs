//! Numbers in the documentation that stand for constants in the source: `16<!-- MAX_STEP_EVENTS -->`.
//!
//! The test reads each marker, finds the constant's definition in the source, and compares the two.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose constants may be documented.
const SOURCES: [&str; 4] = ["host", "package/src", "policy/src", "cli/src"];

/// Markers whose constant has another name, or one that several files use: file and name.
const QUALIFIED: [(&str, &str, &str); 23] = [
    ("COLLECTOR_TIMEOUT", "cli/src/traces/collector.rs", "TIMEOUT"),
    ("CONNECT_TIMEOUT", "host/api/src/timeouts.rs", "CONNECT_TIMEOUT"),
    ("ELECTION_AT_ONCE", "host/api/src/election/driver.rs", "AT_ONCE"),
    ("FORMAT_VERSION", "host/snapshot/src/format.rs", "VERSION"),
    ("MAX_SPARE_BYTES", "host/vm/src/memory_pool.rs", "MAX_BYTES"),
    ("PATIENCE", "host/core/src/limits/liveness.rs", "PATIENCE"),
    ("OBJECTS", "host/core/src/limits/liveness.rs", "OBJECTS"),
    ("PLUGIN_TIMEOUT", "host/api/src/client/exec_plugin.rs", "TIMEOUT"),
    ("PREDICATE_BUDGET", "package/src/predicate/", "BUDGET"),
    ("PREDICATE_MAX_TEXT", "package/src/predicate/", "MAX_TEXT"),
    ("STORM_MAX_WAIT", "host/core/src/limits/write_storm.rs", "MAX_WAIT"),
    ("STORM_TURNS", "host/core/src/limits/write_storm.rs", "TURNS"),
    ("STORM_WINDOW", "host/core/src/limits/write_storm.rs", "WINDOW"),
    ("STATUS_DEADLINE", "host/src/status/http.rs", "DEADLINE"),
    ("STATUS_MAX_CONNECTIONS", "host/src/status/http.rs", "MAX_CONNECTIONS"),
    ("STATUS_PATIENCE", "host/src/status/http.rs", "PATIENCE"),
    ("MAX_CALLS", "host/core/src/controller/account.rs", "MAX_CALLS"),
    ("RESPONSE_TIMEOUT", "host/api/src/timeouts.rs", "RESPONSE_TIMEOUT"),
    ("MAX_CONNECTIONS", "host/api/src/connections.rs", "MAX_CONNECTIONS"),
    ("MAX_LOG_BYTES", "host/vm/src/instance/full.rs", "MAX_LOG_BYTES"),
    ("RESPONSE_CREDIT", "host/core/src/control_loop/mod.rs", "RESPONSE_CREDIT_BYTES"),
    ("MAX_DEPTH", "package/src/predicate/bound.rs", "MAX_DEPTH"),
    ("NODE", "package/src/predicate/bound.rs", "NODE"),
];

/// Markers of pages, which the documentation shows in bytes.
const IN_PAGES: [&str; 2] = ["COPIED_PAGES", "REBASE_MIN_PAGES"];
const PAGE: f64 = 4096.0;

/// Markers that are not constants of their own; the tests beside their definitions cover them.
fn is_elsewhere(marker: &str) -> bool {
    marker.starts_with("LIMIT_") || ["LEASE_DURATION", "RENEW_DEADLINE", "RETRY_PERIOD"].contains(&marker)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

/// The expression that a constant is defined by, and the file, for each name.
fn definitions() -> BTreeMap<String, Vec<(String, String)>> {
    let mut sources = Vec::new();
    SOURCES.iter().for_each(|dir| files(&root().join(dir), "rs", &mut sources));
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        for (at, _) in text.match_indices("const ") {
            let rest = &text[at + "const ".len()..];
            let Some((name, rest)) = rest.split_once(':') else { continue };
            let is_name = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let Some((_, rest)) = rest.split_once('=').filter(|_| is_name(name)) else { continue };
            let Some((expression, _)) = rest.split_once(';') else { continue };
            found.entry(name.to_owned()).or_default().push((shown.clone(), expression.trim().to_owned()));
        }
    }
    found
}

/// The value of a constant: a number, or seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Number(f64),
    Seconds(f64),
}

/// Evaluates the few shapes that constants have: integers with `<<`, `*`, `+`, `-`, `/`, durations, and `max:` of a
/// backoff.
fn evaluate(expression: &str) -> Option<Value> {
    if let Some((_, max)) = expression.split_once("max:") {
        return evaluate(max.trim().trim_end_matches(['}', ' ', ',']));
    }
    for (prefix, unit) in
        [("Duration::from_secs_f64(", 1.0), ("Duration::from_secs(", 1.0), ("Duration::from_millis(", 0.001)]
    {
        if let Some(rest) = expression.strip_prefix(prefix) {
            return Some(Value::Seconds(number(rest.strip_suffix(')')?)? * unit));
        }
    }
    number(expression).map(Value::Number)
}

fn number(expression: &str) -> Option<f64> {
    let expression = expression.trim();
    for operator in ["<<", " - ", " + ", " * ", " / "] {
        if let Some((left, right)) = expression.rsplit_once(operator) {
            let (left, right) = (number(left)?, number(right)?);
            return Some(match operator.trim() {
                "<<" => left * 2f64.powf(right),
                "-" => left - right,
                "+" => left + right,
                "*" => left * right,
                _ => left / right,
            });
        }
    }
    expression.replace('_', "").parse().ok()
}

/// What the documentation says: `16`, `1,048,576`, `64 KiB`, `10 min`, `60 %`.
fn shown(text: &str) -> Option<Value> {
    let clean: String = text.chars().filter(|c| !matches!(c, '`' | '"' | '*' | ',' | ' ')).collect();
    let unit_at = clean.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(clean.len());
    let number: f64 = clean[..unit_at].parse().ok()?;
    Some(match &clean[unit_at..] {
        "" => Value::Number(number),
        "KiB" => Value::Number(number * 1024.0),
        "MiB" => Value::Number(number * 1024.0 * 1024.0),
        "GiB" => Value::Number(number * 1024.0 * 1024.0 * 1024.0),
        "%" => Value::Number(number / 100.0),
        "ms" => Value::Seconds(number / 1000.0),
        "s" => Value::Seconds(number),
        "min" | "m" => Value::Seconds(number * 60.0),
        "h" => Value::Seconds(number * 3600.0),
        "days" => Value::Seconds(number * 86_400.0),
        _ => return None,
    })
}

/// The words right before a marker that make up its value.
fn value_before(text: &str) -> &str {
    let is_part = |word: &str| {
        let word = word.trim_matches(['`', '*', '"', '|', '(']);
        word.starts_with(|c: char| c.is_ascii_digit())
    };
    let text = text.trim_end();
    let last = text.rfind(' ').map_or(0, |at| at + 1);
    if is_part(&text[last..]) {
        return text[last..].trim_start_matches(['(', '|', '<', '≤', '×']);
    }
    let before = text[..last].trim_end().rfind(' ').map_or(0, |at| at + 1);
    text[before..].trim_start_matches(['(', '|', '<', '≤', '×'])
}

#[test]
fn documented_numbers_are_those_of_the_code() {
    let definitions = definitions();
    let mut pages = vec![root().join("README.md"), root().join("SECURITY.md")];
    files(&root().join("docs"), "md", &mut pages);
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("<!-- ") {
            let Some((marker, _)) = text[at + 5..].split_once(" -->") else { continue };
            if !marker.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') || is_elsewhere(marker)
            {
                continue;
            }
            let line = &text[text[..at].rfind('\n').map_or(0, |at| at + 1)..at];
            let said = value_before(line);
            let place = format!("{}: `{said}` <!-- {marker} -->", page.strip_prefix(root()).unwrap().display());
            let qualified = QUALIFIED.iter().find(|(name, ..)| *name == marker);
            let (file, name) = qualified.map_or(("", marker), |(_, file, name)| (*file, *name));
            let found: Vec<_> =
                definitions.get(name).into_iter().flatten().filter(|(path, _)| path.starts_with(file)).collect();
            let resolve = |(path, expression): &&(String, String)| {
                // At most one other constant of the same file is named.
                let other = expression.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
                let other = other.and_then(|other| Some((other, definitions.get(other)?)));
                let other = other.and_then(|(name, all)| Some((name, &all.iter().find(|(of, _)| of == path)?.1)));
                match other {
                    Some((name, value)) => evaluate(&expression.replace(name, &number(value)?.to_string())),
                    None => evaluate(expression),
                }
            };
            let mut values: Vec<_> = found.iter().filter_map(resolve).collect();
            values.dedup();
            let [mut value] = values[..] else {
                wrong.push(format!("{place}: defined {} times: {found:?}", values.len()));
                continue;
            };
            if let (Value::Number(pages), true) = (value, IN_PAGES.contains(&marker)) {
                value = Value::Number(pages * PAGE);
            }
            // A number of seconds in code may be shown with its unit.
            let same = |a: Value, b: Value| match (a, b) {
                (Value::Number(a) | Value::Seconds(a), Value::Number(b) | Value::Seconds(b)) => (a - b).abs() < 1e-9,
            };
            if !shown(said).is_some_and(|said| same(said, value)) {
                wrong.push(format!("{place}: the code has {value:?}"));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {checked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 100, "only {checked} markers were found");
}

#[test]
fn expressions_are_evaluated() {
    for (expression, expected) in [
        ("16", Value::Number(16.0)),
        ("256 << 10", Value::Number(262_144.0)),
        ("10_000", Value::Number(10_000.0)),
        ("Duration::from_secs(30 * 24 * 3600)", Value::Seconds(2_592_000.0)),
        ("Duration::from_millis(100)", Value::Seconds(0.1)),
        ("Backoff { base: Duration::from_secs(1), max: Duration::from_secs(300) }", Value::Seconds(300.0)),
    ] {
        assert_eq!(evaluate(expression), Some(expected), "{expression}");
    }
    for (text, expected) in [
        ("**16**", Value::Number(16.0)),
        ("1,048,576", Value::Number(1_048_576.0)),
        ("`64 KiB`", Value::Number(65_536.0)),
        ("10 min", Value::Seconds(600.0)),
    ] {
        assert_eq!(shown(text), Some(expected), "{text}");
    }
}

/// Folders at the top of the repository: `` `host/core/src/lib.rs` `` in a page names a file.
const FOLDERS: [&str; 9] =
    ["host/", "cli/", "package/", "policy/", "e2e/", "bench/", "xtask/", "guest-rust/", "guest-go/"];

#[test]
fn documented_files_exist() {
    let mut pages: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|page| root().join(page)).into();
    files(&root().join("docs"), "md", &mut pages);
    let mut missing = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for path in text.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains([' ', '<', '*', '$']);
            if is_path && !root().join(path).exists() {
                missing.push(format!("{}: {path}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(missing.is_empty(), "these files do not exist:\n{}", missing.join("\n"));
}
