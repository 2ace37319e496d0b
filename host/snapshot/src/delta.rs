//! The delta of an instance to its base image: which pages a snapshot names, and which of them a save writes.

use std::collections::BTreeMap;
use std::io;

use crate::format::{PageRun, SavedPage, runs};
use crate::image::BaseImage;
use crate::memory_sources::{MemorySources, PreviousSave};
use crate::page::PAGE;
use crate::page_sum::{PageSetSum, is_zero, page_sum};

/// Most unchanged pages that stay in slots. Writing more of them back into the base image is cheaper than copying them
/// at each resume.
const KEPT_PAGES: usize = 32;
/// Most pages of a controller's own base image whose checksums its snapshot stores, at 24 bytes each.
const KNOWN_PAGES: usize = 256;
/// Most pages that a snapshot names as likely to be written next.
const EXPECTED_PAGES: usize = 512;

/// The pages that differ from the base image, and where a save writes them.
#[derive(Default)]
pub(super) struct Delta {
    /// The pages that the snapshot names, ascending.
    pub pages: Vec<SavedPage>,
    /// Indexes into `pages`, ascending: pages that still have to be written into slots.
    pub changed: Vec<usize>,
    /// Pages to write back into the base image, ascending. They are not in `pages`.
    pub back: Vec<u32>,
}

impl Delta {
    /// The changed pages. They are likely to change again, so a resume prefaults them.
    pub fn expected(&self) -> Vec<PageRun> {
        runs(self.changed.iter().take(EXPECTED_PAGES).map(|i| self.pages[*i].page))
    }

    /// Moves pages to `back`, and so out of the delta: changed pages that the previous save has in a slot, and the
    /// unchanged ones too if they are many.
    pub fn write_back(&mut self, base: &BaseImage, previous: &PreviousSave) {
        let has_place = |p: &SavedPage| p.page < base.pages() && previous.has(p.page);
        let mut is_changed = vec![false; self.pages.len()];
        for i in &self.changed {
            is_changed[*i] = true;
        }
        let kept = self.pages.iter().zip(&is_changed).filter(|(p, changed)| !**changed && has_place(p)).count();
        let all = kept > KEPT_PAGES;
        let (pages, mut changed) = (std::mem::take(&mut self.pages), Vec::new());
        for (p, is_changed) in pages.into_iter().zip(is_changed) {
            if has_place(&p) && (all || is_changed) {
                self.back.push(p.page);
            } else {
                if is_changed {
                    changed.push(self.pages.len());
                }
                self.pages.push(p);
            }
        }
        self.changed = changed;
    }

    /// Checksum of the base image without the pages of this delta, and checksums of single pages for the next save.
    ///
    /// # Errors
    /// If a page of the base image cannot be read.
    pub fn base_sum(
        &self,
        memory: &[u8],
        base: &BaseImage,
        sources: &MemorySources,
    ) -> io::Result<(PageSetSum, Vec<(u32, u128)>)> {
        if base.generation == 0 {
            return Ok((PageSetSum(base.header.data_sum), Vec::new()));
        }
        let previous = &sources.previous;
        let mut sum = previous.base_sum;
        let mut page = vec![0; PAGE];
        for p in self.pages.iter().filter(|p| !previous.has(p.page)) {
            if let Some(known) = sources.known_sum(p.page) {
                sum.toggle(p.page, known);
            } else if base.read_page(p.page, &mut page)? {
                sum.toggle_content(p.page, &page);
            }
        }
        let mut known = BTreeMap::new();
        for n in &self.back {
            let content = page_of(memory, *n);
            if !is_zero(content) {
                let content_sum = page_sum(content);
                sum.toggle(*n, content_sum);
                known.insert(*n, content_sum);
            }
        }
        // A page that is in a slot now returns to the base image with another checksum.
        let is_left = |page: u32| self.pages.binary_search_by_key(&page, |p| p.page).is_err();
        for (page, content_sum) in sources.known.iter().filter(|(page, _)| is_left(*page)) {
            if known.len() >= KNOWN_PAGES {
                break;
            }
            // A page of `back` that is not in `known` is zero.
            if self.back.binary_search(page).is_err() {
                known.insert(*page, *content_sum);
            }
        }
        Ok((sum, known.into_iter().take(KNOWN_PAGES).collect()))
    }
}

