//! Turns serde's errors about a TOML file into errors with place, key and remedy.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Document, dotted, item};
use crate::error::{Failure, failure, split_help};

/// The placeholder for the dotted path in texts of types that do not know their place in the file.
pub const PATH: &str = "{path}";

impl Document<'_> {
    /// Serde's derived code reports errors as text only, and toml adds the span. The path is found by the span.
    pub(super) fn describe(&self, error: &toml::de::Error) -> Failure {
        let span = error.span().unwrap_or_default();
        let path = path_of(self.root.get_ref(), &span).unwrap_or_default();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let message = error.message();
        if let Some(listed) = message.strip_prefix("unknown field ") {
            // unknown field `a`, expected one of `b`, `c`
            let known: Vec<&str> = listed.split('`').skip(1).step_by(2).skip(1).collect();
            return self.unknown_key(&path, &known);
        }
        if let Some(key) = message.strip_prefix("missing field ") {
            let key = key.trim_matches('`');
            return self.wrong(&[&path[..], &[key]].concat(), "is missing", format!("add `{key}`"));
        }
        let (problem, help) =
            match message.strip_prefix("invalid type: ").and_then(|text| text.rsplit_once(", expected ")) {
                Some((found, expected)) => {
                    let expected = expected_in_toml(expected);
                    let found = self.type_at(&span).unwrap_or(found);
                    (format!("expected {expected}, found a value of type {found}"), format!("give {expected}"))
                }
                None => {
                    let (problem, help) = split_help(message);
                    (problem.to_owned(), help.unwrap_or("correct it").to_owned())
                }
            };
        let header = dotted(&path);
        let (problem, help) = (problem.replace(PATH, &header), help.replace(PATH, &header));
        if path.is_empty() {
            return failure(format!("{}: {problem}", self.place(&[])), help);
        }
        self.wrong(&path, problem, help)
    }

    /// TOML's name for the type of the value with this span.
    fn type_at(&self, span: &Range<usize>) -> Option<&'static str> {
        fn find(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<&'static str> {
            let inner = match value.get_ref() {
                DeValue::Table(table) => table.values().find_map(|value| find(value, span)),
                DeValue::Array(items) => items.iter().find_map(|value| find(value, span)),
                _ => None,
            };
            inner.or_else(|| (value.span() == *span).then(|| value.get_ref().type_str()))
        }
        self.root.get_ref().values().find_map(|value| find(value, span))
    }
}

/// What serde's own types expect, in TOML's terms.
fn expected_in_toml(expected: &str) -> String {
    match expected {
        "a boolean" => "`true` or `false`".to_owned(),
        "i64" | "u8" => "a number".to_owned(),
        "a sequence" => "a list of strings".to_owned(),
        "a map" => format!("a table, `[{PATH}]`"),
        _ if expected.starts_with("struct ") => format!("a table, `[{PATH}]`"),
        other => other.to_owned(),
    }
}

/// The path of the innermost key or value with exactly this span.
fn path_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let key_matches = key.span() == *span;
        let inner = path_in(value, span).or_else(|| key_matches.then(Vec::new))?;
        Some([vec![key.get_ref().to_string()], inner].concat())
    })
}

/// The path below `value`; empty for itself.
fn path_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => path_of(table, span),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(position, value)| {
            let inner = path_in(value, span)?;
            Some([vec![item(position)], inner].concat())
        }),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(Vec::new))
}
