//! The bytes of a state file and of a base image: headers in, headers out. No I/O.
//!
//! ```text
//!  0       8       12        16      24            28      32             48         64
//!  ┌───────┬───────┬─────────┬───────┬─────────────┬───────┬──────────────┬──────────┬─────────┐
//!  │ magic │version│ header_ │ seq   │ header_slot │ flags │ xxh3-128 of  │ nonce 12 │ header, │
//!  │ 8 B   │ u32   │ len u32 │ u64   │ u32         │ u32   │ all the rest │ key id 4 │ postcard│
//!  └───────┴───────┴─────────┴───────┴─────────────┴───────┴──────────────┴──────────┴─────────┘
//! ```
//!
//! All integers little-endian. A *base image* has one such header at 0 and, from the next multiple of
//! 4096, the memory: each page at its place, zero pages as holes. A *state file* has room for three
//! headers, and behind them slots of one page each:
//!
//! ```text
//!  0          8 KiB      16 KiB     24 KiB
//!  ┌──────────┬──────────┬──────────┬────────┬────────┬────────┬─
//!  │ header 0 │ header 1 │ header 2 │ slot 6 │ slot 7 │ slot 8 │ …   slot n at n * 4096
//!  └──────────┴──────────┴──────────┴────────┴────────┴────────┴─
//! ```
//!
//! A header says which slot holds which page, with a checksum for each. The valid header with the
//! highest `seq` counts. One that does not fit into its room lies in slots, `header_slot` says where.
//! All other pages are in the base image. One of a controller's own changes with its snapshots, so it is
//! the state file's header that has the checksum of what it holds (`Fold`).
//!
//! Any change of layout or meaning raises [`VERSION`]; another version is refused, never converted.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use xxhash_rust::xxh3::Xxh3;

use crate::page::PAGE;

/// Which of the two kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    State,
}

impl Kind {
    fn magic(self) -> [u8; 8] {
        match self {
            Kind::Base => *b"WASMOPBA",
            Kind::State => *b"WASMOPST",
        }
    }
}

/// Version of the layout and of everything that is serialised into it.
pub const VERSION: u32 = 6;
/// Bytes before the postcard part.
pub const PREFIX_LEN: usize = 64;
/// Largest header read: 16 Mi pages or as many bytes of host state are beyond what a suspend writes.
pub const MAX_HEADER_LEN: usize = 64 << 20;
/// Headers a state file has room for: the newest, the newest that is surely on disk, and the next.
pub const AREAS: u8 = 3;
/// Bytes of room for each.
pub const AREA_LEN: usize = 8192;
/// The first slot, behind the headers.
pub const FIRST_SLOT: u32 = (AREAS as usize * AREA_LEN / PAGE) as u32;
/// Slots are numbered by `u32`; this bounds the file at 64 GiB.
const MAX_SLOT: u32 = 1 << 24;
/// Linear memory is 32-bit.
const MAX_MEMORY: u64 = 4 << 30;
const WASM_PAGE: u64 = 65_536;
/// Flag: the header and the pages are encrypted (`encryption`).
const SEALED: u32 = 1;

/// Header of a base image: a whole memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHeader {
    /// SHA-256 of the package whose memory this is.
    pub digest: [u8; 32],
    /// Bytes of linear memory; a multiple of 64 KiB.
    pub memory_size: u64,
    /// Bits of the mutable globals.
    pub globals: Vec<u64>,
    /// The instance's monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
    /// Pages with data, ascending, without overlap.
    pub runs: Vec<Run>,
    /// [`Fold`] of all of them, as they were when the image was written.
    pub data_sum: u128,
}

/// Header of a state file: what differs from a base image, and the host's half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHeader {
    /// SHA-256 of the package whose instance this is.
    pub digest: [u8; 32],
    /// The base image: 0 is the package's, else the controller's own.
    pub base_generation: u64,
    /// [`Fold`] of those of its pages that count, the ones that are not among `extents`; for a package's
    /// image of all pages: a snapshot fits one base only.
    pub base_sum: u128,
    /// Bytes of linear memory; a multiple of 64 KiB.
    pub memory_size: u64,
    /// Bits of the mutable globals.
    pub globals: Vec<u64>,
    /// Wall clock when it was written, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The instance's monotonic clock at that moment, nanoseconds.
    pub monotonic_ns: u64,
    /// Pages that had changed when it was written, ascending: a resume gets them ready to be written.
    pub expected: Vec<Run>,
    /// Pages of the base image that the instance looked at, ascending, with some around them: a resume from a
    /// cold page cache asks the disk for all at once.
    pub touched: Vec<Run>,
    /// Pages of the controller's own base image that are often written, ascending, with their [`page_sum`]s: a save
    /// need not read them there.
    pub known: Vec<(u32, u128)>,
    /// Pages that differ, ascending, without overlap.
    pub extents: Vec<Extent>,
    /// [`page_sum`] of each page with data, in order.
    pub sums: Vec<u128>,
    /// How each of them is encrypted; empty if they are not.
    pub seals: Vec<Seal>,
    /// The host's half (`wasmop_core::controller::ControllerState`), opaque here.
    pub host_state: Vec<u8>,
}

