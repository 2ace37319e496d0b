//! Resume: restores a snapshot into the memory of an instance.
//!
//! The memory begins as a mapping of the base image. If few pages differ, a resume copies them in. If many differ, it
//! maps long runs from the state file and copies the rest. A pooled memory is cheaper still: its pages are present
//! already, and the resume resets the stale ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::format::{FormatError, PageRun, SavedPage, StateHeader, offset_of};
use crate::image::{BaseImage, ImageError};
use crate::memory_sources::{COPIED_PAGES, MemorySources, Overlay, PreviousSave};
use crate::open_snapshot::OpenSnapshot;
use crate::page::PAGE;
use crate::page_sum::page_sum;
use crate::store::ControllerStore;

/// Pages of a run from which mapping is worth it: a mapping costs as much as copying about ten pages.
const MAPPED_RUN: u32 = 16;
/// Longest run of stale pages, in pages, that a resume copies from the image instead of discarding. A longer run is the
/// last instance's heap, which the next instance hardly needs.
const MAX_COPIED_RUN: usize = 32;

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// Memory and globals of an instance that is not running, for a resume to write.
///
/// Offsets and lengths are bytes. Methods fail for ranges outside of the memory.
#[allow(clippy::missing_errors_doc)] // Said once above.
pub trait ResumeTarget {
    /// The whole memory.
    fn bytes(&mut self) -> &[u8];

    /// Size of the memory, bytes.
    fn size(&self) -> usize;

    /// Sets the bits of the mutable globals, in order of the module.
    fn set_globals(&mut self, globals: &[u64]) -> io::Result<()>;

    /// Copies `data` to `offset`.
    fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()>;

    /// Reads `file` from `file_offset` on into `pages`, one after the other.
    fn read_pages(&mut self, file: &File, file_offset: u64, pages: &[u32]) -> io::Result<()>;

    /// Maps `len` bytes of `file` from `file_offset` over the memory at `offset`, copy-on-write. All three are
    /// page-aligned.
    fn map_from(&mut self, file: &File, file_offset: u64, offset: usize, len: usize) -> io::Result<()>;

    /// Discards the private copies of `pages`, ascending: they show the mapped image again.
    fn discard_pages(&mut self, pages: &[u32]) -> io::Result<()>;

    /// Makes private copies of pages that the guest is expected to write. Advice, so it cannot fail.
    fn prefault(&mut self, runs: &[PageRun]);
}

/// Restores `snapshot` into `guest`, whose memory maps `base`. Without a snapshot, the guest becomes as fresh as the base
/// image.
///
/// `overlay`: what the memory maps already, if it is pooled. `stale`: pages, ascending, with content of its last
/// instance.
///
/// # Errors
/// If a file cannot be read, or page data is damaged. The guest is then unusable.
pub fn resume(
    guest: &mut impl ResumeTarget,
    store: &ControllerStore,
    base: Arc<BaseImage>,
    snapshot: Option<OpenSnapshot>,
    mut overlay: Overlay,
    stale: &[u32],
) -> Result<MemorySources, ImageError> {
    let Some(OpenSnapshot { file, header, mut previous, .. }) = snapshot else {
        let previous = PreviousSave::default();
        let clean = reset_stale_pages(guest, &base, stale, &previous, &overlay)?;
        guest.set_globals(&base.header.globals)?;
        return Ok(MemorySources { base, previous, clean, overlay, touched: None, known: Vec::new() });
    };
    let mut clean = reset_stale_pages(guest, &base, stale, &previous, &overlay)?;
    if stale.is_empty() {
        guest.prefault(&header.expected);
        let expected = header.expected.iter().flat_map(|r| r.page..r.page + r.count);
        clean.extend(expected.filter(|page| !previous.has(*page)));
    }
    let copied = restore_pages(guest, store, &file, &header, &previous, &mut overlay, stale)?;
    previous.copied(copied);
    guest.set_globals(&header.globals)?;
    let touched = (!stale.is_empty()).then_some(header.touched);
    Ok(MemorySources { base, previous, clean, overlay, touched, known: header.known })
}

