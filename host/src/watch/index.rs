//! Turns what the API server sends, lists and watch events, into what changed.
//!
//! After a list the index holds exactly what was listed, and the changes it gave out lead from the
//! old content to the new: a relist of 10,000 objects of which three changed is three changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Change;
use super::meta::{ObjectMetaLite, Seen};
use crate::queue::Key;

/// The objects of one watch.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Key, Entry>,
    /// Number of the list last begun. Entries of an earlier one that are not in it are gone when
    /// it is complete.
    list: u32,
}

#[derive(Debug)]
struct Entry {
    meta: ObjectMetaLite,
    object: Option<Arc<str>>,
    /// Number of the list in or after which it was last seen.
    list: u32,
}

impl Index {
    /// A list begins; one under way is given up.
    pub fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete: what was not in it is gone.
    pub fn finish_list(&mut self) -> Vec<Change> {
        let list = self.list;
        let gone = self.entries.extract_if(.., |_, entry| entry.list != list);
        gone.map(|(key, Entry { meta, object, .. })| Change::Deleted { key, meta, object }).collect()
    }

    /// The object was in a list, was added or was modified. `None` if that version of it is known.
    pub fn apply(&mut self, seen: Seen) -> Option<Change> {
        let Seen { key, meta, object } = seen;
        let entry = Entry { meta: meta.clone(), object: object.clone(), list: self.list };
        let old = match self.entries.get_mut(&key) {
            Some(known) if known.meta.resource_version == meta.resource_version && known.meta.uid == meta.uid => {
                known.list = self.list;
                return None;
            }
            Some(known) => Some(std::mem::replace(known, entry).meta),
            None => {
                self.entries.insert(key.clone(), entry);
                None
            }
        };
        Some(Change::Applied { key, meta, old, object })
    }

    /// The object was deleted, or no longer matches the watch's selectors. `None` if it was not
    /// known.
    pub fn delete(&mut self, seen: Seen) -> Option<Change> {
        self.entries.remove(&seen.key)?;
        Some(Change::Deleted { key: seen.key, meta: seen.meta, object: seen.object })
    }

    /// Every object as if it had just been added, for someone who starts to listen.
    pub fn replay(&self) -> impl Iterator<Item = Change> {
        self.entries.iter().map(|(key, entry)| Change::Applied {
            key: key.clone(),
            meta: entry.meta.clone(),
            old: None,
            object: entry.object.clone(),
        })
    }

    pub fn get(&self, key: &str) -> Option<&ObjectMetaLite> {
        self.entries.get(key).map(|entry| &entry.meta)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests;
