//! Which pages of an instance its snapshot has to name, and which of them have to be written.

use std::collections::BTreeMap;
use std::io;

use crate::format::{Fold, Run, SavedPage, is_zero, page_sum, runs};
use crate::image::BaseImage;
use crate::page::PAGE;
use crate::sources::{Previous, Sources};

/// Pages that stay in slots while they don't change. To write more of them back is cheaper than to copy
/// them at each resume.
const KEPT_PAGES: usize = 32;
/// Pages of a controller's own base image whose sums its snapshot has: 24 bytes each in the file.
const KNOWN_PAGES: usize = 256;
/// Pages that a snapshot says are likely to be written next.
const EXPECTED_PAGES: usize = 512;

/// The pages of a snapshot.
#[derive(Default)]
pub(super) struct Difference {
    pub pages: Vec<SavedPage>,
    /// Indexes of those that are still to be written into slots.
    pub changed: Vec<usize>,
    /// Pages to be written back into the base image, ascending.
    pub back: Vec<u32>,
}

impl Difference {
    /// Pages that have changed: those are likely to change the next time too.
    pub fn expected(&self) -> Vec<Run> {
        runs(self.changed.iter().take(EXPECTED_PAGES).map(|i| self.pages[*i].page))
    }

    /// Chooses pages to be written back into the base image, which are then part of it: those that the
    /// newest snapshot has in a slot and that have changed, and the others if they are many.
    pub fn write_back(&mut self, base: &BaseImage, previous: &Previous) {
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

    /// Checksum of the base image's pages that count beside these, and what is known of single ones.
    pub fn base_sum(&self, memory: &[u8], base: &BaseImage, sources: &Sources) -> io::Result<(Fold, Vec<(u32, u128)>)> {
        if base.generation == 0 {
            return Ok((Fold(base.header.data_sum), Vec::new()));
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
        // Those that are in slots now come back one day with another sum.
        let is_left = |page: u32| self.pages.binary_search_by_key(&page, |p| p.page).is_err();
        for (page, content_sum) in sources.known.iter().filter(|(page, _)| is_left(*page)) {
            if known.len() >= KNOWN_PAGES {
                break;
            }
            // What is in `back` is zero, if it is not among these.
            if self.back.binary_search(page).is_err() {
                known.insert(*page, *content_sum);
            }
        }
        Ok((sum, known.into_iter().take(KNOWN_PAGES).collect()))
    }
}

/// What of `memory` the base image has not. `rewrite`: all of it is to be written, whatever was before.
pub(super) fn difference(memory: &[u8], anonymous: &[u32], sources: &Sources, rewrite: bool) -> io::Result<Difference> {
    let Sources { base, previous, clean, overlay, .. } = sources;
    let mut pages = Vec::with_capacity(anonymous.len());
    let mut changed = Vec::new();
    let mut scratch = vec![0; PAGE];
    for (n, is_anonymous, before) in joined(anonymous, &previous.pages) {
        let before = before.filter(|_| !rewrite);
        if let Some(before) = before.filter(|b| !is_anonymous && overlay.slot_of(n) == Some(b.slot)) {
            // Still mapped from its slot: not even looked at.
            pages.push(*before);
            continue;
        }
        let content = page_of(memory, n);
        let is_copy = clean.binary_search(&n).is_ok() && !previous.has(n);
        // What the disk is not sure to have kept has to be read.
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
    Ok(Difference { pages, changed, back: Vec::new() })
}

pub(super) fn page_of(memory: &[u8], n: u32) -> &[u8] {
    &memory[n as usize * PAGE..][..PAGE]
}

/// Page numbers of either, ascending: whether the page is anonymous, and as what it is saved.
pub(super) fn joined<'a>(
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
    use crate::format::{Extent, Moment};
    use crate::sources::Overlay;

    const SLOT: u32 = 20;

    /// Pages 0 and 1 are in a base image of 64 KiB. Pages 1 and 17 are saved in slots; 17 is mapped from there or was
    /// copied.
    fn sources(dir: &std::path::Path, memory: &[u8], is_mapped: bool) -> Sources {
        let moment = Moment { digest: [0; 32], wall_ns: 0, monotonic_ns: 0, host_state: Vec::new() };
        let base = BaseImage::write(&Disk::default(), &dir.join("base"), &moment, 65_536, Vec::new(), 0, |n, page| {
            page.fill(n as u8 + 1);
            Ok(n < 2)
        });
        let saved = |page, slot| SavedPage { page, slot, sum: page_sum(page_of(memory, page)), ..SavedPage::default() };
        let pages = vec![saved(1, SLOT - 1), saved(17, SLOT)];
        let overlay = is_mapped.then_some(Extent { page: 17, count: 1, slot: SLOT });
        Sources {
            base: Arc::new(base.unwrap()),
            previous: Previous { pages, ..Previous::default() },
            clean: Vec::new(),
            overlay: Overlay::of(overlay),
            touched: None,
            known: Vec::new(),
        }
    }

    #[test]
    fn a_stored_page_is_read_unless_it_is_mapped_from_its_slot() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = vec![0; 2 * 65_536];
        memory[PAGE..2 * PAGE].fill(5);
        memory[17 * PAGE..18 * PAGE].fill(6);
        let (copied, mapped) = (sources(dir.path(), &memory, false), sources(dir.path(), &memory, true));
        let saved = |memory: &[u8], anonymous: &[u32], sources: &Sources| {
            let pages = difference(memory, anonymous, sources, false).unwrap().pages;
            pages.iter().map(|p| (p.page, p.slot)).collect::<Vec<_>>()
        };
        let unchanged = vec![(1, SLOT - 1), (17, SLOT)];
        assert_eq!(saved(&memory, &[1, 17], &copied), unchanged);
        assert_eq!(saved(&memory, &[1], &mapped), unchanged);
        // The guest zeroes both, and the kernel takes the pages back: they are not anonymous any more.
        memory.fill(0);
        assert_eq!(saved(&memory, &[], &copied), [(1, 0)], "zero over the base image, and nothing beyond it");
        assert_eq!(saved(&memory, &[17], &mapped), [(1, 0)], "where a file is mapped, `anonymous` names it");
    }
}