/// Resumes in a pooled memory that holds the snapshot's content already, in `anonymous` pages and in the base image.
///
/// # Errors
/// If the globals cannot be set. The guest is then unusable.
pub fn resume_in_place(
    guest: &mut impl ResumeTarget,
    base: Arc<BaseImage>,
    snapshot: OpenSnapshot,
    anonymous: &[u32],
) -> Result<MemorySources, ImageError> {
    let OpenSnapshot { header, previous, .. } = snapshot;
    let clean = anonymous.iter().copied().filter(|page| !previous.has(*page)).collect();
    guest.set_globals(&header.globals)?;
    let touched = Some(header.touched);
    Ok(MemorySources { base, previous, clean, overlay: Overlay::default(), touched, known: header.known })
}

/// Restores the snapshot's pages. Returns how many it copied.
fn restore_pages(
    guest: &mut impl ResumeTarget,
    store: &ControllerStore,
    file: &DiskFile,
    header: &StateHeader,
    previous: &PreviousSave,
    overlay: &mut Overlay,
    stale: &[u32],
) -> Result<usize, ImageError> {
    for zero in previous.pages.iter().filter(|p| p.slot == 0) {
        guest.write(zero.page as usize * PAGE, &ZERO_PAGE)?;
    }
    if previous.encrypted {
        store.read_pages(file, &previous.pages, true, |page, content| guest.write(page as usize * PAGE, content))?;
        return Ok(previous.pages.len());
    }
    let mut stored: Vec<&SavedPage> = previous.pages.iter().filter(|p| p.slot != 0).collect();
    if overlay.is_empty() && stored.len() > COPIED_PAGES {
        for e in header.extents.iter().filter(|e| e.slot != 0 && e.count >= MAPPED_RUN) {
            let (offset, len) = (e.page as usize * PAGE, e.count as usize * PAGE);
            // The kernel limits mappings (vm.max_map_count). When they run out, copy the rest.
            if guest.map_from(file.for_reading()?, offset_of(e.slot), offset, len).is_err() {
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
        guest.read_pages(file.for_reading()?, offset_of(row[0].slot), &pages)?;
    }
    let memory = guest.bytes();
    if stored.iter().any(|p| page_sum(&memory[p.page as usize * PAGE..][..PAGE]) != p.sum) {
        return Err(FormatError::DataChecksum.into());
    }
    Ok(stored.len())
}

/// Resets the pages of a pooled memory that `next` will not restore: stale ones, and those mapped from a slot. Returns
/// the pages, ascending, that are private copies of base image pages now.
fn reset_stale_pages(
    guest: &mut impl ResumeTarget,
    base: &BaseImage,
    stale: &[u32],
    next: &PreviousSave,
    overlay: &Overlay,
) -> Result<Vec<u32>, ImageError> {
    let in_memory = (guest.size() / PAGE) as u32;
    // Discarding these would show a slot, not the base image, so they need private content.
    let mapped: BTreeSet<u32> = overlay.pages().filter(|page| *page < in_memory && !next.has(*page)).collect();
    let left: Vec<u32> = stale.iter().copied().filter(|page| !next.has(*page) && !mapped.contains(page)).collect();
    let (mut copied, mut discarded) = (Vec::new(), Vec::new());
    for run in left.chunk_by(|a, b| a + 1 == *b) {
        let useful = run.len() <= MAX_COPIED_RUN && run[run.len() - 1] < base.pages();
        if useful { copied.extend_from_slice(run) } else { discarded.extend_from_slice(run) }
    }
    guest.discard_pages(&discarded)?;
    for page in mapped {
        if page < base.pages() {
            copied.push(page);
        } else {
            guest.write(page as usize * PAGE, &ZERO_PAGE)?;
        }
    }
    copied.sort_unstable();
    for run in copied.chunk_by(|a, b| a + 1 == *b) {
        let (file, offset) = base.place_of(run[0])?;
        guest.read_pages(file, offset, run)?;
    }
    Ok(copied)
}
