//! Reads this process's page tables: which pages of an address range are dirty, or were touched.
//!
//! The kernel reports both by `/proc/self/pagemap`. Page numbers count from the beginning of the range and ascend.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use wasmop_snapshot::PAGE;

/// Pages that are present (or swapped out) and not backed by a file.
///
/// The kernel's shared zero page counts only among the first `file_pages` pages. In a private mapping of a file it is
/// content: the kernel replaces a written zero page by it when it splits a huge page or merges equal pages. Elsewhere
/// it stands for memory that was read and never written.
///
/// # Errors
/// If `/proc/self/pagemap` cannot be read.
pub(crate) fn dirty(addresses: Range<usize>, file_pages: u32) -> io::Result<Vec<u32>> {
    let pagemap = pagemap()?;
    match scan_dirty(pagemap, addresses.clone(), file_pages) {
        // Before Linux 6.7.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => read(pagemap, addresses),
        result => result,
    }
}

/// Pages that are in the page tables.
///
/// # Errors
/// If the kernel cannot scan page tables, as before Linux 6.7.
pub(crate) fn touched(addresses: Range<usize>) -> io::Result<Vec<u32>> {
    let argument = ScanArgument { category_mask: IS_PRESENT, return_mask: IS_PRESENT, ..ScanArgument::default() };
    let mut pages = Vec::new();
    scan(pagemap()?, addresses, argument, |found, _| pages.extend(found))?;
    Ok(pages)
}

fn pagemap() -> io::Result<&'static File> {
    static PAGEMAP: OnceLock<io::Result<File>> = OnceLock::new();
    let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap")).as_ref();
    pagemap.map_err(|e| io::Error::new(e.kind(), format!("/proc/self/pagemap: {e}")))
}

/// Dirty pages by a scan of the kernel, which skips untouched ranges.
pub(crate) fn scan_dirty(pagemap: &File, addresses: Range<usize>, file_pages: u32) -> io::Result<Vec<u32>> {
    let argument = ScanArgument {
        category_inverted: IS_FILE,
        category_mask: IS_FILE,
        category_anyof_mask: IS_PRESENT | IS_SWAPPED,
        return_mask: IS_PRESENT | IS_ZERO_PAGE,
        ..ScanArgument::default()
    };
    let mut dirty = Vec::new();
    scan(pagemap, addresses, argument, |found, categories| {
        dirty.extend(without_zero_pages(found, categories, file_pages))
    })?;
    Ok(dirty)
}

/// The dirty ones of `found`: pages with the same `categories`, none backed by a file.
fn without_zero_pages(found: Range<u32>, categories: u64, file_pages: u32) -> Range<u32> {
    match categories & IS_ZERO_PAGE {
        0 => found,
        _ => found.start..found.end.min(file_pages).max(found.start),
    }
}

/// Dirty pages by the page map's entry of each page.
pub(crate) fn read(pagemap: &File, addresses: Range<usize>) -> io::Result<Vec<u32>> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILE_BACKED: u64 = 1 << 61;
    let pages = addresses.len() / PAGE;
    let mut dirty = Vec::new();
    let mut buffer = vec![0u8; pages.min(8192) * 8];
    let mut first = 0;
    while first < pages {
        let count = (pages - first).min(8192);
        let entries = &mut buffer[..count * 8];
        pagemap.read_exact_at(entries, ((addresses.start / PAGE + first) * 8) as u64)?;
        for (i, entry) in entries.as_chunks::<8>().0.iter().enumerate() {
            let entry = u64::from_ne_bytes(*entry);
            if entry & (PRESENT | SWAPPED) != 0 && entry & FILE_BACKED == 0 {
                dirty.push((first + i) as u32);
            }
        }
        first += count;
    }
    Ok(dirty)
}

/// Scans for pages with the categories that `argument` asks for. Calls `found` with each range and its categories.
fn scan(
    pagemap: &File,
    addresses: Range<usize>,
    argument: ScanArgument,
    mut found: impl FnMut(Range<u32>, u64),
) -> io::Result<()> {
    let (begin, end) = (addresses.start as u64, addresses.end as u64);
    let mut regions = [PageRegion::default(); 256];
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        start: begin,
        end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        ..argument
    };
    while argument.start < end {
        // SAFETY: `argument` has the kernel's layout (linux/fs.h), and `vec` and `vec_len` describe `regions`, which
        // outlives the call. The kernel writes to these two only.
        #[allow(trivial_numeric_casts, reason = "musl has another type for it")]
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &mut argument) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for region in &regions[..count as usize] {
            let page = |address: u64| ((address - begin) / PAGE as u64) as u32;
            found(page(region.start)..page(region.end), region.categories);
        }
        if argument.walk_end <= argument.start {
            return Err(io::Error::other("the kernel's page scan makes no progress"));
        }
        argument.start = argument.walk_end;
    }
    Ok(())
}

/// `PAGEMAP_SCAN` with its argument and categories, from linux/fs.h: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<ScanArgument>() as u64) << 16 | (b'f' as u64) << 8 | 16;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_dirty_only_where_a_file_is_mapped() {
        for (found, categories, file_pages, expected) in [
            (0..4, IS_PRESENT, 0, 0..4),
            (0..4, IS_SWAPPED, 0, 0..4),
            (2..9, IS_PRESENT | IS_ZERO_PAGE, 0, 2..2),
            (2..9, IS_PRESENT | IS_ZERO_PAGE, 2, 2..2),
            (2..9, IS_PRESENT | IS_ZERO_PAGE, 5, 2..5),
            (2..9, IS_PRESENT | IS_ZERO_PAGE, 9, 2..9),
            (2..9, IS_PRESENT | IS_ZERO_PAGE, 20, 2..9),
        ] {
            assert_eq!(without_zero_pages(found.clone(), categories, file_pages), expected, "{found:?} {file_pages}");
        }
    }
}
