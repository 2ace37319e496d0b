//! The journal of a watch on disk, from which the next host learns what changed while no host ran.
//!
//! ```text
//!  file    magic 8 │ version u32 │ block │ block │ …       one per watch, written behind; `.tmp` during a rewrite
//!  block   length u32 │ xxh3-64 of the rest u64 │ [nonce 12 │ tag 16] │ records, postcard
//! ```
//!
//! An incomplete block ends the file. Each host writes under its own number, its *lineage*. So a change that one host
//! saw but did not write is never confused with another change of the same number. If the journal covers a [`WatchPosition`],
//! its controller gets the later changes; otherwise it gets every object.
//!
//! A lost journal costs only additional reconciles.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use wasmop_core::watch::{
    GroupKind, Index, ObjectMetaLite, OwnerRef, Past, Present, ResourceVersion, ToSave, WatchPosition, WatchRequest,
    hash,
};
use wasmop_core::work_queue::Key;
use wasmop_snapshot::StateDir;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::encryption::Cipher;
use wasmop_snapshot::format::AeadTag;

const MAGIC: [u8; 8] = *b"WASMOPWA";
/// Version of the layout and content. A file of another version is ignored.
const VERSION: u32 = 1;
const PREFIX_LEN: usize = 12;
const BLOCK_HEAD: usize = 12;
/// Most lineages kept; places of older ones are invalid.
const MAX_LINEAGES: usize = 256;
/// Bytes that may be appended to a journal of any size before it is rewritten.
const SLACK: u64 = 64 << 10;
/// A journal that was not written for this long, and that no watch uses, is removed.
const MAX_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Larger files are ignored.
const MAX_LEN: u64 = 1 << 30;

/// A name of the watched objects and the identity that stays the same across restarts.
fn name(request: &WatchRequest) -> String {
    let WatchRequest {
        group,
        version,
        kind,
        plural,
        namespace,
        // Such a watch has no objects of a cluster-scoped kind.
        further,
        label_selector,
        field_selector,
        // Journals have metadata only.
        full_objects: _,
        service_account,
    } = request;
    let namespace = match (namespace, further) {
        (None, _) => "*".into(),
        (Some(namespace), false) => namespace.clone(),
        (Some(namespace), true) => format!("{namespace}+"),
    };
    let what = format!("{group}\n{version}\n{kind}\n{plural}\n{namespace}\n{label_selector}\n{field_selector}");
    match service_account {
        None => what,
        Some(account) => format!("{what}\n{}", account.user()),
    }
}

/// The directory of journals. Clones share it.
#[derive(Clone)]
pub struct Journals {
    dir: PathBuf,
    disk: Disk,
    cipher: Option<Arc<Cipher>>,
    /// Names of the files that this host uses.
    used: Arc<Mutex<BTreeSet<OsString>>>,
}

/// The journal of one watch.
pub(super) struct Journal {
    path: PathBuf,
    disk: Disk,
    cipher: Option<Arc<Cipher>>,
    name: String,
    lineage: u64,
    /// Earlier hosts, and the last number that each has written.
    lineages: Vec<(u64, u64)>,
    /// Valid bytes of the file; 0: rewrite it.
    len: u64,
    /// Bytes after the last rewrite.
    written_len: u64,
    /// Whether this host's lineage is in the file.
    begun: bool,
}

/// A journal as the last host left it.
pub(super) struct Recovered {
    pub journal: Journal,
    pub index: Index,
    /// Whether the objects are in namespaces.
    pub namespaced: Option<bool>,
}

