//! An instance into its controller's state file.
//!
//! A save writes the pages whose content has changed into free slots of the file, and then a header
//! that names all pages' slots: what an earlier header names stays as it is until the new one is surely
//! on disk (`slots`). So a save that ends anywhere leaves the snapshot before it whole, without a
//! second file, a rename or blocks to allocate. What the instance maps of the file stays as well, in place
//! and within the file, until its memory is gone.
//!
//! What is in slots is copied at each resume, so of a controller that changes much, pages go back to
//! their places in its own base image: those that the newest header, surely on disk, names a slot for.
//! They count there as soon as a header no longer names them. A page that changes each time is
//! written alternately into a slot and to its place, once a save.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::difference::{Difference, difference, joined, page_of};
use crate::disk::DiskFile;
use crate::format::{
    AREA_LEN, AREAS, Fold, Kind, Moment, PREFIX_LEN, SavedPage, StateHeader, area_offset, offset_of, prefix,
    runs_with_gaps,
};
use crate::image::BaseImage;
use crate::page::PAGE;
use crate::slots::Slots;
use crate::snapshot_ref::SnapshotRef;
use crate::sources::{Previous, READ_GAP, Sources};
use crate::store::ControllerStore;
use crate::sync::Job;

/// A snapshot whose data is more than this share of the package's base image becomes a base image of
/// the controller's own: mapping many pages is cheaper than copying them in on each resume.
const REBASE_SHARE: u64 = 2;
/// ... but below this many pages copying is cheap anyway, and a base of one's own costs disk.
const REBASE_MIN_PAGES: u64 = 256;
/// The package's is not kept either once resumes have copied so many times as many pages one by one as
/// it has: a new one costs about that.
const REBASE_COPIES: u64 = 2;
/// Pages encrypted before they are written: the peak is not to grow with the memory.
const SEALED_AT_ONCE: usize = 64;
/// The file is cut when it has more slots than this beyond what is in use.
const SPARE_SLOTS: u32 = 64;

/// An instance that does not run: what a save is made of.
pub struct InstanceState<'a> {
    /// All of its memory.
    pub memory: &'a [u8],
    /// The mutable globals' bits, in order.
    pub globals: Vec<u64>,
    /// Pages that may differ from what was mapped, ascending.
    pub anonymous: Vec<u32>,
    /// Pages of the mapped image that were touched, ascending; read if [`Sources::needs_touched_pages`].
    pub touched: Vec<u32>,
}

/// What a save made.
pub struct Saved {
    pub snapshot: SnapshotRef,
    /// For the next save, if the instance goes on.
    pub previous: Previous,
    /// Bytes of pages with data that the base image has not.
    pub dirty_bytes: u64,
    /// Bytes written to disk.
    pub written_bytes: u64,
    /// Anonymous pages of the instance: its memory can be used again, see `memory::Spare`.
    pub anonymous: Vec<u32>,
    files: Files,
}

/// What a save has written, and what of it must be on disk before it counts as durable.
#[derive(Default)]
struct Files {
    written: Vec<PathBuf>,
    dir: Option<PathBuf>,
    obsolete: Vec<PathBuf>,
    bytes: u64,
}

impl ControllerStore {
    /// Writes what an instance has changed since it was made of `sources`. `ends`: the instance is dropped
    /// afterwards, so the base image below it may change, or another take its place.
    pub fn save(&self, state: InstanceState<'_>, sources: &Sources, moment: Moment, ends: bool) -> io::Result<Saved> {
        // Whoever is told of trouble meanwhile sets it again, for the next save.
        let doubtful = self.doubtful.swap(false, Ordering::AcqRel);
        let saved = self.save_all(state, sources, moment, ends, doubtful);
        // Pages of a base image that is mapped can't be written anew.
        let is_mended = ends || sources.base.generation == 0 || self.sealer.is_some();
        if doubtful && (saved.is_err() || !is_mended) {
            self.doubtful.store(true, Ordering::Release);
        }
        saved
    }

