//! The file formats of snapshots: encodes and decodes the headers of state files and base images. No I/O.
//!
//! ```text
//!  0       8       12        16      24            28      32             48         64
//!  ┌───────┬───────┬─────────┬───────┬─────────────┬───────┬──────────────┬──────────┬─────────┐
//!  │ magic │version│ header_ │ seq   │ header_slot │ flags │ xxh3-128 of  │ nonce 12 │ header, │
//!  │ 8 B   │ u32   │ len u32 │ u64   │ u32         │ u32   │ all the rest │ key id 4 │ postcard│
//!  └───────┴───────┴─────────┴───────┴─────────────┴───────┴──────────────┴──────────┴─────────┘
//! ```
//!
//! Integers are little-endian. A *base image* has one such header at offset 0. From the next multiple of 4096 on follows
//! the memory: each page at its place, zero pages as holes. A *state file* has three header areas, and behind them
//! slots of one page each:
//!
//! ```text
//!  0          8 KiB      16 KiB     24 KiB
//!  ┌──────────┬──────────┬──────────┬────────┬────────┬────────┬─
//!  │ header 0 │ header 1 │ header 2 │ slot 6 │ slot 7 │ slot 8 │ …   slot n at n * 4096
//!  └──────────┴──────────┴──────────┴────────┴────────┴────────┴─
//! ```
//!
//! A header says which slot holds which page, with a checksum of each. The valid header with the highest `seq` is the
//! newest snapshot. A header that does not fit into its area lies in slots, from `header_slot` on. All other pages are
//! in the base image. A controller's own image changes with its snapshots, so the state file's header holds the
//! image's checksum (`PageSetSum`).
//!
//! Any change of layout or meaning raises [`VERSION`]. A host refuses every other version and converts none.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::page::PAGE;

/// The two kinds of file, each with a magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A base image.
    Base,
    /// A state file.
    State,
}

impl FileKind {
    fn magic(self) -> [u8; 8] {
        match self {
            FileKind::Base => *b"WASMOPBA",
            FileKind::State => *b"WASMOPST",
        }
    }
}

/// Version of the layout and of everything serialised into it.
pub const VERSION: u32 = 7;
/// Bytes of the fixed part of a header, before the postcard part.
pub const PREFIX_LEN: usize = 64;
/// Largest header that is read, bytes. No save writes one as large.
const MAX_HEADER_LEN: usize = 64 << 20;
/// Header areas of a state file: for the newest header, the newest durable one, and the next.
pub(crate) const AREAS: u8 = 3;
/// Bytes of a header area.
pub(crate) const AREA_LEN: usize = 8192;
/// The first slot, behind the header areas.
pub(crate) const FIRST_SLOT: u32 = (AREAS as usize * AREA_LEN / PAGE) as u32;
/// Bound of slot numbers. It limits a state file to 64 GiB.
const MAX_SLOT: u32 = 1 << 24;
/// Largest linear memory, bytes: wasm32.
const MAX_MEMORY: u64 = 4 << 30;
/// Bytes of a WebAssembly page.
const WASM_PAGE: u64 = 65_536;
/// Flag: header and pages are encrypted (`encryption`).
const ENCRYPTED: u32 = 1;

/// Header of a base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHeader {
    /// SHA-256 of the package.
    pub digest: [u8; 32],
    /// Bytes of linear memory; a multiple of 64 KiB.
    pub memory_size: u64,
    /// Bits of the mutable globals, in order of the module.
    pub globals: Vec<u64>,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
    /// Pages that are not zero, ascending, without overlap.
    pub runs: Vec<PageRun>,
    /// `PageSetSum` of these pages as they were first written.
    pub data_sum: u128,
}

