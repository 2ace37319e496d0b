//! The memory image: the initial linear memory of a package, as a sparse list of runs of bytes.
//!
//! `wasmop build` moves the active data segments of a module into the image. Instantiating the module then writes
//! nothing: the host maps either the image or the saved memory of an instance. The custom section `wasmop:memory-image`
//! has this little-endian layout:
//!
//! ```text
//!  0        4         8          16          20          24
//!  ┌────────┬─────────┬──────────┬───────────┬───────────┐
//!  │ "wmim" │ version │ size     │ run count │ reserved  │   header, 24 bytes
//!  │ 4 × u8 │ u32 = 1 │ u64      │ u32 = n   │ u32 = 0   │
//!  ├────────┴─────────┴──────────┴───────────┴───────────┤
//!  │ n × { offset u32, length u32 }                      │   run table: ascending, disjoint, length > 0
//!  ├─────────────────────────────────────────────────────┤
//!  │ bytes of run 0 │ bytes of run 1 │ …                 │   nothing after the last run
//!  └─────────────────────────────────────────────────────┘
//! ```
//!
//! `size` is a multiple of 4096, at most 4 GiB, and at least the end of the last run. All other bytes are zero.
//!
//! A reader accepts only its own version. An image is built and read by the same release series, and packages can be
//! rebuilt from source.

use std::collections::BTreeMap;

use thiserror::Error;

const MAGIC: [u8; 4] = *b"wmim";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const RUN_ENTRY: usize = 8;
/// The host maps images page by page.
const PAGE: u64 = 4096;
/// The maximum size of a 32-bit memory.
const MAX_SIZE: u64 = 1 << 32;
/// A gap of at most this many zeros between two runs costs less as bytes than as another table entry.
const MERGE_GAP: u64 = RUN_ENTRY as u64;

/// Why a memory image is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant is its documentation")]
pub enum MemoryImageError {
    #[error("it ends after {have} bytes where {need} are needed")]
    Truncated { have: usize, need: u64 },
    #[error("it does not begin with \"wmim\"")]
    Magic,
    #[error("it has version {found}; this wasmop reads version {VERSION}")]
    Version { found: u32 },
    #[error("its size {size} is not a multiple of {PAGE} of at most 4 GiB")]
    Size { size: u64 },
    #[error("its reserved field is {found}, not 0")]
    Reserved { found: u32 },
    #[error("run {run} (offset {offset}, {len} bytes) is empty, out of order, or past the end")]
    Run { run: u32, offset: u32, len: u32 },
    #[error("{extra} bytes follow the last run")]
    Trailing { extra: u64 },
}