    fn save_all(
        &self,
        state: InstanceState<'_>,
        sources: &Sources,
        moment: Moment,
        ends: bool,
        doubtful: bool,
    ) -> io::Result<Saved> {
        let seq = self.last_seq.fetch_add(1, Ordering::AcqRel) + 1;
        let durable = (self.durable_seq.load(Ordering::Acquire), self.durable_area.load(Ordering::Acquire));
        let previous = &sources.previous;
        let InstanceState { memory, globals, anonymous, touched } = state;
        let touched = match &sources.touched {
            Some(known) => known.clone(),
            None => runs_with_gaps(touched, READ_GAP),
        };
        let rewrite = doubtful || previous.sealed != self.sealer.is_some();
        let reuse = previous.snapshot.is_some_and(|s| s.seq == durable.0);
        let mut difference = difference(memory, &anonymous, sources, rewrite)?;
        let expected = difference.expected();
        let mut base = sources.base.clone();
        if ends && reuse && !rewrite && base.generation != 0 && self.sealer.is_none() {
            if base.size() < memory.len() as u64 {
                base = Arc::new(base.grown(&self.disk, memory.len() as u64)?);
            }
            difference.write_back(&base, previous);
        }
        let data_pages = difference.pages.iter().filter(|p| p.slot != 0).count() + difference.changed.len();

        self.check_quota((data_pages * PAGE) as u64 + base.own_bytes()?)?;

        let mut files = Files { dir: (durable.0 == 0).then(|| self.dir.clone()), ..Files::default() };
        let (base_sum, known) = if ends && self.is_to_be_rebased(sources, data_pages as u64, doubtful) {
            base = Arc::new(self.write_base(memory, &anonymous, sources, &moment, globals.clone(), seq, &mut files)?);
            difference = Difference::default();
            (Fold(base.header.data_sum), Vec::new())
        } else {
            let sums = difference.base_sum(memory, &base, sources)?;
            self.write_pages_back(memory, &base, &difference.back, seq, &mut files)?;
            sums
        };
        if base.generation != 0 && self.base_written.load(Ordering::Acquire) > durable.0 {
            // Before the header that counts on it, so that it is seldom found without.
            files.written.push(base.path().to_owned());
        }
        if base.generation > durable.0 {
            files.dir = Some(self.dir.clone());
        }

        let file = self.disk.open_or_create(&self.state_path())?;
        let end = file.size()?.div_ceil(PAGE as u64) as u32;
        if end == 0 {
            // New: the one before may have been discarded after it was on disk.
            files.dir = Some(self.dir.clone());
        }
        let mut used: Vec<u32> = previous.pages.iter().map(|p| p.slot).filter(|s| *s != 0).collect();
        used.extend(previous.header_slots.0..previous.header_slots.0 + previous.header_slots.1);
        used.extend(sources.overlay.slots());
        let mut slots = Slots::new(used, end, reuse);
        self.write_pages(&file, memory, &mut difference, &mut slots)?;
        files.bytes += (difference.changed.len() * PAGE) as u64;

        let mut header = StateHeader {
            digest: moment.digest,
            base_generation: base.generation,
            base_sum: base_sum.0,
            memory_size: memory.len() as u64,
            globals,
            wall_ns: moment.wall_ns,
            monotonic_ns: moment.monotonic_ns,
            expected,
            touched,
            known,
            extents: Vec::new(),
            sums: Vec::new(),
            seals: Vec::new(),
            host_state: moment.host_state,
        };
        header.set_pages(&difference.pages, self.sealer.is_some());
        let taken = previous.snapshot.map(|s| s.area);
        let area = (0..AREAS).find(|a| Some(*a) != taken && (durable.0 == 0 || *a != durable.1)).unwrap_or(0);
        let header_slots = self.write_header(&file, &header, seq, area, &mut slots, &mut files)?;
        let in_use = slots.in_use();
        if reuse && end > in_use + SPARE_SLOTS {
            // The snapshot is complete: a file that stays too long is no reason to refuse it.
            let _ = file.set_len(offset_of(in_use));
        }
        files.written.push(self.state_path());

        let disk_bytes = offset_of(end.min(in_use + SPARE_SLOTS).max(in_use)) + base.own_bytes()?;
        let same_base = previous.snapshot.filter(|s| s.base_generation == base.generation);
        let copied = same_base.map_or(0, |s| s.copied);
        let snapshot = SnapshotRef { seq, area, base_generation: base.generation, disk_bytes, copied };
        let (pages, sealed) = (difference.pages, self.sealer.is_some());
        Ok(Saved {
            snapshot,
            previous: Previous { snapshot: Some(snapshot), pages, base_sum, sealed, header_slots },
            dirty_bytes: (data_pages * PAGE) as u64,
            written_bytes: files.bytes,
            anonymous,
            files,
        })
    }

    /// A base image is mapped as it is, so there is none of one's own where all is encrypted.
    fn is_to_be_rebased(&self, sources: &Sources, data_pages: u64, doubtful: bool) -> bool {
        if self.sealer.is_some() {
            return false;
        }
        if sources.base.generation != 0 {
            return doubtful;
        }
        let in_base = sources.base.header.data_pages();
        if (in_base + data_pages) * PAGE as u64 > self.quota {
            return false;
        }
        let is_large = data_pages > REBASE_MIN_PAGES.max(in_base / REBASE_SHARE);
        let is_dear = sources.previous.snapshot.is_some_and(|s| s.copied > REBASE_COPIES * in_base);
        is_large || is_dear
    }

