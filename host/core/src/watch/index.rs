//! Turns what the API server sends, lists and watch events, into what changed.
//!
//! After a list the index holds exactly what was listed, and the changes it gave out lead from the
//! old content to the new: a relist of 10,000 objects of which three changed is three changes.
//!
//! Changes are numbered, and a controller that has seen all up to some number needs but those after it.
//! The index can be kept in a journal and continued from there by the next host:
//! then its first list is a relist.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::change::{Before, Change};
use super::object_budget::ObjectBudget;
use super::object_meta::{ObjectMetaLite, Seen};
use super::relation::differs;
use crate::work_queue::Key;

/// Most objects remembered that are no longer what they were. Who has seen none of them, but the
/// changes before, is to see everything again.
const MAX_PAST: usize = 1000;
/// With more changed objects than this, all are written.
const MAX_UNSAVED: usize = 4096;

/// The objects of one watch.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Key, Entry>,
    /// Number of the list last begun. Entries of an earlier one that are not in it are gone when
    /// it is complete.
    list: u32,
    /// A list was complete, and no other has begun since: what is new now was created now.
    complete: bool,
    /// Number of the last change.
    last: u64,
    /// What is no longer so, oldest first.
    past: VecDeque<Past>,
    /// What was so at some later number is in `past`.
    floor: u64,
    unsaved: Unsaved,
    /// For whole objects.
    budget: Arc<ObjectBudget>,
}

#[derive(Debug)]
struct Entry {
    meta: ObjectMetaLite,
    /// Only if it is in `room`.
    object: Option<Arc<str>>,
    /// Number of the list in or after which it was last seen.
    list: u32,
    /// Of its last change.
    number: u64,
    /// How much less is the number of its last change that was not one of status or metadata alone; at most
    /// what fits, then it seems to be later.
    behind: u32,
}

impl Entry {
    /// Number of the last change that was not one of status or metadata alone.
    fn differs(&self) -> u64 {
        self.number - u64::from(self.behind)
    }
}

fn behind(number: u64, differs: u64) -> u32 {
    u32::try_from(number.saturating_sub(differs)).unwrap_or(u32::MAX)
}

/// What an object was before a change after which it concerns others, or nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    pub key: Key,
    pub meta: ObjectMetaLite,
    /// Of the change.
    pub number: u64,
    /// It has other owners; otherwise it is gone.
    pub stays: bool,
}

/// An object, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub key: Key,
    pub meta: ObjectMetaLite,
    pub number: u64,
    pub differs: u64,
}

/// What the journal doesn't have yet.
#[derive(Debug, Default)]
struct Unsaved {
    /// Objects that changed; meaningless if `all`.
    keys: BTreeSet<Key>,
    all: bool,
    /// Changes up to this number are in the journal.
    saved: u64,
}

/// What a journal is to write.
pub struct ToSave {
    /// In place of what is there.
    pub all: bool,
    pub past: Vec<Past>,
    pub present: Vec<Present>,
    pub floor: u64,
}

impl Index {
    /// Continues where an earlier host was.
    pub fn restore(present: Vec<Present>, past: Vec<Past>, floor: u64, last: u64) -> Index {
        let entry = |Present { key, meta, number, differs }| {
            (key, Entry { meta, object: None, list: 0, number, behind: behind(number, differs) })
        };
        Index {
            entries: present.into_iter().map(entry).collect(),
            list: 0,
            complete: false,
            last,
            past: past.into(),
            floor,
            unsaved: Unsaved { saved: last, ..Unsaved::default() },
            budget: Arc::default(),
        }
    }

    /// Whole objects take of this room. Of those there are, what has no room in it is not kept.
    pub fn keep_in(&mut self, budget: Arc<ObjectBudget>) {
        for entry in self.entries.values_mut() {
            self.budget.give_back(entry.object.as_ref());
            entry.object = budget.keep(entry.object.take());
        }
        self.budget = budget;
    }

    /// A list was begun: it is not all from an earlier host.
    pub fn has_begun(&self) -> bool {
        self.list != 0
    }

