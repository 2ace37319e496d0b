//! Saving an instance into its controller's state file, and opening it again.
//!
//! A save writes the pages whose content has changed into free slots of the file, and then a header
//! that names all pages' slots: what an earlier header names stays as it is until the new one is surely
//! on disk (`slots`). So a save that ends anywhere leaves the snapshot before it whole, without a
//! second file, a rename or blocks to allocate.

use std::fs;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::disk::{Disk, DiskFile};
use super::format::{
    AREA_LEN, AREAS, Extent, FIRST_SLOT, FormatError, Kind, Moment, PREFIX_LEN, Prefix, SavedPage, Seal, StateHeader,
    is_zero, page_sum, prefix,
};
use super::image::{BaseImage, ImageError};
use super::seal::Sealer;
use super::slots;
use super::sync::Job;
use crate::guest::Guest;
use crate::memory::PAGE;

/// A snapshot whose data is more than this share of its base image's becomes a base image of its
/// own: mapping many pages is cheaper than copying them in on each resume.
const REBASE_SHARE: u64 = 2;
/// ... but below this many pages copying is cheap anyway, and a base of one's own costs disk.
const REBASE_MIN_PAGES: u64 = 256;
/// Nor is it kept once resumes have copied so many times as many pages one by one as its base image
/// has: a new one costs about that.
const REBASE_COPIES: u64 = 2;
/// Up to so many pages are copied at a resume. Of more, long runs are mapped: a page that is copied costs
/// little, but each time.
const COPIED_PAGES: usize = 256;
/// A run of so many pages is long: to map it costs as much as to copy some ten pages.
const MAPPED_RUN: u32 = 16;
/// Pages encrypted before they are written.
const SEALED_AT_ONCE: usize = 64;
/// The file is cut when it has more slots than this beyond what is in use.
const SPARE_SLOTS: u32 = 64;

/// A snapshot that can be resumed from. Small: one per suspended controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRef {
    /// Of its header.
    seq: u64,
    area: u8,
    /// Generation of the base image it needs; 0: the package's.
    pub base_generation: u64,
    /// Bytes on disk, with a base image of its own.
    pub disk_bytes: u64,
    /// Pages that resumes had to copy one by one since there is this base image.
    copied: u64,
}

/// What an instance that goes on from a snapshot must know of it, to save only what changes.
#[derive(Default)]
pub struct Previous {
    /// `None`: nothing is saved yet.
    snapshot: Option<SnapshotRef>,
    pages: Vec<SavedPage>,
    /// The pages are encrypted.
    sealed: bool,
    /// First slot and number of those that hold the header.
    header_slots: (u32, u32),
}

impl Previous {
    /// A resume had to copy so many pages.
    pub fn copied(&mut self, pages: usize) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|_| pages > COPIED_PAGES) {
            snapshot.copied += pages as u64;
        }
    }

    /// Pages that differ from the base image.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether a page is among those that differ from the base image.
    pub fn has(&self, page: u32) -> bool {
        self.pages.binary_search_by_key(&page, |p| p.page).is_ok()
    }
}

/// What of an instance's memory is mapped from its state file, over the base image.
///
/// A page of it that was written since is anonymous, and what lies below may have become anything: its
/// slot is free once the page has another.
#[derive(Default)]
pub struct Overlay(Vec<Extent>);

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pages that are mapped, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|e| e.page..e.page + e.count)
    }

    /// The slot that shows where `page` is not anonymous.
    fn slot_of(&self, page: u32) -> Option<u32> {
        let at = self.0.partition_point(|e| e.page <= page).checked_sub(1)?;
        let e = &self.0[at];
        (page < e.page + e.count).then(|| e.slot + (page - e.page))
    }
}

/// What a save made.
pub struct Saved {
    pub snapshot: SnapshotRef,
    pub previous: Previous,
    /// Bytes of pages with data that the base image has not.
    pub dirty_bytes: u64,
    /// Bytes written to disk.
    pub written_bytes: u64,
    /// Anonymous pages of the instance: its memory can be used again, see `memory::Spare`.
    pub anonymous: Vec<u32>,
    files: Vec<PathBuf>,
    dir: Option<PathBuf>,
    obsolete: Vec<PathBuf>,
}

/// An opened snapshot: header read and checked, page data not yet.
pub struct OpenSnapshot {
    file: DiskFile,
    pub header: StateHeader,
    pub previous: Previous,
}