#[derive(Serialize, Deserialize)]
enum Record {
    /// A host starts to write.
    Head {
        name: String,
        lineage: u64,
        lineages: Vec<(u64, u64)>,
    },
    /// Precedes the other records of a block.
    About {
        floor: u64,
        namespaced: Option<bool>,
    },
    Present {
        key: Key,
        meta: SavedMeta,
        number: u64,
        differs: u64,
    },
    Past {
        key: Key,
        meta: SavedMeta,
        number: u64,
        stays: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedMeta {
    resource_version: u64,
    generation: i64,
    uid: u64,
    deleting: bool,
    owners: Vec<SavedOwner>,
}

#[derive(Serialize, Deserialize)]
struct SavedOwner {
    group: Box<str>,
    kind: Box<str>,
    name: Box<str>,
    controller: bool,
}

impl Journals {
    /// The journals in a state directory.
    ///
    /// # Errors
    /// The encryption key cannot be derived.
    pub fn new(state: &StateDir) -> io::Result<Journals> {
        // Names of controllers have no slash, so the name is unique.
        let cipher = state.cipher("watches/")?.map(Arc::new);
        Ok(Journals { dir: state.watches_dir(), disk: state.disk().clone(), cipher, used: Arc::default() })
    }

    /// Removes unused journals of earlier hosts: a guest that registers another selector each time leaves a journal
    /// each time. `now`: the time of day. Returns how many it removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn remove_unused(&self, now: SystemTime) -> io::Result<usize> {
        // The lock keeps watches from opening a journal now.
        let used = self.used.lock();
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            let is_used = path.file_stem().is_some_and(|name| used.contains(name));
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > MAX_UNUSED));
            if is_old && !is_used {
                match std::fs::remove_file(&path) {
                    Ok(()) => removed += 1,
                    Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove an old watch journal"),
                }
            }
        }
        Ok(removed)
    }

    /// How many objects a host recovers from a journal with these bytes. For fuzzing.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn recover_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        let request = WatchRequest { version: "v1".into(), kind: "Fuzzed".into(), ..WatchRequest::default() };
        self.disk.replace(&self.dir.join(format!("{:016x}", hash(&name(&request)))), bytes)?;
        Ok(self.recover(&request, 1).index.len())
    }

    /// Opens the journal of a watch, or starts one if it is missing or unreadable. `lineage`: another number for each
    /// host.
    pub(super) fn recover(&self, request: &WatchRequest, lineage: u64) -> Recovered {
        let name = name(request);
        let file = format!("{:016x}", hash(&name));
        let path = self.dir.join(&file);
        self.used.lock().insert(file.into());
        let mut journal = Journal {
            path,
            disk: self.disk.clone(),
            cipher: self.cipher.clone(),
            name,
            lineage,
            lineages: Vec::new(),
            len: 0,
            written_len: 0,
            begun: false,
        };
        match journal.read() {
            Ok(Some((index, namespaced))) => Recovered { journal, index, namespaced },
            Ok(None) => Recovered { journal, index: Index::default(), namespaced: None },
            Err(error) => {
                let path = journal.path.display();
                tracing::warn!(%path, %error, "cannot read a watch journal: all objects will be reconciled");
                Recovered { journal, index: Index::default(), namespaced: None }
            }
        }
    }
}

impl Journal {
    /// Hash of the watch's name.
    pub fn watch(&self) -> u64 {
        hash(&self.name)
    }

    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// The change number of a place; `None` if the journal does not cover it.
    pub fn number(&self, place: WatchPosition) -> Option<u64> {
        let of = self.lineages.iter().find(|(lineage, _)| *lineage == place.lineage);
        of.filter(|(_, last)| place.number <= *last).map(|_| place.number)
    }

    fn read(&mut self) -> io::Result<Option<(Index, Option<bool>)>> {
        let file = match self.disk.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        if size > MAX_LEN {
            return Err(io::Error::other(format!("{size} bytes exceed the limit of {MAX_LEN}")));
        }
        let mut bytes = vec![0; size as usize];
        let have = file.read_up_to(&mut bytes, 0)?;
        bytes.truncate(have);
        if bytes.get(..PREFIX_LEN) != Some(&prefix()[..]) {
            return Ok(None);
        }
        let mut content = Content::default();
        let mut at = PREFIX_LEN;
        while let Some((records, len)) = self.block(&bytes[at..]) {
            at += len;
            records.into_iter().for_each(|record| content.add(record));
        }
        if content.name != self.name {
            return Ok(None);
        }
        let (index, lineages, namespaced) = content.finish();
        self.lineages = lineages;
        (self.len, self.written_len) = (at as u64, at as u64);
        Ok(Some((index, namespaced)))
    }