/// A checked view of a memory image.
#[derive(Clone, Copy, Debug)]
pub struct MemoryImage<'a> {
    /// Bytes of linear memory that the image describes. A multiple of 4096.
    pub size: u64,
    // Invariant, established by `parse`: a whole number of entries, ascending, disjoint and within `size`. Their
    // lengths add up to `bytes.len()`.
    table: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> MemoryImage<'a> {
    /// Parses the content of a `wasmop:memory-image` section.
    ///
    /// # Errors
    ///
    /// Fails if any field is invalid or inconsistent with another.
    pub fn parse(section: &'a [u8]) -> Result<Self, MemoryImageError> {
        let truncated = |need: u64| MemoryImageError::Truncated { have: section.len(), need };
        let Some((header, rest)) = section.split_at_checked(HEADER) else {
            return Err(truncated(HEADER as u64));
        };
        if header[..4] != MAGIC {
            return Err(MemoryImageError::Magic);
        }
        let version = u32_at(header, 4);
        if version != VERSION {
            return Err(MemoryImageError::Version { found: version });
        }
        let size = u64::from(u32_at(header, 8)) | u64::from(u32_at(header, 12)) << 32;
        if size > MAX_SIZE || !size.is_multiple_of(PAGE) {
            return Err(MemoryImageError::Size { size });
        }
        let count = u32_at(header, 16);
        let reserved = u32_at(header, 20);
        if reserved != 0 {
            return Err(MemoryImageError::Reserved { found: reserved });
        }
        let table_len = u64::from(count) * RUN_ENTRY as u64;
        if table_len > rest.len() as u64 {
            return Err(truncated(HEADER as u64 + table_len));
        }
        let (table, bytes) = rest.split_at(table_len as usize);

        let mut total = 0u64;
        let mut previous_end = 0u64;
        for (run, (offset, len)) in (0u32..).zip(entries(table)) {
            let start = u64::from(offset);
            let end = start + u64::from(len);
            if len == 0 || start < previous_end || end > size {
                return Err(MemoryImageError::Run { run, offset, len });
            }
            previous_end = end;
            total += u64::from(len);
        }
        let have = bytes.len() as u64;
        if total > have {
            return Err(truncated(HEADER as u64 + table_len + total));
        }
        if total < have {
            return Err(MemoryImageError::Trailing { extra: have - total });
        }
        Ok(MemoryImage { size, table, bytes })
    }

    /// Returns the offset in linear memory and the content of each run, in ascending order.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let mut bytes = self.bytes;
        entries(self.table).map(move |(offset, len)| {
            let (run, rest) = bytes.split_at(len as usize);
            bytes = rest;
            (u64::from(offset), run)
        })
    }

    /// Returns the number of bytes that the image stores explicitly.
    pub fn stored(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn entries(table: &[u8]) -> impl Iterator<Item = (u32, u32)> + use<'_> {
    table.chunks_exact(RUN_ENTRY).map(|entry| (u32_at(entry, 0), u32_at(entry, 4)))
}

/// Builds an image from data segments. Later segments overwrite earlier ones.
///
/// It stores pages, so one byte at offset 3 GiB costs a page rather than 3 GiB.
#[derive(Default)]
pub struct ImageBuilder {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    end: u64,
}

impl ImageBuilder {
    /// Writes `data` at `offset`. The caller ensures that it fits into a 32-bit memory.
    pub fn write(&mut self, offset: u32, mut data: &[u8]) {
        let mut at = u64::from(offset);
        self.end = self.end.max(at + data.len() as u64);
        while !data.is_empty() {
            let start = (at % PAGE) as usize;
            let (now, later) = data.split_at(data.len().min(PAGE as usize - start));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]));
            page[start..start + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            data = later;
        }
    }

    /// Returns the content of the section.
    pub fn finish(self) -> Vec<u8> {
        let runs = self.runs();
        let mut section = Vec::new();
        section.extend_from_slice(&MAGIC);
        section.extend_from_slice(&VERSION.to_le_bytes());
        section.extend_from_slice(&self.end.next_multiple_of(PAGE).to_le_bytes());
        section.extend_from_slice(&(runs.len() as u32).to_le_bytes());
        section.extend_from_slice(&0u32.to_le_bytes());
        for &(start, end) in &runs {
            section.extend_from_slice(&(start as u32).to_le_bytes());
            section.extend_from_slice(&((end - start) as u32).to_le_bytes());
        }
        for &(start, end) in &runs {
            let mut at = start;
            while at < end {
                let from = (at % PAGE) as usize;
                let to = (PAGE as usize).min(from + (end - at) as usize);
                match self.pages.get(&(at / PAGE)) {
                    Some(page) => section.extend_from_slice(&page[from..to]),
                    None => section.resize(section.len() + (to - from), 0),
                }
                at += (to - from) as u64;
            }
        }
        section
    }

    /// Returns ranges that cover all non-zero bytes. Gaps of at most `MERGE_GAP` bytes are merged.
    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (&number, page) in &self.pages {
            for (index, _) in page.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                let at = number * PAGE + index as u64;
                match runs.last_mut() {
                    Some((_, end)) if at - *end <= MERGE_GAP => *end = at + 1,
                    _ => runs.push((at, at + 1)),
                }
            }
        }
        // A run of exactly 4 GiB does not fit into a u32 length. Split it.
        if let [(0, MAX_SIZE)] = runs[..] {
            return vec![(0, MAX_SIZE / 2), (MAX_SIZE / 2, MAX_SIZE)];
        }
        runs
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
