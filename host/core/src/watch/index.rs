//! Turns the API server's lists and watch events into changes.
//!
//! After a list the index holds exactly the listed objects. The changes it returned lead from the old content to the
//! new: a relist of 10,000 objects of which three changed yields three changes.
//!
//! Changes are numbered. A controller that has seen all changes up to a number needs only the later ones. A journal can
//! store the index, and the next host continues from it: its first list is then a relist.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::change::{Before, Change};
use super::object_budget::ObjectBudget;
use super::object_meta::{ObjectMetaLite, Seen};
use super::relation::differs;
use crate::work_queue::Key;

/// Most former states remembered. A controller that has seen only changes before the oldest one gets all objects again.
const MAX_PAST: usize = 1000;
/// Beyond this number of changed objects, the journal writes all objects.
const MAX_UNSAVED: usize = 4096;

/// The objects of one watch.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<Key, Entry>,
    /// Number of the last list begun. When it completes, entries of earlier lists that it lacks are gone.
    list: u32,
    /// The last list is complete. An object that is new now was created now.
    complete: bool,
    /// Number of the last change.
    last: u64,
    /// Former states of objects, oldest first.
    past: VecDeque<Past>,
    /// `past` is complete for all numbers above this one.
    floor: u64,
    unsaved: Unsaved,
    /// Memory for whole objects.
    budget: Arc<ObjectBudget>,
}

#[derive(Debug)]
struct Entry {
    meta: ObjectMetaLite,
    /// Charged to `budget`.
    object: Option<Arc<str>>,
    /// Number of the list in which, or after which, it was last seen.
    list: u32,
    /// Number of its last change.
    number: u64,
    /// Distance from `number` back to its last change beyond status and metadata. It saturates, so that such a change
    /// may seem later than it was.
    behind: u32,
}

impl Entry {
    /// Number of its last change beyond status and metadata.
    fn differs(&self) -> u64 {
        self.number - u64::from(self.behind)
    }
}

fn behind(number: u64, differs: u64) -> u32 {
    u32::try_from(number.saturating_sub(differs)).unwrap_or(u32::MAX)
}

/// The state of an object before it was deleted or changed owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The object.
    pub key: Key,
    /// Its metadata before the change.
    pub meta: ObjectMetaLite,
    /// Number of the change.
    pub number: u64,
    /// The object exists with other owners. Otherwise it is gone.
    pub stays: bool,
}

/// An object, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The object.
    pub key: Key,
    /// Its metadata.
    pub meta: ObjectMetaLite,
    /// Number of its last change.
    pub number: u64,
    /// Number of its last change beyond status and metadata.
    pub differs: u64,
}

/// Changes that the journal lacks.
#[derive(Debug, Default)]
struct Unsaved {
    /// Changed objects; unused if `all`.
    keys: BTreeSet<Key>,
    all: bool,
    /// Changes up to this number are in the journal.
    saved: u64,
}

/// The data that a journal has to write.
pub struct ToSave {
    /// Whether it replaces the content of the journal.
    pub all: bool,
    /// Former states.
    pub past: Vec<Past>,
    /// Objects.
    pub present: Vec<Present>,
    /// Former states are complete for all numbers above this one.
    pub floor: u64,
}

impl Index {
    /// Continues from the journal of an earlier host.
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

    /// Charges whole objects to this budget. Those beyond it are dropped.
    pub fn keep_in(&mut self, budget: Arc<ObjectBudget>) {
        for entry in self.entries.values_mut() {
            self.budget.give_back(entry.object.as_ref());
            entry.object = budget.keep(entry.object.take());
        }
        self.budget = budget;
    }

    /// Whether this host has begun a list.
    pub fn has_begun(&self) -> bool {
        self.list != 0
    }

    /// Whether the last list is complete.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects seen in the last list or since.
    pub fn listed(&self) -> impl Iterator<Item = Seen> {
        let listed = self.entries.iter().filter(|(_, entry)| self.list != 0 && entry.list == self.list);
        listed.map(|(key, entry)| Seen { key: key.clone(), meta: entry.meta.clone(), object: entry.object.clone() })
    }

