//! A snapshot into the memory of an instance.
//!
//! The memory begins as the base image, mapped. Of the pages that differ, a few are copied in; of many,
//! long runs are mapped from the state file as well. A memory that was used before is cheaper still: its
//! pages are there already, and have to be put right.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use wasmop_vm::guest::Guest;

use crate::page::PAGE;
use super::disk::DiskFile;
use super::format::{Extent, FormatError, Run, SavedPage, StateHeader, page_sum, runs_with_gaps};
use super::image::{BaseImage, ImageError};
use super::save::Previous;
use super::store::{ControllerStore, offset_of};

/// Up to so many pages are copied at a resume. Of more, long runs are mapped: a page that is copied costs
/// little, but each time.
pub(super) const COPIED_PAGES: usize = 256;
/// A run of so many pages is long: to map it costs as much as to copy some ten pages.
const MAPPED_RUN: u32 = 16;
/// Pages in a row of a used memory that are copied from the image instead of given back: a longer run is
/// the last instance's heap, which this one will hardly need.
const MAX_RENEWED_RUN: usize = 32;

/// Pages between two that are read ahead which are read as well: to seek costs as much as to read that.
pub(crate) const READ_GAP: u32 = 16;

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// What an instance's memory is made of.
pub struct Sources {
    /// Mapped below all.
    pub base: Arc<BaseImage>,
    /// What differs from it, as far as it is saved.
    pub previous: Previous,
    /// Pages that were copied from the base image, ascending: no difference unless they have changed since.
    pub(super) clean: Vec<u32>,
    /// What is mapped over the base image.
    pub overlay: Overlay,
    /// What an instance touches of the base image; `None`: to be seen from the page tables, since this one
    /// began with an untouched mapping.
    pub(super) touched: Option<Vec<Run>>,
    /// Sums of some of the base image's pages, ascending.
    pub(super) known: Vec<(u32, u128)>,
}

impl Sources {
    /// [`page_sum`] of a page of the base image, if it is known.
    pub(super) fn known_sum(&self, page: u32) -> Option<u128> {
        self.known.binary_search_by_key(&page, |(page, _)| *page).ok().map(|at| self.known[at].1)
    }

    /// Pages that nobody else has as long as nothing is written.
    pub fn private_pages(&self) -> usize {
        (self.previous.pages.len() + self.clean.len()).saturating_sub(self.overlay.pages().count())
    }
}

/// What of an instance's memory is mapped from its state file, over the base image.
///
/// No save reuses or cuts its slots while it is mapped, not even those of pages that were written since:
/// to cut a file takes private copies of its pages away as well.
#[derive(Default)]
pub struct Overlay(Vec<Extent>);

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn of(extents: impl IntoIterator<Item = Extent>) -> Overlay {
        Overlay(extents.into_iter().collect())
    }

    /// Pages that are mapped, ascending.
    fn pages(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|e| e.page..e.page + e.count)
    }

    /// Slots that are mapped.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|e| e.slot..e.slot + e.count)
    }

    /// The slot that shows where `page` is not anonymous.
    pub(super) fn slot_of(&self, page: u32) -> Option<u32> {
        let at = self.0.partition_point(|e| e.page <= page).checked_sub(1)?;
        let e = &self.0[at];
        (page < e.page + e.count).then(|| e.slot + (page - e.page))
    }
}

/// An opened snapshot: header read and checked, page data not yet.
pub struct OpenSnapshot {
    pub(super) file: DiskFile,
    pub header: StateHeader,
    pub(super) previous: Previous,
    /// Its header was not in the page cache.
    pub(super) is_cold: bool,
}

impl OpenSnapshot {
    /// Has the kernel read all that a resume and the step after it will look at, if it is not in the page
    /// cache: one request for each run, all at once, instead of one after the other as they are missed.
    pub fn read_ahead(&self, base: &BaseImage) {
        let touched = self.touched(base);
        if self.is_cold || !self.ends_are_cached(base, &touched) {
            self.file.read_ahead(&self.in_slots());
            base.read_ahead(&touched);
        }
    }

