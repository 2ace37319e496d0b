//! Checksums of pages, and of sets of pages that change one by one.

use twox_hash::XxHash3_128;

/// xxh3-128 of a page.
pub(crate) fn page_sum(page: &[u8]) -> u128 {
    XxHash3_128::oneshot(page)
}

/// Checksum of a set of pages, to which pages can be added and from which they can be removed in any order. Zero pages
/// do not count.
///
/// It is the exclusive or of one checksum for each page, made of its number and its [`page_sum`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageSetSum(pub u128);

impl PageSetSum {
    /// Adds a page that is not zero, or removes it again.
    pub fn toggle(&mut self, page: u32, sum: u128) {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&page.to_le_bytes());
        bytes[4..].copy_from_slice(&sum.to_le_bytes());
        self.0 ^= XxHash3_128::oneshot(&bytes);
    }

    /// Adds or removes a page by its content.
    pub fn toggle_content(&mut self, page: u32, content: &[u8]) {
        if !is_zero(content) {
            self.toggle(page, page_sum(content));
        }
    }
}

/// Whether a page holds nothing but zeros.
pub fn is_zero(page: &[u8]) -> bool {
    let (chunks, tail) = page.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && tail.iter().all(|b| *b == 0)
}