    /// The first block and its length, if it is complete.
    fn block(&self, bytes: &[u8]) -> Option<(Vec<Record>, usize)> {
        let (head, rest) = bytes.split_at_checked(BLOCK_HEAD)?;
        let len = u32::from_le_bytes(*head.first_chunk()?) as usize;
        let body = rest.get(..len)?;
        if xxhash_rust::xxh3::xxh3_64(body) != u64::from_le_bytes(*head.last_chunk()?) {
            return None;
        }
        let records = match &self.cipher {
            None => postcard::from_bytes(body).ok()?,
            Some(cipher) => {
                let (nonce, rest) = body.split_first_chunk()?;
                let (tag, sealed) = rest.split_first_chunk()?;
                let mut plain = sealed.to_vec();
                cipher.decrypt(&mut plain, &AeadTag { nonce: *nonce, tag: *tag }).ok()?;
                postcard::from_bytes(&plain).ok()?
            }
        };
        Some((records, BLOCK_HEAD + len))
    }

    fn seal(&self, records: &[Record]) -> io::Result<Vec<u8>> {
        let mut body = postcard::to_stdvec(records).map_err(io::Error::other)?;
        if let Some(cipher) = &self.cipher {
            let AeadTag { nonce, tag } = cipher.encrypt(&mut body)?;
            body = [&nonce[..], &tag, &body].concat();
        }
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        let sum = xxhash_rust::xxh3::xxh3_64(&body);
        Ok([&len.to_le_bytes()[..], &sum.to_le_bytes(), &body].concat())
    }

    /// The content to write next; `None` if the file is current.
    pub fn to_save(&self, index: &mut Index) -> Option<ToSave> {
        let rewrite = self.len == 0 || self.len - self.written_len > self.written_len + SLACK;
        let nothing = ToSave { all: false, past: Vec::new(), present: Vec::new(), floor: index.floor() };
        // Without changes, the file still needs this host's lineage.
        index.to_save(rewrite).or((!self.begun).then_some(nothing))
    }

    /// Writes the content. The journal then covers every [`WatchPosition`] taken before the call of `to_save`.
    pub fn write(&mut self, to_save: Option<ToSave>, namespaced: Option<bool>) -> io::Result<()> {
        let Some(to_save) = to_save else { return Ok(()) };
        let all = to_save.all;
        let block = self.seal(&self.records(to_save, namespaced));
        let written = block.and_then(|block| if all { self.rewrite(&block) } else { self.append(&block) });
        if written.is_err() {
            // The next save rewrites the file.
            self.len = 0;
        }
        self.begun |= written.is_ok();
        written
    }

    #[cfg(test)]
    fn save_index(&mut self, index: &mut Index, namespaced: Option<bool>) -> io::Result<()> {
        let to_save = self.to_save(index);
        self.write(to_save, namespaced)
    }

    fn records(&self, to_save: ToSave, namespaced: Option<bool>) -> Vec<Record> {
        let ToSave { all, past, present, floor } = to_save;
        let head = (all || !self.begun).then(|| Record::Head {
            name: self.name.clone(),
            lineage: self.lineage,
            lineages: self.lineages.clone(),
        });
        let past = past.into_iter().map(|Past { key, meta, number, stays }| Record::Past {
            key,
            meta: (&meta).into(),
            number,
            stays,
        });
        let present = present.into_iter().map(|Present { key, meta, number, differs }| Record::Present {
            key,
            meta: (&meta).into(),
            number,
            differs,
        });
        head.into_iter().chain([Record::About { floor, namespaced }]).chain(past).chain(present).collect()
    }

