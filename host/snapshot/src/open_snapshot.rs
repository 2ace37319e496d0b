//! A snapshot whose header was read and checked, and what to read ahead for its resume.

use std::ops::Range;

use crate::disk::DiskFile;
use crate::format::{StateHeader, offset_of, runs_with_gaps};
use crate::image::BaseImage;
use crate::sources::{Previous, READ_GAP};

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
