//! Save: writes an instance into its controller's state file.
//!
//! A save writes the changed pages into free slots of the file, and then a header that names the slots of all pages.
//! Slots of an earlier header are not reused until the new header is durable (`slot_allocator`). So a save that is
//! interrupted anywhere leaves the previous snapshot whole, without a second file, a rename, or new blocks. Slots that
//! the instance maps also stay, until its memory is gone.
//!
//! A resume copies the pages that are in slots. For a controller that changes much, a save therefore writes pages back
//! to their places in the controller's own base image: those for which the newest durable header names a slot. The
//! place in the image counts once a header no longer names the page. A page that changes each time alternates between
//! a slot and its place, with one write for each save.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::delta::{Delta, delta, merged_by_page, page_of};
use crate::disk::DiskFile;
use crate::format::{
    AREA_LEN, AREAS, FileKind, PREFIX_LEN, SavedPage, SnapshotMeta, StateHeader, area_offset, offset_of, prefix,
    runs_with_gaps,
};
use crate::image::BaseImage;
use crate::memory_sources::{MemorySources, PreviousSave, READ_GAP};
use crate::page::PAGE;
use crate::page_sum::PageSetSum;
use crate::slot_allocator::SlotAllocator;
use crate::snapshot_ref::SnapshotRef;
use crate::store::ControllerStore;
use crate::sync::SyncJob;

/// A delta larger than one part in this many of the package's base image becomes the controller's own base image.
/// Mapping many pages is cheaper than copying them at each resume.
const REBASE_SHARE: u64 = 2;
/// Pages: a smaller delta is cheap to copy, and an own base image costs disk.
const REBASE_MIN_PAGES: u64 = 256;
/// The controller also gets an own base image once resumes have copied this many times the pages of the package's.
/// Writing the new image costs about as much.
const REBASE_COPIES: u64 = 2;
/// Pages encrypted at once. It bounds the memory that a save needs.
const ENCRYPTED_AT_ONCE: usize = 64;
/// A save truncates the file when it has more free slots than this at its end.
const SPARE_SLOTS: u32 = 64;

/// The state of an instance that is not running, for a save to write.
pub struct InstanceState<'a> {
    /// The whole memory.
    pub memory: &'a [u8],
    /// Bits of the mutable globals, in order of the module.
    pub globals: Vec<u64>,
    /// Pages that may differ from the mapping, ascending.
    pub anonymous: Vec<u32>,
    /// Pages of the mapped image that were touched, ascending. Needed only if
    /// [`MemorySources::needs_touched_pages`].
    pub touched: Vec<u32>,
}

/// The result of a save.
pub struct SavedSnapshot {
    /// Identifies the snapshot for a resume.
    pub snapshot: SnapshotRef,
    /// For the next save, if the instance stays in memory.
    pub previous: PreviousSave,
    /// Bytes of the delta: pages that are not zero and not in the base image.
    pub dirty_bytes: u64,
    /// Bytes written to disk.
    pub written_bytes: u64,
    /// The instance's anonymous pages, ascending: what its memory holds if it goes to the memory pool.
    pub anonymous: Vec<u32>,
    files: WrittenFiles,
}

/// The files that a save has written, and that must be durable before the snapshot is.
#[derive(Default)]
struct WrittenFiles {
    written: Vec<PathBuf>,
    dir: Option<PathBuf>,
    obsolete: Vec<PathBuf>,
    bytes: u64,
}

impl ControllerStore {
    /// Writes a snapshot of an instance whose memory came from `sources`. `ends`: the caller drops the instance
    /// afterwards, so the save may change or replace its base image.
    ///
    /// The snapshot is durable once [`SavedSnapshot::job`] is done.
    ///
    /// # Errors
    /// If the disk fails or the quota is exceeded. The previous snapshot is then still whole, and the instance may go
    /// on.
    pub fn save(
        &self,
        state: InstanceState<'_>,
        sources: &MemorySources,
        meta: SnapshotMeta,
        ends: bool,
    ) -> io::Result<SavedSnapshot> {
        // A sync that fails while this save runs sets it again, for the next save.
        let must_rewrite = self.must_rewrite.swap(false, Ordering::AcqRel);
        let saved = self.save_all(state, sources, meta, ends, must_rewrite);
        // A save cannot rewrite pages of a base image that stays mapped.
        let is_mended = ends || sources.base.generation == 0 || self.cipher.is_some();
        if must_rewrite && (saved.is_err() || !is_mended) {
            self.must_rewrite.store(true, Ordering::Release);
        }
        saved
    }

