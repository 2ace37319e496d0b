//! A snapshot whose header has been read, and the read-ahead for its resume.

use std::ops::Range;

use crate::disk::DiskFile;
use crate::format::{StateHeader, offset_of, runs_with_gaps};
use crate::image::BaseImage;
use crate::memory_sources::{PreviousSave, READ_GAP};

/// An open snapshot. Its header has been read and checked, its page data has not.
pub struct OpenSnapshot {
    pub(super) file: DiskFile,
    /// What the snapshot consists of.
    pub header: StateHeader,
    pub(super) previous: PreviousSave,
    /// The header was not in the page cache, so the pages are probably not either.
    pub(super) is_cold: bool,
}

impl OpenSnapshot {
    /// Prefetches the pages that a cold resume and the step after it are expected to touch. All requests go to the
    /// kernel at once, one for each run, instead of one after the other as pages are missed.
    pub fn read_ahead(&self, base: &BaseImage) {
        let touched = self.touched(base);
        if self.is_cold || !self.ends_are_cached(base, &touched) {
            self.file.read_ahead(&self.in_slots());
            base.read_ahead(&touched);
        }
    }

    /// Whether the first and the last expected page of either file is in the page cache. Asking about each page would
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

    /// Byte ranges of the state file that hold pages.
    fn in_slots(&self) -> Vec<Range<u64>> {
        let mut slots: Vec<u32> = self.previous.pages.iter().map(|p| p.slot).filter(|slot| *slot != 0).collect();
        slots.sort_unstable();
        let runs = runs_with_gaps(slots, READ_GAP);
        runs.iter().map(|r| offset_of(r.page)..offset_of(r.page + r.count)).collect()
    }

    /// Byte ranges of the base image's file that the last instance touched.
    fn touched(&self, base: &BaseImage) -> Vec<Range<u64>> {
        let runs = self.header.touched.iter().filter(|r| r.page < base.pages());
        runs.map(|r| base.offset_of(r.page)..base.offset_of((r.page + r.count).min(base.pages()))).collect()
    }

    /// Bytes that [`OpenSnapshot::read_ahead`] asks for when the page cache is cold.
    pub fn ahead_bytes(&self, base: &BaseImage) -> u64 {
        self.in_slots().iter().chain(&self.touched(base)).map(|r| r.end - r.start).sum()
    }
}
