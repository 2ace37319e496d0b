//! Reads TOML files into serde types. Every error names the file, the line, the key and a remedy.
//!
//! ```text
//! text ─ parse ─► Document ─ read ─► a type with `deny_unknown_fields`: each key checked on its own
//!                     └──── wrong, missing ─► errors about several keys together, by path
//! ```
//!
//! A path is the keys from the top of the file to a value. The items of lists are `[0]`, `[1]` and so on.

#[cfg(test)]
pub mod damaged;
mod describe;
pub mod value;

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

use crate::error::{Failure, failure};

/// A parsed TOML file.
pub struct Document<'a> {
    /// As shown in errors.
    file: &'a Path,
    text: &'a str,
    /// How errors name the top level; `None` if it consists of sections.
    top: Option<&'static str>,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// `docs` is the page that lists every key.
    pub fn parse(file: &'a Path, text: &'a str, top: Option<&'static str>, docs: &str) -> Result<Self, Failure> {
        match DeTable::parse(text) {
            Ok(root) => Ok(Document { file, text, top, root }),
            Err(error) => {
                let place = place(file, text, &error.span().unwrap_or_default());
                let help = format!("correct the TOML; {docs} shows every key");
                Err(failure(format!("{place}: {}", error.message()), help))
            }
        }
    }

    /// The whole file as a value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(Deserializer::from(self.root.clone())).map_err(|error| self.describe(&error))
    }

    /// A table of the top level; without it, a value without keys.
    pub fn read_table<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, Failure> {
        let Some(value) = self.root.get_ref().get(key) else { return Ok(T::default()) };
        T::deserialize(ValueDeserializer::from(value.clone())).map_err(|error| self.describe(&error))
    }

    /// An error about the value at `path`, or about its table if there is no such value.
    pub fn wrong(&self, path: &[&str], problem: impl AsRef<str>, help: impl Into<String>) -> Failure {
        let (key, table) = split_key(path);
        let problem = format!("{}: `{key}`{}: {}", self.place(path), self.in_table(table), problem.as_ref());
        failure(problem, help)
    }

    /// An error about a required key. `example` is an example of its value.
    pub fn missing(&self, path: &[&str], example: &str) -> Failure {
        let (key, table) = split_key(path);
        let problem = format!("{}: `{key}` is missing{}", self.place(path), self.in_table(table));
        failure(problem, format!("add `{key} = \"{example}\"`"))
    }

    /// An error about a key that this table does not have.
    pub fn unknown_key(&self, path: &[&str], known: &[&str]) -> Failure {
        let (key, table) = split_key(path);
        let what = if self.top.is_none() && table.is_empty() { "section" } else { "key" };
        let in_table = self.in_table(table);
        let mut help = format!("known {what}s{in_table}: {}", known.join(", "));
        if let Some(near) = crate::spelling::nearest(key, known) {
            help = format!("did you mean `{near}`? {help}");
        }
        failure(format!("{}: unknown {what} `{key}`{in_table}", self.place(path)), help)
    }

    /// `file:line` of the value at `path`, or of the innermost table around it.
    pub fn place(&self, path: &[&str]) -> String {
        let mut span = 0..0;
        let mut table = Some(self.root.get_ref());
        let mut items: Option<&[Spanned<DeValue<'_>>]> = None;
        for step in path {
            let item = position(step).and_then(|index| items?.get(index));
            let Some(value) = item.or_else(|| table?.get(*step)) else { break };
            span = value.span();
            table = value.get_ref().as_table();
            items = value.get_ref().as_array().map(|array| &array[..]);
        }
        place(self.file, self.text, &span)
    }

    /// ` in [limits]`.
    fn in_table(&self, path: &[&str]) -> String {
        match (path, self.top) {
            ([], None) => String::new(),
            ([], Some(top)) => format!(" in {top}"),
            _ => format!(" in {}", table_header(path)),
        }
    }
}

/// `file:line` of the start of a span.
fn place(file: &Path, text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    format!("{}:{line}", file.display())
}

/// `[limits]`, or `[[permissions]]` for an item of a list of tables.
fn table_header(path: &[&str]) -> String {
    let dotted = dotted(path);
    if path.last().is_some_and(|step| is_position(step)) { format!("[[{dotted}]]") } else { format!("[{dotted}]") }
}

/// The keys of a path as in a table's header.
fn dotted(path: &[&str]) -> String {
    let keys: Vec<&str> = path.iter().copied().filter(|step| !is_position(step)).collect();
    keys.join(".")
}

/// The innermost key of a path, and the path of the table that has it.
fn split_key<'p>(path: &'p [&'p str]) -> (&'p str, &'p [&'p str]) {
    let at = path.iter().rposition(|step| !is_position(step)).unwrap_or_default();
    (path.get(at).copied().unwrap_or_default(), &path[..at])
}

/// The step of a path that leads to an item of a list.
pub fn item(position: usize) -> String {
    format!("[{position}]")
}

fn position(step: &str) -> Option<usize> {
    step.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn is_position(step: &str) -> bool {
    position(step).is_some()
}

#[cfg(test)]
pub mod known_keys;

#[cfg(test)]
mod tests;
