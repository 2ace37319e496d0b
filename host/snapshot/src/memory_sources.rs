//! Where each page of an instance's memory comes from: the base image, a snapshot, or a mapping of the state file.

use std::sync::Arc;

use crate::format::{Extent, PageRun, SavedPage};
use crate::image::BaseImage;
use crate::page_sum::PageSetSum;
use crate::snapshot_ref::SnapshotRef;

/// Most pages that a resume copies one by one. Beyond that, it maps long runs instead: a copy costs little, but every
/// resume pays it.
pub(super) const COPIED_PAGES: usize = 256;
/// Pages: read-ahead joins two runs with at most this gap between them, because a seek costs as much as reading it.
pub const READ_GAP: u32 = 16;

/// The newest save of an instance: the next save writes only what has changed since.
#[derive(Default)]
pub struct PreviousSave {
    /// `None`: nothing has been saved.
    pub(super) snapshot: Option<SnapshotRef>,
    /// Pages that differ from the base image, ascending.
    pub(super) pages: Vec<SavedPage>,
    /// Checksum of all other pages of the base image.
    pub(super) base_sum: PageSetSum,
    /// The pages are encrypted.
    pub(super) encrypted: bool,
    /// First slot and number of slots of a header that did not fit into its area; else zeros.
    pub(super) header_slots: (u32, u32),
}

impl PreviousSave {
    /// Counts the pages that a resume has copied.
    pub(super) fn copied(&mut self, pages: usize) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|_| pages > COPIED_PAGES) {
            snapshot.copied += pages as u64;
        }
    }

    /// Whether `page` differs from the base image.
    pub(super) fn has(&self, page: u32) -> bool {
        self.pages.binary_search_by_key(&page, |p| p.page).is_ok()
    }
}

/// Where the pages of an instance's memory come from.
pub struct MemorySources {
    /// The image that the whole memory maps.
    pub base: Arc<BaseImage>,
    /// The saved delta to the base image.
    pub previous: PreviousSave,
    /// Private copies of base image pages, ascending. They belong to the delta only if they have changed.
    pub(super) clean: Vec<u32>,
    /// Slots of the state file that are mapped over the base image.
    pub overlay: Overlay,
    /// Pages of the base image that instances touch, as an earlier save found them. `None`: the next save reads them
    /// from the page tables, because this instance began with an untouched mapping.
    pub(super) touched: Option<Vec<PageRun>>,
    /// Checksums of some of the base image's pages, ascending.
    pub(super) known: Vec<(u32, u128)>,
}

impl MemorySources {
    /// Checksum of a page of the base image, if it is known.
    pub(super) fn known_sum(&self, page: u32) -> Option<u128> {
        self.known.binary_search_by_key(&page, |(page, _)| *page).ok().map(|at| self.known[at].1)
    }

    /// Whether the next save needs [`crate::InstanceState::touched`].
    pub fn needs_touched_pages(&self) -> bool {
        self.touched.is_none()
    }

    /// Number of pages that are private to the instance before it writes any.
    pub fn private_pages(&self) -> usize {
        (self.previous.pages.len() + self.clean.len()).saturating_sub(self.overlay.pages().count())
    }
}

/// The pages of an instance's memory that are mapped from its state file, over the base image.
///
/// While they are mapped, no save reuses their slots or truncates the file below them. That holds even for pages that
/// were written since: truncating a file drops private copies of its pages as well.
#[derive(Default)]
pub struct Overlay(pub(super) Vec<Extent>);

impl Overlay {
    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn of(extents: impl IntoIterator<Item = Extent>) -> Overlay {
        Overlay(extents.into_iter().collect())
    }

    /// Mapped pages, ascending.
    pub(super) fn pages(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|e| e.page..e.page + e.count)
    }

    /// Mapped slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|e| e.slot..e.slot + e.count)
    }

    /// The slot that is mapped at `page`. The memory shows it until the page is written.
    pub(super) fn slot_of(&self, page: u32) -> Option<u32> {
        let at = self.0.partition_point(|e| e.page <= page).checked_sub(1)?;
        let e = &self.0[at];
        (page < e.page + e.count).then(|| e.slot + (page - e.page))
    }
}