/// What the host knows of an instance at the moment it is written; the rest is read from the instance.
#[derive(Clone, Debug)]
pub struct Moment {
    pub digest: [u8; 32],
    pub wall_ns: u64,
    pub monotonic_ns: u64,
    pub host_state: Vec<u8>,
}

/// `count` pages from page number `page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub page: u32,
    pub count: u32,
}

/// `count` pages from page number `page`, in slots from `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub page: u32,
    pub count: u32,
    /// 0: all zero, no data in the file.
    pub slot: u32,
}

/// What an encrypted page is opened with besides the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub nonce: [u8; 12],
    pub tag: [u8; 16],
}

/// A page that differs from the base image, and where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedPage {
    pub page: u32,
    /// 0: all zero; then the rest means nothing.
    pub slot: u32,
    /// xxh3-128 of the page as it is in memory.
    pub sum: u128,
    pub seal: Seal,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// What stands before a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub header_len: usize,
    /// Rises with each header written into a file.
    pub seq: u64,
    /// 0: the header follows; else the slot it begins in.
    pub header_slot: u32,
    pub sealed: bool,
    sum: u128,
    pub nonce: [u8; 12],
    pub key_id: [u8; 4],
}

/// Numbers at fixed places; the caller has checked the length.
fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

impl Prefix {
    pub fn read(kind: Kind, bytes: &[u8]) -> Result<Prefix, FormatError> {
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
        if flags & !SEALED != 0 || (header_slot != 0 && !(FIRST_SLOT..MAX_SLOT).contains(&header_slot)) {
            return Err(FormatError::Header("prefix"));
        }
        Ok(Prefix {
            header_len,
            seq: u64::from_le_bytes(word(bytes, 16)),
            header_slot,
            sealed: flags & SEALED != 0,
            sum: u128::from_le_bytes(word(bytes, 32)),
            nonce: word(bytes, 48),
            key_id: word(bytes, 60),
        })
    }

    /// Whether prefix and header are as they were written.
    pub fn check(&self, prefix: &[u8], header: &[u8]) -> Result<(), FormatError> {
        if self.sum == sum_of(prefix, header) { Ok(()) } else { Err(FormatError::HeaderChecksum) }
    }
}

/// Over prefix and header, the sum's own place taken as zeros.
fn sum_of(prefix: &[u8], header: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&prefix[..32]);
    hasher.update(&prefix[48..PREFIX_LEN]);
    hasher.update(header);
    hasher.digest128()
}

/// The prefix for `header`. `sealed`: the nonce it is encrypted with, and of which key.
pub fn prefix(
    kind: Kind,
    seq: u64,
    header: &[u8],
    header_slot: u32,
    sealed: Option<([u8; 12], [u8; 4])>,
) -> [u8; PREFIX_LEN] {
    let mut out = [0; PREFIX_LEN];
    out[0..8].copy_from_slice(&kind.magic());
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&(header.len() as u32).to_le_bytes());
    out[16..24].copy_from_slice(&seq.to_le_bytes());
    out[24..28].copy_from_slice(&header_slot.to_le_bytes());
    if let Some((nonce, key_id)) = sealed {
        out[28..32].copy_from_slice(&SEALED.to_le_bytes());
        out[48..60].copy_from_slice(&nonce);
        out[60..64].copy_from_slice(&key_id);
    }
    let sum = sum_of(&out, header);
    out[32..48].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Checksum of a page.
pub fn page_sum(page: &[u8]) -> u128 {
    XxHash3_128::oneshot(page)
}

fn check_memory_size(size: u64) -> Result<u64, FormatError> {
    if size > MAX_MEMORY || !size.is_multiple_of(WASM_PAGE) {
        return Err(FormatError::Header("memory size"));
    }
    Ok(size / PAGE as u64)
}