/// Header of a state file: one snapshot, that is the delta to a base image and the host's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHeader {
    /// SHA-256 of the package.
    pub digest: [u8; 32],
    /// Generation of the base image: 0 is the package's, others are the controller's own.
    pub base_generation: u64,
    /// `PageSetSum` of the base image. Of a controller's own image it covers the pages that are not in `extents`, of
    /// a package's image all pages.
    pub base_sum: u128,
    /// Bytes of linear memory; a multiple of 64 KiB.
    pub memory_size: u64,
    /// Bits of the mutable globals, in order of the module.
    pub globals: Vec<u64>,
    /// Wall clock of the save, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The instance's monotonic clock at the save, nanoseconds.
    pub monotonic_ns: u64,
    /// Pages that had changed at the save, ascending. A resume prefaults them for writing.
    pub expected: Vec<PageRun>,
    /// Pages of the base image that instances touch, ascending, with small gaps filled. A cold resume prefetches them.
    pub touched: Vec<PageRun>,
    /// Checksums of some pages of the controller's own base image, ascending: those often written. A save then need not
    /// read them.
    pub known: Vec<(u32, u128)>,
    /// Pages that differ from the base image, ascending, without overlap.
    pub extents: Vec<Extent>,
    /// xxh3-128 of each page that has a slot, in order of `extents`.
    pub sums: Vec<u128>,
    /// Nonce and tag of each of these pages; empty if they are not encrypted.
    pub aead_tags: Vec<AeadTag>,
    /// State that the host keeps for the instance; opaque here.
    pub host_state: Vec<u8>,
}

/// The parts of a snapshot that the host supplies. A save reads the rest from the instance.
#[derive(Clone, Debug)]
pub struct SnapshotMeta {
    /// SHA-256 of the package.
    pub digest: [u8; 32],
    /// Wall clock, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
    /// State that the host keeps for the instance; opaque here.
    pub host_state: Vec<u8>,
}

/// `count` pages from page number `page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// The first page.
    pub page: u32,
    /// Number of pages.
    pub count: u32,
}

/// `count` pages from page number `page`, in consecutive slots from `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first page.
    pub page: u32,
    /// Number of pages.
    pub count: u32,
    /// The first slot. 0: the pages are zero and have none.
    pub slot: u32,
}

/// Nonce and tag of a block encrypted with AES-256-GCM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AeadTag {
    /// Random, unique for the key.
    pub nonce: [u8; 12],
    /// Authenticates the block.
    pub tag: [u8; 16],
}

/// A page that differs from the base image, and its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedPage {
    /// Page number.
    pub page: u32,
    /// 0: the page is zero, and the other fields mean nothing.
    pub slot: u32,
    /// xxh3-128 of the page's plain content.
    pub sum: u128,
    /// How the page is encrypted; zeros if it is not.
    pub aead: AeadTag,
}

/// Why a file or part of it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum FormatError {
    #[error("not a wasmop snapshot")]
    Magic,
    #[error("written in format {0}, this host reads format {VERSION}")]
    Version(u32),
    #[error("truncated: {have} bytes of {need}")]
    Truncated { have: u64, need: u64 },
    #[error("header damaged (checksum)")]
    HeaderChecksum,
    #[error("page data damaged (checksum)")]
    DataChecksum,
    #[error("header damaged: {0}")]
    Header(&'static str),
    #[error("encrypted, and this host has no key")]
    NoKey,
    #[error("encrypted with another key")]
    OtherKey,
    #[error("belongs to another package (sha256 {0})")]
    Foreign(String),
}

/// The fixed part of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the postcard part.
    pub header_len: usize,
    /// Sequence number: rises with each header written into a file. Of a base image, its generation.
    pub seq: u64,
    /// 0: the postcard part follows. Else the slot where it begins.
    pub header_slot: u32,
    /// Header and pages are encrypted.
    pub encrypted: bool,
    sum: u128,
    /// Nonce of the encrypted header.
    pub nonce: [u8; 12],
    /// Identifies the key.
    pub key_id: [u8; 4],
}

/// `N` bytes at offset `at`. The caller has checked the length.
fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

impl Prefix {
    /// Reads the fixed part from the beginning of `bytes`.
    ///
    /// # Errors
    /// If it is too short, of another kind or version, or has impossible values.
    pub fn read(kind: FileKind, bytes: &[u8]) -> Result<Prefix, FormatError> {
        if bytes.len() < PREFIX_LEN {
            return Err(FormatError::Truncated { have: bytes.len() as u64, need: PREFIX_LEN as u64 });
        }
        if bytes[0..8] != kind.magic() {
            return Err(FormatError::Magic);
        }
        let version = u32::from_le_bytes(word(bytes, 8));
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let header_len = u32::from_le_bytes(word(bytes, 12)) as usize;
        if header_len > MAX_HEADER_LEN {
            return Err(FormatError::Header("length"));
        }
        let flags = u32::from_le_bytes(word(bytes, 28));
        let header_slot = u32::from_le_bytes(word(bytes, 24));
        if flags & !ENCRYPTED != 0 || (header_slot != 0 && !(FIRST_SLOT..MAX_SLOT).contains(&header_slot)) {
            return Err(FormatError::Header("prefix"));
        }
        Ok(Prefix {
            header_len,
            seq: u64::from_le_bytes(word(bytes, 16)),
            header_slot,
            encrypted: flags & ENCRYPTED != 0,
            sum: u128::from_le_bytes(word(bytes, 32)),
            nonce: word(bytes, 48),
            key_id: word(bytes, 60),
        })
    }