    fn save_all(
        &self,
        state: InstanceState<'_>,
        sources: &MemorySources,
        meta: SnapshotMeta,
        ends: bool,
        must_rewrite: bool,
    ) -> io::Result<SavedSnapshot> {
        let seq = self.last_seq.fetch_add(1, Ordering::AcqRel) + 1;
        let durable = (self.durable_seq.load(Ordering::Acquire), self.durable_area.load(Ordering::Acquire));
        let previous = &sources.previous;
        let InstanceState { memory, globals, anonymous, touched } = state;
        let touched = match &sources.touched {
            Some(known) => known.clone(),
            None => runs_with_gaps(touched, READ_GAP),
        };
        let rewrite = must_rewrite || previous.encrypted != self.cipher.is_some();
        let reuse = previous.snapshot.is_some_and(|s| s.seq == durable.0);
        let mut delta = delta(memory, &anonymous, sources, rewrite)?;
        let expected = delta.expected();
        let mut base = sources.base.clone();
        if ends && reuse && !rewrite && base.generation != 0 && self.cipher.is_none() {
            if base.size() < memory.len() as u64 {
                base = Arc::new(base.grown(&self.disk, memory.len() as u64)?);
            }
            delta.write_back(&base, previous);
        }
        let data_pages = delta.pages.iter().filter(|p| p.slot != 0).count() + delta.changed.len();

        self.check_quota((data_pages * PAGE) as u64 + base.own_bytes()?)?;

        let mut files = WrittenFiles { dir: (durable.0 == 0).then(|| self.dir.clone()), ..WrittenFiles::default() };
        let (base_sum, known) = if ends && self.needs_new_base(sources, data_pages as u64, must_rewrite) {
            base = Arc::new(self.write_base(memory, &anonymous, sources, &meta, globals.clone(), seq, &mut files)?);
            delta = Delta::default();
            (PageSetSum(base.header.data_sum), Vec::new())
        } else {
            let sums = delta.base_sum(memory, &base, sources)?;
            self.write_pages_back(memory, &base, &delta.back, seq, &mut files)?;
            sums
        };
        if base.generation != 0 && self.base_written.load(Ordering::Acquire) > durable.0 {
            // Synced before the header that depends on it, so that a crash seldom leaves the header alone.
            files.written.push(base.path().to_owned());
        }
        if base.generation > durable.0 {
            files.dir = Some(self.dir.clone());
        }

        let file = self.disk.open_or_create(&self.state_path())?;
        let end = file.size()?.div_ceil(PAGE as u64) as u32;
        if end == 0 {
            // The file is new: an earlier one may have been discarded after it was durable.
            files.dir = Some(self.dir.clone());
        }
        let mut used: Vec<u32> = previous.pages.iter().map(|p| p.slot).filter(|s| *s != 0).collect();
        used.extend(previous.header_slots.0..previous.header_slots.0 + previous.header_slots.1);
        used.extend(sources.overlay.slots());
        let mut slots = SlotAllocator::new(used, end, reuse);
        self.write_pages(&file, memory, &mut delta, &mut slots)?;
        files.bytes += (delta.changed.len() * PAGE) as u64;

        let mut header = StateHeader {
            digest: meta.digest,
            base_generation: base.generation,
            base_sum: base_sum.0,
            memory_size: memory.len() as u64,
            globals,
            wall_ns: meta.wall_ns,
            monotonic_ns: meta.monotonic_ns,
            expected,
            touched,
            known,
            extents: Vec::new(),
            sums: Vec::new(),
            aead_tags: Vec::new(),
            host_state: meta.host_state,
        };
        header.set_pages(&delta.pages, self.cipher.is_some());
        let taken = previous.snapshot.map(|s| s.area);
        let area = (0..AREAS).find(|a| Some(*a) != taken && (durable.0 == 0 || *a != durable.1)).unwrap_or(0);
        let header_slots = self.write_header(&file, &header, seq, area, &mut slots, &mut files)?;
        let in_use = slots.in_use();
        if reuse && end > in_use + SPARE_SLOTS {
            // The snapshot is complete, so a failed truncation does not matter.
            let _ = file.set_len(offset_of(in_use));
        }
        files.written.push(self.state_path());

        let disk_bytes = offset_of(end.min(in_use + SPARE_SLOTS).max(in_use)) + base.own_bytes()?;
        let same_base = previous.snapshot.filter(|s| s.base_generation == base.generation);
        let copied = same_base.map_or(0, |s| s.copied);
        let snapshot = SnapshotRef { seq, area, base_generation: base.generation, disk_bytes, copied };
        let (pages, encrypted) = (delta.pages, self.cipher.is_some());
        Ok(SavedSnapshot {
            snapshot,
            previous: PreviousSave { snapshot: Some(snapshot), pages, base_sum, encrypted, header_slots },
            dirty_bytes: (data_pages * PAGE) as u64,
            written_bytes: files.bytes,
            anonymous,
            files,
        })
    }

    /// Whether this save should write an own base image. With encryption there is none, since images are mapped as they
    /// are on disk.
    fn needs_new_base(&self, sources: &MemorySources, data_pages: u64, must_rewrite: bool) -> bool {
        if self.cipher.is_some() {
            return false;
        }
        if sources.base.generation != 0 {
            return must_rewrite;
        }
        let in_base = sources.base.header.data_pages();
        if (in_base + data_pages) * PAGE as u64 > self.quota {
            return false;
        }
        let is_large = data_pages > REBASE_MIN_PAGES.max(in_base / REBASE_SHARE);
        let is_costly = sources.previous.snapshot.is_some_and(|s| s.copied > REBASE_COPIES * in_base);
        is_large || is_costly
    }