    /// Whether what is looked at first and last is in the page cache, in either file: to ask about each page would
    /// cost more than it saves.
    fn ends_are_cached(&self, base: &BaseImage, touched: &[Range<u64>]) -> bool {
        let slots = self.previous.pages.iter().map(|p| p.slot).filter(|slot| *slot != 0);
        let ends = slots.fold(None, |ends: Option<(u32, u32)>, slot| {
            Some(ends.map_or((slot, slot), |(first, last)| (first.min(slot), last.max(slot))))
        });
        let in_file = ends.is_none_or(|(first, last)| {
            self.file.is_cached(offset_of(first)) && (first == last || self.file.is_cached(offset_of(last)))
        });
        in_file
            && touched.first().is_none_or(|run| base.is_cached(run.start))
            && touched.last().is_none_or(|run| base.is_cached(run.end - 1))
    }

    /// Bytes of the state file with pages.
    fn in_slots(&self) -> Vec<Range<u64>> {
        let mut slots: Vec<u32> = self.previous.pages.iter().map(|p| p.slot).filter(|slot| *slot != 0).collect();
        slots.sort_unstable();
        let runs = runs_with_gaps(slots, READ_GAP);
        runs.iter().map(|r| offset_of(r.page)..offset_of(r.page + r.count)).collect()
    }

    /// Bytes of the base image's file that the last instance looked at.
    fn touched(&self, base: &BaseImage) -> Vec<Range<u64>> {
        let runs = self.header.touched.iter().filter(|r| r.page < base.pages());
        runs.map(|r| base.offset_of(r.page)..base.offset_of((r.page + r.count).min(base.pages()))).collect()
    }

    /// Bytes of files that [`OpenSnapshot::read_ahead`] asks for.
    pub fn ahead_bytes(&self, base: &BaseImage) -> u64 {
        self.in_slots().iter().chain(&self.touched(base)).map(|r| r.end - r.start).sum()
    }
}

/// Makes `guest`, whose memory begins as `base`, what the snapshot says; or as fresh as the base image if
/// there is none. `overlay`: what its memory has mapped already; `stale`: pages, ascending, that hold what
/// another instance left in them.
pub fn resume(
    guest: &mut Guest,
    store: &ControllerStore,
    base: Arc<BaseImage>,
    snapshot: Option<OpenSnapshot>,
    mut overlay: Overlay,
    stale: &[u32],
) -> Result<Sources, ImageError> {
    let Some(OpenSnapshot { file, header, mut previous, .. }) = snapshot else {
        let previous = Previous::default();
        let clean = renew(guest, &base, stale, &previous, &overlay)?;
        guest.set_globals(&base.header.globals).map_err(io::Error::other)?;
        return Ok(Sources { base, previous, clean, overlay, touched: None, known: Vec::new() });
    };
    let mut clean = renew(guest, &base, stale, &previous, &overlay)?;
    if stale.is_empty() {
        guest.memory().0.expect_writes(header.expected.iter().map(|r| (r.page, r.count)));
        let expected = header.expected.iter().flat_map(|r| r.page..r.page + r.count);
        clean.extend(expected.filter(|page| !previous.has(*page)));
    }
    let copied = put_in(guest, store, &file, &header, &previous, &mut overlay, stale)?;
    previous.copied(copied);
    guest.set_globals(&header.globals).map_err(io::Error::other)?;
    let touched = (!stale.is_empty()).then_some(header.touched);
    Ok(Sources { base, previous, clean, overlay, touched, known: header.known })
}

/// As `resume`, for a memory that holds what the snapshot says already, in `anonymous` pages and in the base
/// image.
pub fn go_on(
    guest: &mut Guest,
    base: Arc<BaseImage>,
    snapshot: OpenSnapshot,
    anonymous: &[u32],
) -> Result<Sources, ImageError> {
    let OpenSnapshot { header, previous, .. } = snapshot;
    let clean = anonymous.iter().copied().filter(|page| !previous.has(*page)).collect();
    guest.set_globals(&header.globals).map_err(io::Error::other)?;
    let touched = Some(header.touched);
    Ok(Sources { base, previous, clean, overlay: Overlay::default(), touched, known: header.known })
}