/// Runs must ascend, not overlap, and lie within `pages`.
fn check_runs(pages: u64, runs: impl Iterator<Item = Run>) -> Result<(), FormatError> {
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
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Everything in it is checked, so that later arithmetic can't go wrong.
    pub fn decode(bytes: &[u8]) -> Result<ImageHeader, FormatError> {
        let header: ImageHeader = postcard::from_bytes(bytes).map_err(|_| FormatError::Header("encoding"))?;
        let pages = check_memory_size(header.memory_size)?;
        check_runs(pages, header.runs.iter().copied())?;
        Ok(header)
    }

    /// Refuses a file of another package.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), FormatError> {
        check_digest(&self.digest, digest)
    }

    /// Pages with data in the file.
    pub fn data_pages(&self) -> u64 {
        self.runs.iter().map(|r| u64::from(r.count)).sum()
    }
}

impl StateHeader {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Everything in it is checked, so that later arithmetic can't go wrong.
    pub fn decode(bytes: &[u8]) -> Result<StateHeader, FormatError> {
        let header: StateHeader = postcard::from_bytes(bytes).map_err(|_| FormatError::Header("encoding"))?;
        let pages = check_memory_size(header.memory_size)?;
        check_runs(pages, header.expected.iter().copied())?;
        check_runs(pages, header.touched.iter().copied())?;
        check_runs(pages, header.known.iter().map(|(page, _)| Run { page: *page, count: 1 }))?;
        check_runs(pages, header.extents.iter().map(|e| Run { page: e.page, count: e.count }))?;
        let stored = || header.extents.iter().filter(|e| e.slot != 0);
        if stored().any(|e| e.slot < FIRST_SLOT || u64::from(e.slot) + u64::from(e.count) > u64::from(MAX_SLOT)) {
            return Err(FormatError::Header("slots"));
        }
        let sealed = header.seals.len();
        if stored().map(|e| u64::from(e.count)).sum::<u64>() != header.sums.len() as u64
            || (sealed != 0 && sealed != header.sums.len())
        {
            return Err(FormatError::Header("checksums"));
        }
        Ok(header)
    }

    /// Refuses a file of another package.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), FormatError> {
        check_digest(&self.digest, digest)
    }

    /// Puts in what `pages` (ascending) says.
    pub fn set_pages(&mut self, pages: &[SavedPage], sealed: bool) {
        (self.extents, self.sums, self.seals) = (Vec::new(), Vec::with_capacity(pages.len()), Vec::new());
        for p in pages {
            if p.slot != 0 {
                self.sums.push(p.sum);
                if sealed {
                    self.seals.push(p.seal);
                }
            }
            match self.extents.last_mut() {
                Some(e) if e.page + e.count == p.page && follows(e, p.slot) => e.count += 1,
                _ => self.extents.push(Extent { page: p.page, count: 1, slot: p.slot }),
            }
        }
    }

    /// Its pages, ascending.
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
                        let seal = self.seals.get(n).copied().unwrap_or_default();
                        SavedPage { page, slot: e.slot + i, sum: *sum, seal }
                    }
                });
            }
        }
        pages
    }
}

/// Whether `slot` is where the extent's next page is.
fn follows(extent: &Extent, slot: u32) -> bool {
    match extent.slot {
        0 => slot == 0,
        first => slot == first + extent.count,
    }
}

/// Where a slot begins in a state file.
pub fn offset_of(slot: u32) -> u64 {
    u64::from(slot) * PAGE as u64
}

/// Where an area for headers begins in a state file.
pub fn area_offset(area: u8) -> u64 {
    u64::from(area) * AREA_LEN as u64
}

/// Where the page data begins in a base image whose header has `header_len` bytes.
pub fn data_offset(header_len: usize) -> u64 {
    (PREFIX_LEN + header_len).next_multiple_of(PAGE) as u64
}

/// Checksum of a set of pages that change one by one: pages are put in and taken out in any order. A
/// page of zeros changes nothing.
///
/// The exclusive or of a checksum for each page, made of its number and [`page_sum`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fold(pub u128);

impl Fold {
    /// Puts a page in that is not zero, or takes it out again.
    pub fn toggle(&mut self, page: u32, sum: u128) {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&page.to_le_bytes());
        bytes[4..].copy_from_slice(&sum.to_le_bytes());
        self.0 ^= XxHash3_128::oneshot(&bytes);
    }

    /// As `toggle`, by content.
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

/// Ascending page numbers as runs.
pub fn runs(pages: impl IntoIterator<Item = u32>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some(last) if last.page + last.count == page => last.count += 1,
            _ => runs.push(Run { page, count: 1 }),
        }
    }
    runs
}

/// As `runs`, with gaps of up to `gap` pages taken in.
pub fn runs_with_gaps(pages: impl IntoIterator<Item = u32>, gap: u32) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for page in pages {
        match joined.last_mut() {
            Some(last) if page - last.page <= last.count + gap => last.count = page - last.page + 1,
            _ => joined.push(Run { page, count: 1 }),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