    /// Writes an own base image with the whole memory.
    #[allow(clippy::too_many_arguments)]
    fn write_base(
        &self,
        memory: &[u8],
        anonymous: &[u32],
        sources: &MemorySources,
        meta: &SnapshotMeta,
        globals: Vec<u64>,
        generation: u64,
        files: &mut WrittenFiles,
    ) -> io::Result<BaseImage> {
        let path = self.base_path(generation);
        self.base_written.store(generation, Ordering::Release);
        let old = &sources.base;
        let mut differs = vec![false; memory.len() / PAGE];
        for (n, ..) in merged_by_page(anonymous, &sources.previous.pages) {
            differs[n as usize] = true;
        }
        // Copy clean pages from the file. Reading them through the mapping would raise the host's memory just when it
        // should fall.
        let size = memory.len() as u64;
        let image = BaseImage::write(&self.disk, &path, meta, size, globals, generation, |n, page| {
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

    /// Writes pages to their places in the controller's own base image.
    fn write_pages_back(
        &self,
        memory: &[u8],
        base: &BaseImage,
        pages: &[u32],
        seq: u64,
        files: &mut WrittenFiles,
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

    /// Writes the changed pages into slots.
    fn write_pages(
        &self,
        file: &DiskFile,
        memory: &[u8],
        delta: &mut Delta,
        slots: &mut SlotAllocator,
    ) -> io::Result<()> {
        let Delta { pages, changed, .. } = delta;
        let mut to_write: Vec<SavedPage> = changed.iter().map(|i| pages[*i]).collect();
        for (page, slot) in to_write.iter_mut().zip(slots.take(changed.len())) {
            page.slot = slot;
        }
        for row in to_write.chunk_by_mut(|a, b| a.slot + 1 == b.slot) {
            match &self.cipher {
                None => {
                    let runs = row.chunk_by(|a, b| a.page + 1 == b.page);
                    let slices: Vec<IoSlice<'_>> = runs
                        .map(|run| IoSlice::new(&memory[run[0].page as usize * PAGE..][..run.len() * PAGE]))
                        .collect();
                    file.write_vectored_at(&slices, offset_of(row[0].slot))?;
                }
                Some(cipher) => {
                    for few in row.chunks_mut(ENCRYPTED_AT_ONCE) {
                        let mut text = Vec::with_capacity(few.len() * PAGE);
                        for page in &mut *few {
                            let from = text.len();
                            text.extend_from_slice(page_of(memory, page.page));
                            page.aead = cipher.encrypt(&mut text[from..])?;
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

    /// Writes the header, which commits the snapshot. Returns first slot and number of slots that hold it, or zeros.
    fn write_header(
        &self,
        file: &DiskFile,
        header: &StateHeader,
        seq: u64,
        area: u8,
        slots: &mut SlotAllocator,
        files: &mut WrittenFiles,
    ) -> io::Result<(u32, u32)> {
        let mut body = header.encode();
        let mut encrypted = None;
        if let Some(cipher) = &self.cipher {
            let aead = cipher.encrypt(&mut body)?;
            body.extend_from_slice(&aead.tag);
            encrypted = Some((aead.nonce, cipher.id()));
        }
        files.bytes += (PREFIX_LEN + body.len()).next_multiple_of(PAGE) as u64;
        if PREFIX_LEN + body.len() <= AREA_LEN {
            let prefix = prefix(FileKind::State, seq, &body, 0, encrypted);
            file.write_vectored_at(&[IoSlice::new(&prefix), IoSlice::new(&body)], area_offset(area))?;
            return Ok((0, 0));
        }
        let count = body.len().div_ceil(PAGE) as u32;
        let first = slots.take_row(count);
        file.write_at(&body, offset_of(first))?;
        file.write_at(&prefix(FileKind::State, seq, &body, first, encrypted), area_offset(area))?;
        Ok((first, count))
    }
}

impl SavedSnapshot {
    /// The job that makes the snapshot durable. It calls `done` with the result.
    pub fn job(&mut self, store: &Arc<ControllerStore>, done: impl FnOnce(io::Result<()>) + Send + 'static) -> SyncJob {
        let (store, snapshot) = (store.clone(), self.snapshot);
        let done = move |result: io::Result<()>| {
            match &result {
                // The snapshot may name pages of an earlier one whose sync failed.
                Ok(()) if store.must_rewrite.load(Ordering::Acquire) => {}
                Ok(()) => store.mark_durable(&snapshot),
                // The kernel may have dropped the pages, and does not report that again.
                Err(_) => store.must_rewrite.store(true, Ordering::Release),
            }
            done(result);
        };
        let WrittenFiles { written, dir, obsolete, .. } = std::mem::take(&mut self.files);
        SyncJob { files: written, dir, obsolete, done: Box::new(done) }
    }
}