    fn rewrite(&mut self, block: &[u8]) -> io::Result<()> {
        self.disk.replace(&self.path, &[&prefix()[..], block].concat())?;
        self.len = (PREFIX_LEN + block.len()) as u64;
        self.written_len = self.len;
        Ok(())
    }

    fn append(&mut self, block: &[u8]) -> io::Result<()> {
        let file = self.disk.open_or_create(&self.path)?;
        if !self.begun {
            // Cuts an incomplete block.
            file.set_len(self.len)?;
        }
        file.write_at(block, self.len)?;
        self.len += block.len() as u64;
        Ok(())
    }
}

fn prefix() -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    prefix[..8].copy_from_slice(&MAGIC);
    prefix[8..].copy_from_slice(&VERSION.to_le_bytes());
    prefix
}

/// Combines the records of a file into its content.
#[derive(Default)]
struct Content {
    name: String,
    lineage: u64,
    lineages: Vec<(u64, u64)>,
    floor: u64,
    namespaced: Option<bool>,
    last: u64,
    present: BTreeMap<Key, Present>,
    past: Vec<Past>,
    kinds: Vec<Arc<GroupKind>>,
}

impl Content {
    fn add(&mut self, record: Record) {
        match record {
            Record::Head { name, lineage, lineages } => {
                (self.name, self.lineage, self.lineages) = (name, lineage, lineages);
            }
            Record::About { floor, namespaced } => {
                (self.floor, self.namespaced) = (floor, namespaced);
                self.last = self.last.max(floor);
            }
            Record::Present { key, meta, number, differs } => {
                self.last = self.last.max(number);
                let meta = self.meta(meta);
                self.present.insert(key.clone(), Present { key, meta, number, differs });
            }
            Record::Past { key, meta, number, stays } => {
                self.last = self.last.max(number);
                let meta = self.meta(meta);
                if !stays {
                    self.present.remove(&key);
                }
                self.past.push(Past { key, meta, number, stays });
            }
        }
    }

    fn meta(&mut self, saved: SavedMeta) -> ObjectMetaLite {
        let SavedMeta { resource_version, generation, uid, deleting, owners } = saved;
        let owners = owners.into_iter().map(|SavedOwner { group, kind, name, controller }| {
            let known = self.kinds.iter().find(|known| known.group == group && known.kind == kind).cloned();
            let kind = known.unwrap_or_else(|| {
                self.kinds.push(Arc::new(GroupKind { group, kind }));
                self.kinds[self.kinds.len() - 1].clone()
            });
            OwnerRef { kind, name, controller }
        });
        let owners = owners.collect();
        ObjectMetaLite { resource_version: ResourceVersion(resource_version), generation, uid, deleting, owners }
    }

    fn finish(mut self) -> (Index, Vec<(u64, u64)>, Option<bool>) {
        self.lineages.push((self.lineage, self.last));
        let excess = self.lineages.len().saturating_sub(MAX_LINEAGES);
        self.lineages.drain(..excess);
        self.past.retain(|past| past.number > self.floor);
        let index = Index::restore(self.present.into_values().collect(), self.past, self.floor, self.last);
        (index, self.lineages, self.namespaced)
    }
}

impl From<&ObjectMetaLite> for SavedMeta {
    fn from(meta: &ObjectMetaLite) -> SavedMeta {
        let owners = meta.owners.iter().map(|owner| SavedOwner {
            group: owner.kind.group.clone(),
            kind: owner.kind.kind.clone(),
            name: owner.name.clone(),
            controller: owner.controller,
        });
        SavedMeta {
            resource_version: meta.resource_version.0,
            generation: meta.generation,
            uid: meta.uid,
            deleting: meta.deleting,
            owners: owners.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
