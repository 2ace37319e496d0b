//! Predicates in CEL, each compiled once for all who have it.

use std::collections::HashMap;

use wasmop_package::predicate::Predicate;

use super::change::{Before, Change};

/// Most compiled predicates kept.
const MAX_KEPT: usize = 256;

/// Compiled predicates, by their text.
#[derive(Debug, Default)]
pub struct Predicates(HashMap<Box<str>, Result<Predicate, String>>);

/// What a predicate says of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    Counts,
    Ignored,
    /// It could not say: the change counts. Why.
    Failed(String),
}

impl Predicates {
    /// Judges a change that is no part of a replay. Only what was created or modified while both states are known
    /// whole can be ignored: never a deletion, its beginning, or an object in another's place.
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
            // Most look into `oldObject` without asking whether there is one.
            Err(_) if before.is_none() => Judged::Counts,
            Err(error) => Judged::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