/// The delta of `memory`, whose dirty pages are `anonymous`, to its base image. With `rewrite`, the save writes all of it
/// again.
///
/// # Errors
/// If a page of the base image cannot be read.
pub(super) fn delta(memory: &[u8], anonymous: &[u32], sources: &MemorySources, rewrite: bool) -> io::Result<Delta> {
    let MemorySources { base, previous, clean, overlay, .. } = sources;
    let mut pages = Vec::with_capacity(anonymous.len());
    let mut changed = Vec::new();
    let mut scratch = vec![0; PAGE];
    for (n, is_anonymous, before) in merged_by_page(anonymous, &previous.pages) {
        let before = before.filter(|_| !rewrite);
        if let Some(before) = before.filter(|b| !is_anonymous && overlay.slot_of(n) == Some(b.slot)) {
            // Still mapped from its slot, so it need not be read.
            pages.push(*before);
            continue;
        }
        let content = page_of(memory, n);
        let is_copy = clean.binary_search(&n).is_ok() && !previous.has(n);
        // With `rewrite` the disk may have lost the page, so it has to be read.
        let known = sources.known_sum(n).filter(|_| is_copy && !rewrite);
        if is_copy && known.is_none() && base.read_page(n, &mut scratch)? && scratch == content {
            continue;
        }
        if is_zero(content) {
            if n < base.pages() {
                pages.push(SavedPage { page: n, ..SavedPage::default() });
            }
            continue;
        }
        let sum = page_sum(content);
        if known == Some(sum) {
            continue;
        }
        if let Some(before) = before.filter(|b| b.slot != 0 && b.sum == sum) {
            pages.push(*before);
            continue;
        }
        changed.push(pages.len());
        pages.push(SavedPage { page: n, sum, ..SavedPage::default() });
    }
    Ok(Delta { pages, changed, back: Vec::new() })
}

/// The content of page `n`.
pub(super) fn page_of(memory: &[u8], n: u32) -> &[u8] {
    &memory[n as usize * PAGE..][..PAGE]
}

/// Merges two ascending lists: page number, whether the page is anonymous, and as what it is saved.
pub(super) fn merged_by_page<'a>(
    anonymous: &'a [u32],
    saved: &'a [SavedPage],
) -> impl Iterator<Item = (u32, bool, Option<&'a SavedPage>)> + 'a {
    let (mut a, mut b) = (anonymous.iter().peekable(), saved.iter().peekable());
    std::iter::from_fn(move || {
        let n = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => (**x).min(y.page),
            (Some(x), None) => **x,
            (None, y) => y.as_ref()?.page,
        };
        Some((n, a.next_if(|x| **x == n).is_some(), b.next_if(|y| y.page == n)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::Disk;
    use crate::format::{Extent, SnapshotMeta};
    use crate::memory_sources::Overlay;

    const SLOT: u32 = 20;

    /// A base image of 64 KiB has pages 0 and 1. Pages 1 and 17 are saved in slots. Page 17 is mapped from its slot, or
    /// was copied.
    fn sources(dir: &std::path::Path, memory: &[u8], is_mapped: bool) -> MemorySources {
        let meta = SnapshotMeta { digest: [0; 32], wall_ns: 0, monotonic_ns: 0, host_state: Vec::new() };
        let base = BaseImage::write(&Disk::default(), &dir.join("base"), &meta, 65_536, Vec::new(), 0, |n, page| {
            page.fill(n as u8 + 1);
            Ok(n < 2)
        });
        let saved = |page, slot| SavedPage { page, slot, sum: page_sum(page_of(memory, page)), ..SavedPage::default() };
        let pages = vec![saved(1, SLOT - 1), saved(17, SLOT)];
        let overlay = is_mapped.then_some(Extent { page: 17, count: 1, slot: SLOT });
        MemorySources {
            base: Arc::new(base.unwrap()),
            previous: PreviousSave { pages, ..PreviousSave::default() },
            clean: Vec::new(),
            overlay: Overlay::of(overlay),
            touched: None,
            known: Vec::new(),
        }
    }

    #[test]
    fn a_saved_page_is_compared_unless_it_is_mapped_from_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = vec![0; 2 * 65_536];
        memory[PAGE..2 * PAGE].fill(5);
        memory[17 * PAGE..18 * PAGE].fill(6);
        let (copied, mapped) = (sources(dir.path(), &memory, false), sources(dir.path(), &memory, true));
        let saved = |memory: &[u8], anonymous: &[u32], sources: &MemorySources| {
            let pages = delta(memory, anonymous, sources, false).unwrap().pages;
            pages.iter().map(|p| (p.page, p.slot)).collect::<Vec<_>>()
        };
        let unchanged = vec![(1, SLOT - 1), (17, SLOT)];
        assert_eq!(saved(&memory, &[1, 17], &copied), unchanged);
        assert_eq!(saved(&memory, &[1], &mapped), unchanged);
        // The guest zeroes both, and the kernel reclaims the pages: they are no longer anonymous.
        memory.fill(0);
        assert_eq!(saved(&memory, &[], &copied), [(1, 0)], "zero over the base image, and nothing beyond it");
        assert_eq!(saved(&memory, &[17], &mapped), [(1, 0)], "where a file is mapped, `anonymous` names it");
    }
}
