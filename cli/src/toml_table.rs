//! A TOML table read key by key; every error names the file, the line, the key, and what is known.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::{Failure, failure};

type Result<T> = std::result::Result<T, Failure>;

/// The file a table is in.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// As shown in errors.
    pub file: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// `file:line: message`.
    pub fn failure(self, span: Range<usize>, message: impl AsRef<str>, help: impl Into<String>) -> Failure {
        failure(format!("{}: {}", self.place(span), message.as_ref()), help)
    }

    /// `file:line`.
    fn place(self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        format!("{}:{line}", self.file.display())
    }
}

/// One table, and what it is called in errors.
pub struct Table<'a> {
    source: Source<'a>,
    /// As written in the file: `[limits]`; empty for the top level.
    name: &'a str,
    entries: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Table<'a> {
    /// The top level of a parsed document; with an empty name it has sections, no keys.
    pub fn top(source: Source<'a>, name: &'a str, entries: &'a DeTable<'a>) -> Table<'a> {
        Table { source, name, entries, span: 0..0 }
    }

    /// All keys, in the alphabet's order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(|key| key.get_ref().as_ref())
    }

    /// `file:line` of where a key has its value, or of the table if it has none.
    pub fn place(&self, key: &str) -> String {
        let span = self.entries.get(key).map_or(self.span.clone(), toml::Spanned::span);
        self.source.place(span)
    }

    pub fn is_string(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    pub fn is_list(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_array())
    }

    /// Refuses every key that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        // The first in the file, not in the alphabet.
        let unknown = self
            .entries
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        let Some(key) = unknown else { return Ok(()) };
        let name = key.get_ref();
        let what = if self.name.is_empty() { "section" } else { "key" };
        let place = self.in_place();
        let mut help = format!("known {what}s{place}: {}", known.join(", "));
        if let Some(near) = nearest(name, known) {
            help = format!("did you mean `{near}`? {help}");
        }
        Err(self.source.failure(key.span(), format!("unknown {what} `{name}`{place}"), help))
    }

    /// A value of this table was read but makes no sense.
    pub fn bad_value(&self, key: &str, problem: impl AsRef<str>, help: impl Into<String>) -> Failure {
        let span = self.entries.get(key).map_or(self.span.clone(), toml::Spanned::span);
        self.source.failure(span, format!("`{key}`{}: {}", self.in_place(), problem.as_ref()), help)
    }

    pub fn string(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text.as_ref())),
            other => Err(self.wrong_type(key, "a string", other)),
        }
    }

    /// A value that is read from a string by `parse`, whose error is what is wrong with it.
    pub fn parsed<T, E: ToString>(
        &self,
        key: &str,
        help: &str,
        parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        let Some(text) = self.string(key)? else { return Ok(None) };
        parse(text).map(Some).map_err(|problem| {
            let problem = problem.to_string();
            // A library's own remedy goes before.
            match problem.split_once("\nhelp: ") {
                Some((problem, help)) => self.bad_value(key, problem, help),
                None => self.bad_value(key, problem, help),
            }
        })
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(Some(*value)),
            other => Err(self.wrong_type(key, "`true` or `false`", other)),
        }
    }

    /// A whole number from 0 to `max`.
    pub fn number(&self, key: &str, max: u8) -> Result<Option<u8>> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong_type(key, "a number", value.get_ref()));
        };
        let number = u8::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| *number <= max);
        let help = || format!("give a whole number from 0 to {max}");
        number.map(Some).ok_or_else(|| self.bad_value(key, format!("`{integer}` is out of range"), help()))
    }

    /// A whole number.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Some)
                .map_err(|_| self.bad_value(key, format!("`{number}` is too large"), "give a smaller number")),
            other => Err(self.wrong_type(key, "a whole number", other)),
        }
    }

    /// A string that must be there; `example` is what a value looks like.
    pub fn required(&self, key: &str, example: &str) -> Result<&'a str> {
        self.string(key)?.ok_or_else(|| {
            self.source.failure(
                self.span.clone(),
                format!("`{key}` is missing{}", self.in_place()),
                format!("add `{key} = \"{example}\"`"),
            )
        })
    }

    /// A list of strings; empty if the key is not there.
    pub fn strings(&self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.entries.get(key) else { return Ok(Vec::new()) };
        let wrong = |other: &DeValue<'_>| self.wrong_type(key, "a list of strings", other);
        let DeValue::Array(items) = value.get_ref() else { return Err(wrong(value.get_ref())) };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(wrong(other)),
            })
            .collect()
    }

    /// The table `[key]`, if it is there; `name` is how errors call it.
    pub fn table(&self, key: &str, name: &'a str) -> Result<Option<Table<'a>>> {
        if !self.entries.contains_key(key) {
            return Ok(None);
        }
        self.required_table(key, name).map(Some)
    }

    /// The table `[key]`, which must be there.
    pub fn required_table(&self, key: &str, name: &'a str) -> Result<Table<'a>> {
        let wanted = format!("a table, `{name}`");
        let Some(value) = self.entries.get(key) else {
            return Err(self.bad_value(key, "is missing", format!("add {wanted}")));
        };
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(self.wrong_type(key, &wanted, value.get_ref()));
        };
        Ok(Table { source: self.source, name, entries, span: value.span() })
    }

    /// The tables `[[key]]`.
    pub fn tables(&self, key: &str, name: &'a str) -> Result<Vec<Table<'a>>> {
        let Some(value) = self.entries.get(key) else { return Ok(Vec::new()) };
        let wrong = |other: &DeValue<'_>| self.wrong_type(key, &format!("a list of tables, `{name}`"), other);
        let DeValue::Array(items) = value.get_ref() else { return Err(wrong(value.get_ref())) };
        items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(entries) => Ok(Table { source: self.source, name, entries, span: item.span() }),
                other => Err(wrong(other)),
            })
            .collect()
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &DeValue<'_>) -> Failure {
        let found = found.type_str();
        self.bad_value(key, format!("expected {wanted}, found a value of type {found}"), format!("give {wanted}"))
    }

    fn in_place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }
}

/// The known word that `word` is probably a misspelling of.
pub fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let lower = word.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
