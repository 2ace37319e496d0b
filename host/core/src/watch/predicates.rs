//! Predicates in CEL, each compiled once and shared.

use std::collections::HashMap;

use wasmop_package::predicate::Predicate;

use super::change::{Before, Change};

/// Most compiled predicates kept.
const MAX_KEPT: usize = 256;

/// Compiled predicates by their text.
#[derive(Debug, Default)]
pub struct Predicates(HashMap<Box<str>, Result<Predicate, String>>);

/// The verdict of a predicate about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The change causes a reconcile.
    Counts,
    /// The change is ignored.
    Ignored,
    /// The predicate failed, and the change counts: why.
    Failed(String),
}

impl Predicates {
    /// Judges a change that is not part of a replay. It can ignore only creations and updates of which both states are
    /// known. Deletions, the start of a deletion, and an object that replaces another always count.
    pub fn judge(&mut self, text: &str, change: &Change) -> Judged {
        let Change::Applied { meta, old, object: Some(object), before, .. } = change else { return Judged::Counts };
        if text.is_empty() || old.as_ref().is_some_and(|old| old.uid != meta.uid || meta.deleting && !old.deleting) {
            return Judged::Counts;
        }
        let before = match before {
            Before::Unknown => return Judged::Counts,
            Before::Absent => None,
            Before::Whole(before) => Some(&**before),
        };
        if self.0.len() >= MAX_KEPT && !self.0.contains_key(text) {
            self.0.clear();
        }
        let compile = || Predicate::new(text).map_err(|error| error.to_string());
        let predicate = match self.0.entry(text.into()).or_insert_with(compile) {
            Ok(predicate) => predicate,
            Err(error) => return Judged::Failed(error.clone()),
        };
        match predicate.passes(object, before) {
            Ok(true) => Judged::Counts,
            Ok(false) => Judged::Ignored,
            // Most predicates read `oldObject` without a check for null.
            Err(_) if before.is_none() => Judged::Counts,
            Err(error) => Judged::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