    /// Begins a list and abandons an unfinished one.
    pub fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.complete = false;
    }

    /// Completes the list. Objects that it lacks are gone.
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

    /// Takes in an object that was listed, added or modified. `None` if the index has that version.
    pub fn apply(&mut self, seen: Seen) -> Option<Change> {
        let Seen { key, meta, object } = seen;
        let number = self.last + 1;
        let mut entry = Entry { meta: meta.clone(), object: None, list: self.list, number, behind: 0 };
        let (old, before) = match self.entries.get_mut(&key) {
            Some(known) if known.meta.resource_version == meta.resource_version && known.meta.uid == meta.uid => {
                known.list = self.list;
                // The journal has metadata only. A parent watch shares its object.
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

    /// As [`Index::apply`]. With `has_room: false` the change has the object, but the index does not keep it.
    pub fn apply_in(&mut self, seen: Seen, has_room: bool) -> Option<Change> {
        let key = (!has_room).then(|| seen.key.clone());
        let change = self.apply(seen);
        if let Some(entry) = key.and_then(|key| self.entries.get_mut(&key)) {
            self.budget.give_back(entry.object.take().as_ref());
        }
        change
    }

    /// Takes in a deletion, or an object that no longer matches the selectors. `None` if the index does not have it.
    pub fn delete(&mut self, seen: Seen) -> Option<Change> {
        let known = self.entries.remove(&seen.key)?;
        self.budget.give_back(known.object.as_ref());
        Some(self.gone(seen.key, seen.meta, seen.object))
    }

    /// The caller has removed the object from `entries`.
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
            // The journal has to drop it as well.
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

    /// All objects at number `until`, as additions, for a new subscriber. Objects that changed later are left out:
    /// their change follows. An object of which only status or metadata changed since is included, because the
    /// subscriber may ignore that change.
    pub fn replay(&self, until: u64) -> impl Iterator<Item = Change> {
        self.entries.iter().filter(move |(_, entry)| entry.differs() <= until).map(|(key, entry)| Change::Applied {
            key: key.clone(),
            meta: entry.meta.clone(),
            old: None,
            object: entry.object.clone(),
            before: Before::Unknown,
        })
    }

    /// Changes after number `after` and up to `until`, for a subscriber that has seen all earlier ones. `None` if they
    /// are no longer known. An object of which only status or metadata changed is its own predecessor.
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
        // A change of status or metadata after `until` may hide an earlier change.
        let present = self.entries.iter().filter(move |(_, entry)| missed(entry.number) || missed(entry.differs()));
        Some(past.chain(present.map(move |(key, entry)| Change::Applied {
            key: key.clone(),
            meta: entry.meta.clone(),
            old: (entry.differs() <= after).then(|| entry.meta.clone()),
            object: entry.object.clone(),
            before: Before::Unknown,
        })))
    }

    /// Number of the last change. Each change gets the next number.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A subscriber that has seen less than this needs all objects again.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The changes since the last call, for the journal; all objects if `rewrite`. `None` if nothing changed.
    pub fn to_save(&mut self, rewrite: bool) -> Option<ToSave> {
        if self.unsaved.saved == self.last && !rewrite {
            return None;
        }
        let Unsaved { keys, all, saved } =
            std::mem::replace(&mut self.unsaved, Unsaved { saved: self.last, ..Unsaved::default() });
        let all = all || rewrite;
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

    /// Metadata of an object.
    pub fn get(&self, key: &str) -> Option<&ObjectMetaLite> {
        self.entries.get(key).map(|entry| &entry.meta)
    }

    /// The object as JSON, if it is kept.
    pub fn object(&self, key: &str) -> Option<&Arc<str>> {
        self.entries.get(key)?.object.as_ref()
    }

    /// The objects of a namespace, or of all, in the API server's order. `None` for an object that is not kept whole.
    pub fn objects(&self, namespace: Option<&str>) -> impl Iterator<Item = Option<&Arc<str>>> {
        let prefix = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
        let from = self.entries.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(&prefix)).map(|(_, entry)| entry.object.as_ref())
    }

    /// Keys of all objects, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no objects.
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
