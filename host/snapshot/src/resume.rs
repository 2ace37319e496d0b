//! A snapshot into the memory of an instance.
//!
//! The memory begins as the base image, mapped. Of the pages that differ, a few are copied in; of many,
//! long runs are mapped from the state file as well. A memory that was used before is cheaper still: its
//! pages are there already, and have to be put right.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::format::{FormatError, Run, SavedPage, StateHeader, offset_of, page_sum};
use crate::image::{BaseImage, ImageError};
use crate::open_snapshot::OpenSnapshot;
use crate::page::PAGE;
use crate::sources::{COPIED_PAGES, Overlay, Previous, Sources};
use crate::store::ControllerStore;

/// A run of so many pages is long: to map it costs as much as to copy some ten pages.
const MAPPED_RUN: u32 = 16;
/// Pages in a row of a used memory that are copied from the image instead of given back: a longer run is
/// the last instance's heap, which this one will hardly need.
const MAX_RENEWED_RUN: usize = 32;

static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// An instance that does not run, as a resume puts a snapshot into it: memory and globals.
///
/// Offsets and lengths are bytes; what lies outside of the memory is an error.
pub trait ResumeTarget {
    /// All of its memory.
    fn bytes(&mut self) -> &[u8];

    /// Bytes of its memory.
    fn size(&self) -> usize;

    /// Sets the mutable globals' bits, in order.
    fn set_globals(&mut self, globals: &[u64]) -> io::Result<()>;

    /// Copies `data` to `offset`.
    fn write(&mut self, offset: usize, data: &[u8]) -> io::Result<()>;

    /// Reads `file` from `file_offset` into `pages`, one after the other.
    fn read_pages(&mut self, file: &File, file_offset: u64, pages: &[u32]) -> io::Result<()>;

    /// Maps `len` bytes of `file` from `file_offset` over the memory at `offset`, copy-on-write. All three are
    /// page-aligned.
    fn map_from(&mut self, file: &File, file_offset: u64, offset: usize, len: usize) -> io::Result<()>;

    /// Makes `pages`, ascending, what they are in the mapped image.
    fn forget_pages(&mut self, pages: &[u32]) -> io::Result<()>;

    /// Makes private copies of pages that are going to be written.
    fn expect_writes(&mut self, runs: &[Run]);
}

/// Makes `guest`, whose memory begins as `base`, what the snapshot says; or as fresh as the base image if
/// there is none. `overlay`: what its memory has mapped already; `stale`: pages, ascending, that hold what
/// another instance left in them.
pub fn resume(
    guest: &mut impl ResumeTarget,
    store: &ControllerStore,
    base: Arc<BaseImage>,
    snapshot: Option<OpenSnapshot>,
    mut overlay: Overlay,
    stale: &[u32],
) -> Result<Sources, ImageError> {
    let Some(OpenSnapshot { file, header, mut previous, .. }) = snapshot else {
        let previous = Previous::default();
        let clean = renew(guest, &base, stale, &previous, &overlay)?;
        guest.set_globals(&base.header.globals)?;
        return Ok(Sources { base, previous, clean, overlay, touched: None, known: Vec::new() });
    };
    let mut clean = renew(guest, &base, stale, &previous, &overlay)?;
    if stale.is_empty() {
        guest.expect_writes(&header.expected);
        let expected = header.expected.iter().flat_map(|r| r.page..r.page + r.count);
        clean.extend(expected.filter(|page| !previous.has(*page)));
    }
    let copied = put_in(guest, store, &file, &header, &previous, &mut overlay, stale)?;
    previous.copied(copied);
    guest.set_globals(&header.globals)?;
    let touched = (!stale.is_empty()).then_some(header.touched);
    Ok(Sources { base, previous, clean, overlay, touched, known: header.known })
}

/// As `resume`, for a memory that holds what the snapshot says already, in `anonymous` pages and in the base
/// image.
pub fn go_on(
    guest: &mut impl ResumeTarget,
    base: Arc<BaseImage>,
    snapshot: OpenSnapshot,
    anonymous: &[u32],
) -> Result<Sources, ImageError> {
    let OpenSnapshot { header, previous, .. } = snapshot;
    let clean = anonymous.iter().copied().filter(|page| !previous.has(*page)).collect();
    guest.set_globals(&header.globals)?;
    let touched = Some(header.touched);
    Ok(Sources { base, previous, clean, overlay: Overlay::default(), touched, known: header.known })
}

/// Puts the snapshot's pages in; returns how many had to be copied.
fn put_in(
    guest: &mut impl ResumeTarget,
    of: &ControllerStore,
    file: &DiskFile,
    header: &StateHeader,
    previous: &Previous,
    overlay: &mut Overlay,
    stale: &[u32],
) -> Result<usize, ImageError> {
    for zero in previous.pages.iter().filter(|p| p.slot == 0) {
        guest.write(zero.page as usize * PAGE, &ZERO_PAGE)?;
    }
    if previous.sealed {
        of.read_pages(file, &previous.pages, true, |page, content| guest.write(page as usize * PAGE, content))?;
        return Ok(previous.pages.len());
    }
    let mut stored: Vec<&SavedPage> = previous.pages.iter().filter(|p| p.slot != 0).collect();
    if overlay.is_empty() && stored.len() > COPIED_PAGES {
        for e in header.extents.iter().filter(|e| e.slot != 0 && e.count >= MAPPED_RUN) {
            let (offset, len) = (e.page as usize * PAGE, e.count as usize * PAGE);
            // Mappings are limited (vm.max_map_count): when they run out, the rest is copied.
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

/// Puts pages of a used memory right that hold what its last instance left, or are mapped from what its
/// controller's file was then: all that `next` does not bring. Returns, ascending, the ones that hold a
/// copy of what the base image has.
fn renew(
    guest: &mut impl ResumeTarget,
    base: &BaseImage,
    stale: &[u32],
    next: &Previous,
    overlay: &Overlay,
) -> Result<Vec<u32>, ImageError> {
    let in_memory = (guest.size() / PAGE) as u32;
    // Below these is not the base image, so they need content of their own.
    let mapped: BTreeSet<u32> = overlay.pages().filter(|page| *page < in_memory && !next.has(*page)).collect();
    let left: Vec<u32> = stale.iter().copied().filter(|page| !next.has(*page) && !mapped.contains(page)).collect();
    let (mut copied, mut forgotten) = (Vec::new(), Vec::new());
    for run in left.chunk_by(|a, b| a + 1 == *b) {
        let useful = run.len() <= MAX_RENEWED_RUN && run[run.len() - 1] < base.pages();
        if useful { copied.extend_from_slice(run) } else { forgotten.extend_from_slice(run) }
    }
    guest.forget_pages(&forgotten)?;
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