    /// Compares the checksum of prefix and header with the stored one.
    ///
    /// # Errors
    /// [`FormatError::HeaderChecksum`] if they differ.
    ///
    /// # Panics
    /// If `prefix` is shorter than [`PREFIX_LEN`].
    pub fn check(&self, prefix: &[u8], header: &[u8]) -> Result<(), FormatError> {
        if self.sum == sum_of(prefix, header) { Ok(()) } else { Err(FormatError::HeaderChecksum) }
    }
}

/// xxh3-128 of prefix and header, without the bytes of the checksum itself.
fn sum_of(prefix: &[u8], header: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&prefix[..32]);
    hasher.update(&prefix[48..PREFIX_LEN]);
    hasher.update(header);
    hasher.digest128()
}

/// The fixed part for `header`. `encrypted`: nonce and key id, if the header is encrypted.
pub fn prefix(
    kind: FileKind,
    seq: u64,
    header: &[u8],
    header_slot: u32,
    encrypted: Option<([u8; 12], [u8; 4])>,
) -> [u8; PREFIX_LEN] {
    let mut out = [0; PREFIX_LEN];
    out[0..8].copy_from_slice(&kind.magic());
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&(header.len() as u32).to_le_bytes());
    out[16..24].copy_from_slice(&seq.to_le_bytes());
    out[24..28].copy_from_slice(&header_slot.to_le_bytes());
    if let Some((nonce, key_id)) = encrypted {
        out[28..32].copy_from_slice(&ENCRYPTED.to_le_bytes());
        out[48..60].copy_from_slice(&nonce);
        out[60..64].copy_from_slice(&key_id);
    }
    let sum = sum_of(&out, header);
    out[32..48].copy_from_slice(&sum.to_le_bytes());
    out
}

fn check_memory_size(size: u64) -> Result<u64, FormatError> {
    if size > MAX_MEMORY || !size.is_multiple_of(WASM_PAGE) {
        return Err(FormatError::Header("memory size"));
    }
    Ok(size / PAGE as u64)
}

/// Checks that runs ascend, do not overlap, and lie within `pages`.
fn check_runs(pages: u64, runs: impl Iterator<Item = PageRun>) -> Result<(), FormatError> {
    let mut next = 0u64;
    for run in runs {
        let end = u64::from(run.page) + u64::from(run.count);
        if u64::from(run.page) < next || end > pages || run.count == 0 {
            return Err(FormatError::Header("page runs"));
        }
        next = end;
    }
    Ok(())
}

fn check_digest(own: &[u8; 32], expected: &[u8; 32]) -> Result<(), FormatError> {
    if own == expected {
        return Ok(());
    }
    Err(FormatError::Foreign(own.iter().map(|b| format!("{b:02x}")).collect()))
}

impl ImageHeader {
    /// The postcard part of the header.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Decodes the postcard part and checks every field, so that later arithmetic cannot overflow.
    ///
    /// # Errors
    /// [`FormatError::Header`] with what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<ImageHeader, FormatError> {
        let header: ImageHeader = postcard::from_bytes(bytes).map_err(|_| FormatError::Header("encoding"))?;
        let pages = check_memory_size(header.memory_size)?;
        check_runs(pages, header.runs.iter().copied())?;
        Ok(header)
    }

    /// Checks that the file belongs to the package with this digest.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] if not.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), FormatError> {
        check_digest(&self.digest, digest)
    }

    /// Number of pages that are not zero.
    pub fn data_pages(&self) -> u64 {
        self.runs.iter().map(|r| u64::from(r.count)).sum()
    }
}