/// Puts the snapshot's pages in; returns how many had to be copied.
fn put_in(
    guest: &mut Guest,
    of: &ControllerStore,
    file: &DiskFile,
    header: &StateHeader,
    previous: &Previous,
    overlay: &mut Overlay,
    stale: &[u32],
) -> Result<usize, ImageError> {
    let (memory, store) = guest.memory();
    for zero in previous.pages.iter().filter(|p| p.slot == 0) {
        memory.write(store, zero.page as usize * PAGE, &ZERO_PAGE)?;
    }
    if previous.sealed {
        of.read_pages(file, &previous.pages, true, |page, content| memory.write(store, page as usize * PAGE, content))?;
        return Ok(previous.pages.len());
    }
    let mut stored: Vec<&SavedPage> = previous.pages.iter().filter(|p| p.slot != 0).collect();
    if overlay.is_empty() && stored.len() > COPIED_PAGES {
        for e in header.extents.iter().filter(|e| e.slot != 0 && e.count >= MAPPED_RUN) {
            let (offset, len) = (e.page as usize * PAGE, e.count as usize * PAGE);
            // Mappings are limited (vm.max_map_count): when they run out, the rest is copied.
            if memory.map_from(store, file.for_reading()?, offset_of(e.slot), offset, len).is_err() {
                break;
            }
            overlay.0.push(*e);
        }
        stored.retain(|p| overlay.slot_of(p.page).is_none());
    } else {
        let is_there = |p: &SavedPage| overlay.slot_of(p.page) == Some(p.slot);
        stored.retain(|p| !is_there(p) || stale.binary_search(&p.page).is_ok());
    }
    stored.sort_unstable_by_key(|p| p.slot);
    for row in stored.chunk_by(|a, b| a.slot + 1 == b.slot) {
        let pages: Vec<u32> = row.iter().map(|p| p.page).collect();
        memory.read_pages(store, file.for_reading()?, offset_of(row[0].slot), &pages)?;
    }
    let memory = memory.bytes(store);
    if stored.iter().any(|p| page_sum(&memory[p.page as usize * PAGE..][..PAGE]) != p.sum) {
        return Err(FormatError::DataChecksum.into());
    }
    Ok(stored.len())
}

/// Puts pages of a used memory right that hold what its last instance left, or are mapped from what its
/// controller's file was then: all that `next` does not bring. Returns, ascending, the ones that hold a
/// copy of what the base image has.
fn renew(
    guest: &mut Guest,
    base: &BaseImage,
    stale: &[u32],
    next: &Previous,
    overlay: &Overlay,
) -> Result<Vec<u32>, ImageError> {
    let (memory, store) = guest.memory();
    let in_memory = (memory.size() / PAGE) as u32;
    // Below these is not the base image, so they need content of their own.
    let mapped: BTreeSet<u32> = overlay.pages().filter(|page| *page < in_memory && !next.has(*page)).collect();
    let left: Vec<u32> = stale.iter().copied().filter(|page| !next.has(*page) && !mapped.contains(page)).collect();
    let (mut copied, mut forgotten) = (Vec::new(), Vec::new());
    for run in left.chunk_by(|a, b| a + 1 == *b) {
        let useful = run.len() <= MAX_RENEWED_RUN && run[run.len() - 1] < base.pages();
        if useful { copied.extend_from_slice(run) } else { forgotten.extend_from_slice(run) }
    }
    memory.forget_pages(store, &forgotten)?;
    for page in mapped {
        if page < base.pages() {
            copied.push(page);
        } else {
            memory.write(store, page as usize * PAGE, &ZERO_PAGE)?;
        }
    }
    copied.sort_unstable();
    for run in copied.chunk_by(|a, b| a + 1 == *b) {
        let (file, offset) = base.place_of(run[0])?;
        memory.read_pages(store, file, offset, run)?;
    }
    Ok(copied)
}