    #[allow(clippy::too_many_arguments)]
    fn write_base(
        &self,
        memory: &[u8],
        anonymous: &[u32],
        sources: &Sources,
        moment: &Moment,
        globals: Vec<u64>,
        generation: u64,
        files: &mut Files,
    ) -> io::Result<BaseImage> {
        let path = self.base_path(generation);
        self.base_written.store(generation, Ordering::Release);
        let old = &sources.base;
        let mut differs = vec![false; memory.len() / PAGE];
        for (n, ..) in joined(anonymous, &sources.previous.pages) {
            differs[n as usize] = true;
        }
        // Clean pages are copied from the file: touching them through the mapping would raise
        // the host's memory just when it is to fall.
        let size = memory.len() as u64;
        let image = BaseImage::write(&self.disk, &path, moment, size, globals, generation, |n, page| {
            if differs[n as usize] {
                page.copy_from_slice(page_of(memory, n));
                return Ok(true);
            }
            old.read_page(n, page)
        })?;
        files.bytes += image.header.data_pages() * PAGE as u64;
        if old.generation != 0 {
            files.obsolete.push(old.path().to_owned());
        }
        Ok(image)
    }

    /// Puts pages back to their places in the controller's own base image.
    fn write_pages_back(
        &self,
        memory: &[u8],
        base: &BaseImage,
        pages: &[u32],
        seq: u64,
        files: &mut Files,
    ) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        self.base_written.store(seq, Ordering::Release);
        let file = base.open_for_writing(&self.disk)?;
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            file.write_at(&memory[run[0] as usize * PAGE..][..run.len() * PAGE], base.offset_of(run[0]))?;
        }
        files.bytes += (pages.len() * PAGE) as u64;
        Ok(())
    }

    /// Puts what has changed into slots.
    fn write_pages(
        &self,
        file: &DiskFile,
        memory: &[u8],
        difference: &mut Difference,
        slots: &mut Slots,
    ) -> io::Result<()> {
        let Difference { pages, changed, .. } = difference;
        let mut to_write: Vec<SavedPage> = changed.iter().map(|i| pages[*i]).collect();
        for (page, slot) in to_write.iter_mut().zip(slots.take(changed.len())) {
            page.slot = slot;
        }
        for row in to_write.chunk_by_mut(|a, b| a.slot + 1 == b.slot) {
            match &self.sealer {
                None => {
                    let runs = row.chunk_by(|a, b| a.page + 1 == b.page);
                    let slices: Vec<IoSlice<'_>> = runs
                        .map(|run| IoSlice::new(&memory[run[0].page as usize * PAGE..][..run.len() * PAGE]))
                        .collect();
                    file.write_vectored_at(&slices, offset_of(row[0].slot))?;
                }
                Some(sealer) => {
                    for few in row.chunks_mut(SEALED_AT_ONCE) {
                        let mut text = Vec::with_capacity(few.len() * PAGE);
                        for page in &mut *few {
                            let from = text.len();
                            text.extend_from_slice(page_of(memory, page.page));
                            page.seal = sealer.seal(&mut text[from..])?;
                        }
                        file.write_at(&text, offset_of(few[0].slot))?;
                    }
                }
            }
        }
        for (i, page) in changed.iter().zip(to_write) {
            pages[*i] = page;
        }
        Ok(())
    }

    /// Makes the snapshot count. Returns first slot and number of those that hold the header.
    fn write_header(
        &self,
        file: &DiskFile,
        header: &StateHeader,
        seq: u64,
        area: u8,
        slots: &mut Slots,
        files: &mut Files,
    ) -> io::Result<(u32, u32)> {
        let mut body = header.encode();
        let mut sealed = None;
        if let Some(sealer) = &self.sealer {
            let seal = sealer.seal(&mut body)?;
            body.extend_from_slice(&seal.tag);
            sealed = Some((seal.nonce, sealer.id()));
        }
        files.bytes += (PREFIX_LEN + body.len()).next_multiple_of(PAGE) as u64;
        if PREFIX_LEN + body.len() <= AREA_LEN {
            let prefix = prefix(Kind::State, seq, &body, 0, sealed);
            file.write_vectored_at(&[IoSlice::new(&prefix), IoSlice::new(&body)], area_offset(area))?;
            return Ok((0, 0));
        }
        let count = body.len().div_ceil(PAGE) as u32;
        let first = slots.take_row(count);
        file.write_at(&body, offset_of(first))?;
        file.write_at(&prefix(Kind::State, seq, &body, first, sealed), area_offset(area))?;
        Ok((first, count))
    }
}

impl Saved {
    /// For the `Syncer`; `done` is the caller's, called once the snapshot is durable.
    pub fn job(&mut self, store: &Arc<ControllerStore>, done: impl FnOnce(io::Result<()>) + Send + 'static) -> Job {
        let (store, snapshot) = (store.clone(), self.snapshot);
        let done = move |result: io::Result<()>| {
            match &result {
                // It may name pages of one that could not be put there.
                Ok(()) if store.doubtful.load(Ordering::Acquire) => {}
                Ok(()) => store.settled(&snapshot),
                // The kernel may have dropped what it could not write, and will not say so again.
                Err(_) => store.doubtful.store(true, Ordering::Release),
            }
            done(result);
        };
        let Files { written, dir, obsolete, .. } = std::mem::take(&mut self.files);
        Job { files: written, dir, obsolete, done: Box::new(done) }
    }
}