    /// Nothing is missing of the last list.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects that were seen in the last list or since, as they are.
    pub fn listed(&self) -> impl Iterator<Item = Seen> {
        let listed = self.entries.iter().filter(|(_, entry)| self.list != 0 && entry.list == self.list);
        listed.map(|(key, entry)| Seen { key: key.clone(), meta: entry.meta.clone(), object: entry.object.clone() })
    }

    /// A list begins; one under way is given up.
    pub fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.complete = false;
    }

    /// The list is complete: what was not in it is gone.
    pub fn finish_list(&mut self) -> Vec<Change> {
        let list = self.list;
        self.complete = true;
        let gone: Vec<_> = self.entries.extract_if(.., |_, entry| entry.list != list).collect();
        let gone_now = |(key, Entry { meta, object, .. }): (Key, Entry)| {
            self.budget.give_back(object.as_ref());
            self.gone(key, meta, object)
        };
        gone.into_iter().map(gone_now).collect()
    }

    /// The object was in a list, was added or was modified. `None` if that version of it is known.
    pub fn apply(&mut self, seen: Seen) -> Option<Change> {
        let Seen { key, meta, object } = seen;
        let number = self.last + 1;
        let mut entry = Entry { meta: meta.clone(), object: None, list: self.list, number, behind: 0 };
        let (old, before) = match self.entries.get_mut(&key) {
            Some(known) if known.meta.resource_version == meta.resource_version && known.meta.uid == meta.uid => {
                known.list = self.list;
                // The journal has metadata only; a wider watch's object is shared.
                if object.is_some() {
                    self.budget.give_back(known.object.take().as_ref());
                    known.object = self.budget.keep(object);
                }
                return None;
            }
            Some(known) => {
                self.budget.give_back(known.object.as_ref());
                entry.object = self.budget.keep(object.clone());
                if !differs(&known.meta, &meta) {
                    entry.behind = behind(number, known.differs());
                }
                let known = std::mem::replace(known, entry);
                (Some(known.meta), known.object.map_or(Before::Unknown, Before::Whole))
            }
            None => {
                entry.object = self.budget.keep(object.clone());
                self.entries.insert(key.clone(), entry);
                (None, if self.complete { Before::Absent } else { Before::Unknown })
            }
        };
        self.last = number;
        if let Some(old) = old.as_ref().filter(|old| old.owners != meta.owners) {
            self.remember(Past { key: key.clone(), meta: old.clone(), number, stays: true });
        }
        self.touch(&key);
        Some(Change::Applied { key, meta, old, object, before })
    }

    /// The same; with `has_room: false` the object is not kept, though told.
    pub fn apply_in(&mut self, seen: Seen, has_room: bool) -> Option<Change> {
        let key = (!has_room).then(|| seen.key.clone());
        let change = self.apply(seen);
        if let Some(entry) = key.and_then(|key| self.entries.get_mut(&key)) {
            self.budget.give_back(entry.object.take().as_ref());
        }
        change
    }

    /// The object was deleted, or no longer matches the watch's selectors. `None` if it was not
    /// known.
    pub fn delete(&mut self, seen: Seen) -> Option<Change> {
        let known = self.entries.remove(&seen.key)?;
        self.budget.give_back(known.object.as_ref());
        Some(self.gone(seen.key, seen.meta, seen.object))
    }

    /// To be called when it is no longer in `entries`.
    fn gone(&mut self, key: Key, meta: ObjectMetaLite, object: Option<Arc<str>>) -> Change {
        self.last += 1;
        self.remember(Past { key: key.clone(), meta: meta.clone(), number: self.last, stays: false });
        self.touch(&key);
        Change::Deleted { key, meta, object }
    }

    fn remember(&mut self, past: Past) {
        self.past.push_back(past);
        if self.past.len() > MAX_PAST
            && let Some(forgotten) = self.past.pop_front()
        {
            self.floor = forgotten.number;
            // The journal is to forget it as well.
            self.unsaved.all |= forgotten.number > self.unsaved.saved;
        }
    }

    fn touch(&mut self, key: &str) {
        let unsaved = &mut self.unsaved;
        if unsaved.all || unsaved.keys.contains(key) {
            return;
        }
        if unsaved.keys.len() < MAX_UNSAVED {
            unsaved.keys.insert(key.into());
        } else {
            *unsaved = Unsaved { all: true, keys: BTreeSet::new(), ..*unsaved };
        }
    }

    /// Every object that was there at number `until`, as if it had just been added, for someone who starts to
    /// listen. One that is another since then comes with that change; not one of which only status or metadata
    /// changed, which who has not seen it before may not care for.
    pub fn replay(&self, until: u64) -> impl Iterator<Item = Change> {
        self.entries.iter().filter(move |(_, entry)| entry.differs() <= until).map(|(key, entry)| Change::Applied {
            key: key.clone(),
            meta: entry.meta.clone(),
            old: None,
            object: entry.object.clone(),
            before: Before::Unknown,
        })
    }

    /// What has changed after number `after` and up to `until`, for someone who has seen all before;
    /// `None` if that is no longer known. An object of which only status or metadata changed is its own
    /// predecessor.
    pub fn replay_between(&self, after: u64, until: u64) -> Option<impl Iterator<Item = Change>> {
        if after < self.floor || after > self.last {
            return None;
        }
        let missed = move |number: u64| number > after && number <= until;
        let past = self.past.iter().filter(move |past| missed(past.number)).map(|past| {
            let (key, meta) = (past.key.clone(), past.meta.clone());
            match past.stays {
                true => Change::Applied { key, old: Some(meta.clone()), meta, object: None, before: Before::Unknown },
                false => Change::Deleted { key, meta, object: None },
            }
        });
        // The latter's last change may be one that nobody cares for, and after `until`.
        let present = self.entries.iter().filter(move |(_, entry)| missed(entry.number) || missed(entry.differs()));
        Some(past.chain(present.map(move |(key, entry)| Change::Applied {
            key: key.clone(),
            meta: entry.meta.clone(),
            old: (entry.differs() <= after).then(|| entry.meta.clone()),
            object: entry.object.clone(),
            before: Before::Unknown,
        })))
    }

    /// Number of the last change; each change that was given out has the next one.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Who has seen less than this is to see everything again.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What a journal that has what was given here before does not have; all there is if it is to be
    /// written anew. `None` if nothing has changed.
    pub fn to_save(&mut self, anew: bool) -> Option<ToSave> {
        if self.unsaved.saved == self.last && !anew {
            return None;
        }
        let Unsaved { keys, all, saved } =
            std::mem::replace(&mut self.unsaved, Unsaved { saved: self.last, ..Unsaved::default() });
        let all = all || anew;
        let present = |(key, entry): (&Key, &Entry)| Present {
            key: key.clone(),
            meta: entry.meta.clone(),
            number: entry.number,
            differs: entry.differs(),
        };
        Some(ToSave {
            all,
            past: self.past.iter().filter(|past| all || past.number > saved).cloned().collect(),
            present: match all {
                true => self.entries.iter().map(present).collect(),
                false => keys.iter().filter_map(|key| self.entries.get_key_value(key)).map(present).collect(),
            },
            floor: self.floor,
        })
    }

    pub fn get(&self, key: &str) -> Option<&ObjectMetaLite> {
        self.entries.get(key).map(|entry| &entry.meta)
    }

    /// The object as JSON, if objects are kept and there was room for it.
    pub fn object(&self, key: &str) -> Option<&Arc<str>> {
        self.entries.get(key)?.object.as_ref()
    }

    /// The objects of a namespace, of all without one, in the API server's order; `None` for one that is known by
    /// its metadata alone.
    pub fn objects(&self, namespace: Option<&str>) -> impl Iterator<Item = Option<&Arc<str>>> {
        let prefix = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
        let from = self.entries.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, entry)| entry.object.as_ref())
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        for entry in self.entries.values() {
            self.budget.give_back(entry.object.as_ref());
        }
    }
}

#[cfg(test)]
mod tests;
