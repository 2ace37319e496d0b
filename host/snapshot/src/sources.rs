//! What the memory of an instance is made of: base image, pages of a snapshot, and what of its files is mapped.

use std::sync::Arc;

use crate::format::{Extent, Fold, Run, SavedPage};
use crate::image::BaseImage;
use crate::snapshot_ref::SnapshotRef;

/// Up to so many pages are copied at a resume. Of more, long runs are mapped: a page that is copied costs
/// little, but each time.
pub(super) const COPIED_PAGES: usize = 256;
/// Pages between two that are read ahead which are read as well: to seek costs as much as to read that.
pub const READ_GAP: u32 = 16;

/// What is saved of an instance already, so that only what changes is written.
#[derive(Default)]
pub struct Previous {
    /// `None`: nothing is saved yet.
    pub(super) snapshot: Option<SnapshotRef>,
    /// Those that differ from the base image, ascending.
    pub(super) pages: Vec<SavedPage>,
    /// Checksum of the other pages of the base image.
    pub(super) base_sum: Fold,
    /// They are encrypted.
    pub(super) sealed: bool,
    /// First slot and number of those that hold the header.
    pub(super) header_slots: (u32, u32),
}

impl Previous {
    /// A resume had to copy so many pages.
    pub(super) fn copied(&mut self, pages: usize) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|_| pages > COPIED_PAGES) {
            snapshot.copied += pages as u64;
        }
    }

    /// Whether a page is among those that differ from the base image.
    pub(super) fn has(&self, page: u32) -> bool {
        self.pages.binary_search_by_key(&page, |p| p.page).is_ok()
    }
}

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

    /// Whether a save needs to know which pages of the mapped image were touched.
    pub fn needs_touched_pages(&self) -> bool {
        self.touched.is_none()
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
pub struct Overlay(pub(super) Vec<Extent>);

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn of(extents: impl IntoIterator<Item = Extent>) -> Overlay {
        Overlay(extents.into_iter().collect())
    }

    /// Pages that are mapped, ascending.
    pub(super) fn pages(&self) -> impl Iterator<Item = u32> + '_ {
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