/// Where one controller keeps its state.
pub struct ControllerStore {
    dir: PathBuf,
    disk: Disk,
    /// Tells it from others of this process.
    id: u64,
    /// Encrypts what is written.
    sealer: Option<Sealer>,
    /// `seq` and room of the newest snapshot that is surely on disk.
    durable_seq: AtomicU64,
    durable_area: AtomicU8,
    /// The disk has refused to say that pages lie on it: all are to be written again.
    doubtful: AtomicBool,
}

impl ControllerStore {
    pub(super) fn new(dir: PathBuf, disk: Disk, sealer: Option<Sealer>) -> ControllerStore {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (durable_seq, durable_area, doubtful) = Default::default();
        ControllerStore { dir, disk, id, sealer, durable_seq, durable_area, doubtful }
    }

    /// Tells it from others of this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn base_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("base.{generation}"))
    }

    /// The newest whole snapshot of an earlier host, all of it checked, or `None` if there is none. What
    /// belongs to no snapshot is removed.
    pub fn recover(
        &self,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, StateHeader)>, ImageError> {
        let found = self.newest_whole(digest, package_image)?;
        let keep = found.as_ref().map_or(0, |(snapshot, _)| snapshot.base_generation);
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name != "state" && (keep == 0 || name != format!("base.{keep}")) {
                let _ = self.disk.remove(&entry.path());
            }
        }
        if let Some((snapshot, _)) = &found {
            self.settled(snapshot);
        }
        Ok(found)
    }

    fn newest_whole(
        &self,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, StateHeader)>, ImageError> {
        let file = match self.disk.open(&self.state_path()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut refused = None;
        let mut candidates = Vec::new();
        for area in 0..AREAS {
            match self.read_header(&file, area) {
                Ok(Some(found)) => candidates.push((found, area)),
                Ok(None) => {}
                // Not damaged: refusing must not cost the controller its state.
                Err(error @ ImageError::Format(FormatError::NoKey | FormatError::OtherKey)) => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        candidates.sort_by_key(|((prefix, _), _)| std::cmp::Reverse(prefix.seq));
        for ((prefix, header), area) in candidates {
            match self.check(&file, &header, digest, package_image) {
                Ok(disk_bytes) => {
                    if let Some(reason) = refused {
                        let dir = self.dir.display();
                        tracing::info!(%dir, %reason, "a snapshot that was not wholly written is passed over");
                    }
                    let snapshot = SnapshotRef {
                        seq: prefix.seq,
                        area,
                        base_generation: header.base_generation,
                        disk_bytes,
                        copied: 0,
                    };
                    return Ok(Some((snapshot, header)));
                }
                // The newest one's reason is the one worth telling.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Checks all that a header names; returns the bytes on disk.
    fn check(
        &self,
        file: &DiskFile,
        header: &StateHeader,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<u64, ImageError> {
        header.check_digest(digest)?;
        let mut disk_bytes = file.allocated()?;
        let base = if header.base_generation == 0 {
            package_image.clone()
        } else {
            let path = self.base_path(header.base_generation);
            let base = BaseImage::open(&self.disk, &path, header.base_generation)?;
            disk_bytes += base.header.data_pages() * PAGE as u64;
            Arc::new(base)
        };
        fits(header, &base)?;
        self.read_pages(file, &header.pages(), !header.seals.is_empty(), |_, _| Ok(()))?;
        Ok(disk_bytes)
    }

    /// A file without a name: it is gone with the last that has it open or mapped.
    pub fn unnamed_file(&self) -> io::Result<DiskFile> {
        let path = self.dir.join("unnamed.tmp");
        let file = self.disk.create(&path)?;
        self.disk.remove(&path)?;
        Ok(file)
    }

    /// Forgets the snapshot: a later [`ControllerStore::recover`] finds none.
    pub fn discard(&self) -> io::Result<()> {
        fs::read_dir(&self.dir)?.try_for_each(|entry| self.disk.remove(&entry?.path()))
    }

    /// Opens a snapshot of this process or one that [`ControllerStore::recover`] has checked.
    pub fn open(&self, snapshot: &SnapshotRef) -> Result<OpenSnapshot, ImageError> {
        let file = self.disk.open(&self.state_path())?;
        let (prefix, header) = self
            .read_header(&file, snapshot.area)?
            .ok_or(FormatError::Truncated { have: 0, need: PREFIX_LEN as u64 })?;
        if prefix.seq != snapshot.seq {
            return Err(FormatError::Header("another snapshot is in its place").into());
        }
        let header_slots = header_slots(&prefix);
        let (pages, sealed) = (header.pages(), prefix.sealed);
        let previous = Previous { snapshot: Some(*snapshot), pages, sealed, header_slots };
        Ok(OpenSnapshot { file, header, previous })
    }

    /// The header in one of a state file's rooms; `None` if the room was never used.
    fn read_header(&self, file: &DiskFile, area: u8) -> Result<Option<(Prefix, StateHeader)>, ImageError> {
        let mut room = [0; AREA_LEN];
        let have = file.read_up_to(&mut room, area_offset(area))?;
        let room = &room[..have];
        if room.iter().take(PREFIX_LEN).all(|b| *b == 0) {
            return Ok(None);
        }
        let found = Prefix::read(Kind::State, room)?;
        let mut elsewhere = Vec::new();
        let body = match found.header_slot {
            0 => room[PREFIX_LEN..].get(..found.header_len),
            slot => {
                elsewhere.resize(found.header_len, 0);
                let have = file.read_up_to(&mut elsewhere, offset_of(slot))?;
                elsewhere.get(..found.header_len).filter(|_| have == found.header_len)
            }
        };
        let body = body.ok_or(FormatError::Truncated { have: have as u64, need: found.header_len as u64 })?;
        found.check(room, body)?;
        if !found.sealed {
            return Ok(Some((found, StateHeader::decode(body)?)));
        }
        let sealer = self.sealer.as_ref().ok_or(FormatError::NoKey)?;
        if sealer.id() != found.key_id {
            return Err(FormatError::OtherKey.into());
        }
        let (text, tag) = body.split_last_chunk().ok_or(FormatError::Header("too short"))?;
        let mut text = text.to_vec();
        sealer.open(&mut text, &Seal { nonce: found.nonce, tag: *tag })?;
        Ok(Some((found, StateHeader::decode(&text)?)))
    }

    /// Reads pages from slots in a row, decrypts them, and checks that they are what was saved.
    fn read_pages(
        &self,
        file: &DiskFile,
        pages: &[SavedPage],
        sealed: bool,
        mut put: impl FnMut(u32, &[u8]) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let mut page = vec![0; PAGE];
        for saved in pages.iter().filter(|p| p.slot != 0) {
            let have = file.read_up_to(&mut page, offset_of(saved.slot))?;
            if have == PAGE && sealed {
                self.sealer.as_ref().ok_or(FormatError::NoKey)?.open(&mut page, &saved.seal)?;
            }
            if have < PAGE || page_sum(&page) != saved.sum {
                return Err(FormatError::DataChecksum.into());
            }
            put(saved.page, &page)?;
        }
        Ok(())
    }

    /// The base image of an opened snapshot.
    pub fn base(&self, header: &StateHeader, package_image: &Arc<BaseImage>) -> Result<Arc<BaseImage>, ImageError> {
        let base = match header.base_generation {
            0 => package_image.clone(),
            own => Arc::new(BaseImage::open_checked_before(&self.disk, &self.base_path(own), own)?),
        };
        fits(header, &base)?;
        Ok(base)
    }

    /// Writes what `guest` has changed since `previous`. `base` is the image it is mapped from; `clean`
    /// are pages, ascending, that were copied from it and need no saving unless they have changed since.
    /// With `may_rebase` a large difference is written as a new base image; only for a guest that is
    /// dropped afterwards.
    ///
    /// `seq` must be greater than that of any earlier save of this controller.
    #[allow(clippy::too_many_arguments)]
    pub fn save(
        &self,
        guest: &mut Guest,
        base: &Arc<BaseImage>,
        previous: &Previous,
        clean: &[u32],
        moment: Moment,
        seq: u64,
        may_rebase: bool,
    ) -> io::Result<Saved> {
        let globals = guest.globals().map_err(io::Error::other)?;
        let (memory, store) = guest.memory();
        let anonymous = memory.dirty_pages()?;
        let memory = memory.bytes(store);
        let page_of = |n: u32| &memory[n as usize * PAGE..][..PAGE];
        let sealer = self.sealer.as_ref();
        let rewrite = self.doubtful.load(Ordering::Acquire) || previous.sealed != sealer.is_some();
        let mut pages = Vec::with_capacity(anonymous.len());
        // Which of `pages` are still to be written.
        let mut changed = Vec::new();
        let mut scratch = vec![0; PAGE];
        for n in union(&anonymous, &previous.pages) {
            let before = previous.pages.binary_search_by_key(&n, |p| p.page).ok().map(|i| previous.pages[i]);
            // Still mapped from its slot: not even looked at.
            if let Some(before) = before.filter(|_| !rewrite && anonymous.binary_search(&n).is_err()) {
                pages.push(before);
                continue;
            }
            let content = page_of(n);
            if is_zero(content) {
                if n < base.pages() {
                    pages.push(SavedPage { page: n, ..SavedPage::default() });
                }
                continue;
            }
            let sum = page_sum(content);
            if let Some(before) = before.filter(|b| b.slot != 0 && b.sum == sum && !rewrite) {
                pages.push(before);
                continue;
            }
            let from_base = before.is_none() && clean.binary_search(&n).is_ok();
            if from_base && base.read_page(n, &mut scratch)? && scratch == content {
                continue;
            }
            changed.push(pages.len());
            pages.push(SavedPage { page: n, sum, ..SavedPage::default() });
        }
        let mut written_bytes = 0;
        let (mut files, mut obsolete) = (Vec::new(), Vec::new());
        let durable = (self.durable_seq.load(Ordering::Acquire), self.durable_area.load(Ordering::Acquire));
        let mut dir = (durable.0 == 0).then(|| self.dir.clone());
        if base.generation > durable.0 {
            // Its own save is not on disk yet, or could not be put there.
            files.push(base.path().to_owned());
            dir = Some(self.dir.clone());
        }
        let data_pages = pages.iter().filter(|p| p.slot != 0).count() + changed.len();
        let dirty_bytes = (data_pages * PAGE) as u64;
        let own_base;
        let mut base = base;
        // A base image is mapped as it is, so there is none of one's own where all is encrypted.
        let is_large = data_pages as u64 > REBASE_MIN_PAGES.max(base.header.data_pages() / REBASE_SHARE);
        let is_dear = previous.snapshot.is_some_and(|s| s.copied > REBASE_COPIES * base.header.data_pages());
        if may_rebase && sealer.is_none() && (is_large || is_dear) {
            let path = self.base_path(seq);
            let mut differs = vec![false; memory.len() / PAGE];
            for n in union(&anonymous, &previous.pages) {
                differs[n as usize] = true;
            }
            // Clean pages are copied from the file: touching them through the mapping would raise
            // the host's memory just when it is to fall.
            let image =
                BaseImage::write(&self.disk, &path, &moment, memory.len() as u64, globals.clone(), seq, |n, page| {
                    if differs[n as usize] {
                        page.copy_from_slice(page_of(n));
                        return Ok(true);
                    }
                    base.read_page(n, page)
                })?;
            written_bytes += image.header.data_pages() * PAGE as u64;
            files.push(path);
            dir = Some(self.dir.clone());
            if base.generation != 0 {
                obsolete.push(base.path().to_owned());
            }
            (pages, changed) = (Vec::new(), Vec::new());
            own_base = Arc::new(image);
            base = &own_base;
        }

        let file = self.disk.open_or_create(&self.state_path())?;
        let end = file.size()?.div_ceil(PAGE as u64) as u32;
        let reuse = previous.snapshot.is_some_and(|s| s.seq == durable.0);
        let mut used: Vec<u32> = previous.pages.iter().map(|p| p.slot).filter(|s| *s != 0).collect();
        used.extend(previous.header_slots.0..previous.header_slots.0 + previous.header_slots.1);
        let mut chosen = slots::choose(&mut used, end, changed.len(), reuse);
        for (&i, &slot) in changed.iter().zip(&chosen) {
            pages[i].slot = slot;
        }
        let row = |a: &usize, b: &usize| pages_in_a_row(&pages, *a, *b);
        for piece in changed.chunk_by(row).map(<[usize]>::to_vec).collect::<Vec<_>>() {
            let at = offset_of(pages[piece[0]].slot);
            let Some(sealer) = sealer else {
                let slices: Vec<IoSlice<'_>> = piece
                    .chunk_by(|a, b| pages[*a].page + 1 == pages[*b].page)
                    .map(|run| IoSlice::new(&memory[pages[run[0]].page as usize * PAGE..][..run.len() * PAGE]))
                    .collect();
                file.write_vectored_at(&slices, at)?;
                continue;
            };
            // In pieces: the peak is not to grow with the memory.
            for (n, few) in piece.chunks(SEALED_AT_ONCE).enumerate() {
                let mut text = Vec::with_capacity(few.len() * PAGE);
                for &i in few {
                    let from = text.len();
                    text.extend_from_slice(page_of(pages[i].page));
                    pages[i].seal = sealer.seal(&mut text[from..])?;
                }
                file.write_at(&text, at + (n * SEALED_AT_ONCE * PAGE) as u64)?;
            }
        }
        written_bytes += (changed.len() * PAGE) as u64;

        let mut header = StateHeader {
            digest: moment.digest,
            base_generation: base.generation,
            base_sum: base.header.data_sum,
            memory_size: memory.len() as u64,
            globals,
            wall_ns: moment.wall_ns,
            monotonic_ns: moment.monotonic_ns,
            extents: Vec::new(),
            sums: Vec::new(),
            seals: Vec::new(),
            host_state: moment.host_state,
        };
        header.set_pages(&pages, sealer.is_some());
        let mut body = header.encode();
        let mut sealed = None;
        if let Some(sealer) = sealer {
            let seal = sealer.seal(&mut body)?;
            body.extend_from_slice(&seal.tag);
            sealed = Some((seal.nonce, sealer.id()));
        }
        let taken = previous.snapshot.map(|s| s.area);
        let area = (0..AREAS).find(|a| Some(*a) != taken && (durable.0 == 0 || *a != durable.1)).unwrap_or(0);
        let mut header_at = (0, 0);
        if PREFIX_LEN + body.len() > AREA_LEN {
            let count = body.len().div_ceil(PAGE) as u32;
            used.append(&mut chosen);
            let first = used.iter().max().map_or(FIRST_SLOT, |s| s + 1).max(end);
            header_at = (first, count);
            file.write_at(&body, offset_of(first))?;
            file.write_at(&prefix(Kind::State, seq, &body, first, sealed), area_offset(area))?;
        } else {
            let prefix = prefix(Kind::State, seq, &body, 0, sealed);
            file.write_vectored_at(&[IoSlice::new(&prefix), IoSlice::new(&body)], area_offset(area))?;
        }
        written_bytes += (PREFIX_LEN + body.len()).next_multiple_of(PAGE) as u64;
        let in_use = used.iter().chain(&chosen).max().map_or(FIRST_SLOT, |s| s + 1).max(header_at.0 + header_at.1);
        if reuse && end > in_use + SPARE_SLOTS {
            file.set_len(offset_of(in_use))?;
        }
        self.doubtful.store(false, Ordering::Release);
        files.push(self.state_path());
        let own = if base.generation == 0 { 0 } else { base.header.data_pages() * PAGE as u64 };
        let disk_bytes = offset_of(end.min(in_use + SPARE_SLOTS).max(in_use)) + own;
        let same_base = previous.snapshot.filter(|s| s.base_generation == base.generation);
        let copied = same_base.map_or(0, |s| s.copied);
        let snapshot = SnapshotRef { seq, area, base_generation: base.generation, disk_bytes, copied };
        let previous = Previous { snapshot: Some(snapshot), pages, sealed: sealed.is_some(), header_slots: header_at };
        Ok(Saved { snapshot, previous, dirty_bytes, written_bytes, anonymous, files, dir, obsolete })
    }

    /// All that `snapshot` needs is on disk.
    fn settled(&self, snapshot: &SnapshotRef) {
        self.durable_area.store(snapshot.area, Ordering::Release);
        self.durable_seq.store(snapshot.seq, Ordering::Release);
    }
}

impl Saved {
    /// For the `Syncer`; `done` is the caller's, called once the snapshot is durable.
    pub fn job(&mut self, store: &Arc<ControllerStore>, done: impl FnOnce(io::Result<()>) + Send + 'static) -> Job {
        let (store, snapshot) = (store.clone(), self.snapshot);
        let done = move |result: io::Result<()>| {
            match &result {
                Ok(()) => store.settled(&snapshot),
                // The kernel may have dropped what it could not write, and will not say so again.
                Err(_) => store.doubtful.store(true, Ordering::Release),
            }
            done(result);
        };
        Job {
            files: std::mem::take(&mut self.files),
            dir: self.dir.take(),
            obsolete: std::mem::take(&mut self.obsolete),
            done: Box::new(done),
        }
    }
}

impl OpenSnapshot {
    /// Puts pages and globals into an instance that was mapped from the snapshot's base image. `overlay`:
    /// what its memory has mapped already; `anonymous`: pages, ascending, that show something else. Returns
    /// how many pages were copied.
    pub fn apply(
        &self,
        of: &ControllerStore,
        guest: &mut Guest,
        overlay: &mut Overlay,
        anonymous: &[u32],
    ) -> Result<usize, ImageError> {
        let (memory, store) = guest.memory();
        for zero in self.previous.pages.iter().filter(|p| p.slot == 0) {
            memory.write(store, zero.page as usize * PAGE, &ZERO_PAGE)?;
        }
        if self.previous.sealed {
            of.read_pages(&self.file, &self.previous.pages, true, |page, content| {
                memory.write(store, page as usize * PAGE, content)
            })?;
            guest.set_globals(&self.header.globals).map_err(io::Error::other)?;
            return Ok(self.previous.pages.len());
        }
        let file = self.file.for_reading()?;
        let mut stored: Vec<&SavedPage> = self.previous.pages.iter().filter(|p| p.slot != 0).collect();
        if overlay.is_empty() && stored.len() > COPIED_PAGES {
            for e in self.header.extents.iter().filter(|e| e.slot != 0 && e.count >= MAPPED_RUN) {
                let (offset, len) = (e.page as usize * PAGE, e.count as usize * PAGE);
                // Mappings are limited (vm.max_map_count): when they run out, the rest is copied.
                if memory.map_from(store, file, offset_of(e.slot), offset, len).is_err() {
                    break;
                }
                overlay.0.push(*e);
            }
            stored.retain(|p| overlay.slot_of(p.page).is_none());
        } else {
            let is_there = |p: &SavedPage| overlay.slot_of(p.page) == Some(p.slot);
            stored.retain(|p| !is_there(p) || anonymous.binary_search(&p.page).is_ok());
        }
        stored.sort_unstable_by_key(|p| p.slot);
        for piece in stored.chunk_by(|a, b| a.slot + 1 == b.slot) {
            let pages: Vec<u32> = piece.iter().map(|p| p.page).collect();
            memory.read_pages(store, file, offset_of(piece[0].slot), &pages)?;
        }
        let memory = memory.bytes(store);
        if stored.iter().any(|p| page_sum(&memory[p.page as usize * PAGE..][..PAGE]) != p.sum) {
            return Err(FormatError::DataChecksum.into());
        }
        guest.set_globals(&self.header.globals).map_err(io::Error::other)?;
        Ok(stored.len())
    }
}

/// Whether the second of two pages lies behind the first in the file.
fn pages_in_a_row(pages: &[SavedPage], a: usize, b: usize) -> bool {
    pages[a].slot + 1 == pages[b].slot
}

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

fn offset_of(slot: u32) -> u64 {
    u64::from(slot) * PAGE as u64
}

fn area_offset(area: u8) -> u64 {
    u64::from(area) * AREA_LEN as u64
}

/// First slot and number of those that hold the header.
fn header_slots(prefix: &Prefix) -> (u32, u32) {
    match prefix.header_slot {
        0 => (0, 0),
        first => (first, prefix.header_len.div_ceil(PAGE) as u32),
    }
}

fn fits(header: &StateHeader, base: &BaseImage) -> Result<(), FormatError> {
    if base.header.data_sum != header.base_sum || base.size() > header.memory_size {
        return Err(FormatError::Header("its base image is another one"));
    }
    Ok(())
}

/// Page numbers of either, ascending.
fn union<'a>(pages: &'a [u32], saved: &'a [SavedPage]) -> impl Iterator<Item = u32> + 'a {
    let (mut a, mut b) = (pages.iter().copied().peekable(), saved.iter().map(|p| p.page).peekable());
    std::iter::from_fn(move || match (a.peek().copied(), b.peek().copied()) {
        (Some(x), Some(y)) => {
            if x <= y {
                a.next();
            }
            if y <= x {
                b.next();
            }
            Some(x.min(y))
        }
        (Some(_), None) => a.next(),
        (None, _) => b.next(),
    })
}