impl StateHeader {
    /// The postcard part of the header.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Decodes the postcard part and checks every field, so that later arithmetic cannot overflow.
    ///
    /// # Errors
    /// [`FormatError::Header`] with what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<StateHeader, FormatError> {
        let header: StateHeader = postcard::from_bytes(bytes).map_err(|_| FormatError::Header("encoding"))?;
        let pages = check_memory_size(header.memory_size)?;
        check_runs(pages, header.expected.iter().copied())?;
        check_runs(pages, header.touched.iter().copied())?;
        check_runs(pages, header.known.iter().map(|(page, _)| PageRun { page: *page, count: 1 }))?;
        check_runs(pages, header.extents.iter().map(|e| PageRun { page: e.page, count: e.count }))?;
        let stored = || header.extents.iter().filter(|e| e.slot != 0);
        if stored().any(|e| e.slot < FIRST_SLOT || u64::from(e.slot) + u64::from(e.count) > u64::from(MAX_SLOT)) {
            return Err(FormatError::Header("slots"));
        }
        let encrypted = header.aead_tags.len();
        if stored().map(|e| u64::from(e.count)).sum::<u64>() != header.sums.len() as u64
            || (encrypted != 0 && encrypted != header.sums.len())
        {
            return Err(FormatError::Header("checksums"));
        }
        Ok(header)
    }

    /// Checks that the file belongs to the package with this digest.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] if not.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), FormatError> {
        check_digest(&self.digest, digest)
    }

    /// Sets extents, checksums and tags from `pages`, ascending.
    pub(crate) fn set_pages(&mut self, pages: &[SavedPage], encrypted: bool) {
        (self.extents, self.sums, self.aead_tags) = (Vec::new(), Vec::with_capacity(pages.len()), Vec::new());
        for p in pages {
            if p.slot != 0 {
                self.sums.push(p.sum);
                if encrypted {
                    self.aead_tags.push(p.aead);
                }
            }
            match self.extents.last_mut() {
                Some(e) if e.page + e.count == p.page && follows(e, p.slot) => e.count += 1,
                _ => self.extents.push(Extent { page: p.page, count: 1, slot: p.slot }),
            }
        }
    }

    /// The pages that differ from the base image, ascending.
    pub fn pages(&self) -> Vec<SavedPage> {
        let mut stored = self.sums.iter().enumerate();
        let mut pages = Vec::with_capacity(self.sums.len());
        for e in &self.extents {
            for i in 0..e.count {
                let page = e.page + i;
                let stored = if e.slot == 0 { None } else { stored.next() };
                pages.push(match stored {
                    None => SavedPage { page, ..SavedPage::default() },
                    Some((n, sum)) => {
                        let aead = self.aead_tags.get(n).copied().unwrap_or_default();
                        SavedPage { page, slot: e.slot + i, sum: *sum, aead }
                    }
                });
            }
        }
        pages
    }
}

/// Whether a page in `slot` continues the extent.
fn follows(extent: &Extent, slot: u32) -> bool {
    match extent.slot {
        0 => slot == 0,
        first => slot == first + extent.count,
    }
}

/// Offset of a slot in a state file.
pub(crate) fn offset_of(slot: u32) -> u64 {
    u64::from(slot) * PAGE as u64
}

/// Offset of a header area in a state file.
pub(crate) fn area_offset(area: u8) -> u64 {
    u64::from(area) * AREA_LEN as u64
}

/// Offset of the page data in a base image whose header has `header_len` bytes.
pub fn data_offset(header_len: usize) -> u64 {
    (PREFIX_LEN + header_len).next_multiple_of(PAGE) as u64
}

/// Joins ascending page numbers to runs.
pub(crate) fn runs(pages: impl IntoIterator<Item = u32>) -> Vec<PageRun> {
    let mut runs: Vec<PageRun> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(last) if last.page + last.count == page => last.count += 1,
            _ => runs.push(PageRun { page, count: 1 }),
        }
    }
    runs
}

/// Joins ascending page numbers to runs, and fills gaps of at most `gap` pages.
pub fn runs_with_gaps(pages: impl IntoIterator<Item = u32>, gap: u32) -> Vec<PageRun> {
    let mut merged_by_page: Vec<PageRun> = Vec::new();
    for page in pages {
        match merged_by_page.last_mut() {
            Some(last) if page - last.page <= last.count + gap => last.count = page - last.page + 1,
            _ => merged_by_page.push(PageRun { page, count: 1 }),
        }
    }
    merged_by_page
}

#[cfg(test)]
mod tests;
