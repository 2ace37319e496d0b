//! The bytes of a snapshot or base image: header in, header out. No I/O.
//!
//! ```text
//!  0       8       12        16               24             32            header_len
//!  ┌───────┬───────┬─────────┬────────────────┬──────────────┬─────────────┬──────────────┐
//!  │ magic │version│ header_ │ xxh3 of bytes  │ xxh3 of the  │ Header,     │ page data    │
//!  │ 8 B   │ u32   │ len u32 │ 24..header_len │ page data    │ postcard    │              │
//!  └───────┴───────┴─────────┴────────────────┴──────────────┴─────────────┴──────────────┘
//! ```
//!
//! All integers little-endian. The page data begins at the next multiple of 4096. In a snapshot the
//! data of its runs follow each other; in a base image page `n` is `n * 4096` further on, and pages
//! outside of the runs are holes. Any change of layout or meaning raises
//! [`VERSION`]; another version is refused, never converted.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::memory::PAGE;

const MAGIC: [u8; 8] = *b"WASMOP\0\x01";
/// Version of the layout and of everything that is serialised into it.
pub const VERSION: u32 = 1;
/// Bytes before the postcard part.
pub const PREFIX_LEN: usize = 32;
/// Largest header read: 65,536 runs and 1 MiB of host state are far beyond what a suspend writes.
pub const MAX_HEADER_LEN: usize = 64 << 20;
/// Linear memory is 32-bit.
const MAX_MEMORY: u64 = 4 << 30;
const WASM_PAGE: u64 = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub kind: Kind,
    /// SHA-256 of the package whose instance this is.
    pub digest: [u8; 32],
    /// Bytes of linear memory; a multiple of 64 KiB.
    pub memory_size: u64,
    /// Bits of the mutable globals.
    pub globals: Vec<u64>,
    /// Wall clock when it was written, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// The instance's monotonic clock at that moment, nanoseconds.
    pub monotonic_ns: u64,
    /// Pages whose content follows, ascending, without overlap.
    pub runs: Vec<Run>,
    /// The host's half (`controller::Saved`), opaque here; empty in a base image.
    pub host_state: Vec<u8>,
}

/// What the host knows of an instance at the moment it is written; the rest of a [`Header`] is read
/// from the instance.
#[derive(Clone, Debug)]
pub struct Moment {
    pub digest: [u8; 32],
    pub wall_ns: u64,
    pub monotonic_ns: u64,
    pub host_state: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A whole memory.
    Base,
    /// Pages that differ from a base image.
    Snapshot {
        /// 0: the package's image; else the controller's own.
        generation: u64,
        /// The base image's checksum of its page data: a snapshot fits one base only.
        base_checksum: u64,
    },
}

/// `count` pages from page number `page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub page: u32,
    pub count: u32,
    /// All zero: no data in the file.
    pub zero: bool,
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
    #[error("belongs to another package (sha256 {0})")]
    Foreign(String),
}

impl Header {
    /// Of a base image without pages: `runs` is still to be filled in.
    pub fn new(moment: Moment, memory_size: u64, globals: Vec<u64>) -> Header {
        let Moment { digest, wall_ns, monotonic_ns, host_state } = moment;
        Header { kind: Kind::Base, digest, memory_size, globals, wall_ns, monotonic_ns, runs: Vec::new(), host_state }
    }

    /// Prefix and header; the page data goes behind it.
    pub fn encode(&self, data_checksum: u64) -> Vec<u8> {
        let mut out = vec![0; PREFIX_LEN];
        out = postcard::to_extend(self, out).unwrap_or_default();
        let header_len = out.len() as u32;
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&header_len.to_le_bytes());
        out[24..32].copy_from_slice(&data_checksum.to_le_bytes());
        let sum = xxh3_64(&out[24..]);
        out[16..24].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Length of the whole header, from the file's first [`PREFIX_LEN`] bytes.
    pub fn len_from_prefix(prefix: &[u8]) -> Result<usize, FormatError> {
        if prefix.len() < PREFIX_LEN {
            return Err(FormatError::Truncated { have: prefix.len() as u64, need: PREFIX_LEN as u64 });
        }
        if prefix[0..8] != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let len = u32::from_le_bytes([prefix[12], prefix[13], prefix[14], prefix[15]]) as usize;
        if !(PREFIX_LEN..=MAX_HEADER_LEN).contains(&len) {
            return Err(FormatError::Header("length"));
        }
        Ok(len)
    }

    /// The header and the checksum of the page data, from the file's first `header_len` bytes.
    /// Everything in it is checked, so that later arithmetic can't go wrong.
    pub fn decode(bytes: &[u8]) -> Result<(Header, u64), FormatError> {
        let len = Self::len_from_prefix(bytes)?;
        if bytes.len() < len {
            return Err(FormatError::Truncated { have: bytes.len() as u64, need: len as u64 });
        }
        let word = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        if word(16) != xxh3_64(&bytes[24..len]) {
            return Err(FormatError::HeaderChecksum);
        }
        let header: Header =
            postcard::from_bytes(&bytes[PREFIX_LEN..len]).map_err(|_| FormatError::Header("encoding"))?;
        header.check()?;
        Ok((header, word(24)))
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.memory_size > MAX_MEMORY || !self.memory_size.is_multiple_of(WASM_PAGE) {
            return Err(FormatError::Header("memory size"));
        }
        let pages = self.memory_size / PAGE as u64;
        let mut next = 0u64;
        for run in &self.runs {
            let end = u64::from(run.page) + u64::from(run.count);
            if u64::from(run.page) < next || end > pages || run.count == 0 {
                return Err(FormatError::Header("page runs"));
            }
            next = end;
        }
        Ok(())
    }

    /// Refuses a file of another package.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), FormatError> {
        if self.digest == *digest {
            return Ok(());
        }
        Err(FormatError::Foreign(self.digest.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// Pages with data in the file.
    pub fn data_pages(&self) -> u64 {
        self.runs.iter().filter(|r| !r.zero).map(|r| u64::from(r.count)).sum()
    }
}

/// Where the page data begins in a file whose header has `header_len` bytes.
pub fn data_offset(header_len: usize) -> u64 {
    header_len.next_multiple_of(PAGE) as u64
}

/// Checksum over the page data of a file, fed run by run.
#[derive(Default)]
pub struct DataChecksum(Xxh3);

impl DataChecksum {
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// Whether a page holds nothing but zeros.
pub fn is_zero(page: &[u8]) -> bool {
    let (chunks, tail) = page.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && tail.iter().all(|b| *b == 0)
}

/// Collects pages into runs.
#[derive(Default)]
pub struct RunBuilder(Vec<Run>);

impl RunBuilder {
    /// Pages must come in ascending order.
    pub fn push(&mut self, page: u32, zero: bool) {
        match self.0.last_mut() {
            Some(last) if last.zero == zero && last.page + last.count == page => last.count += 1,
            _ => self.0.push(Run { page, count: 1, zero }),
        }
    }

    pub fn finish(self) -> Vec<Run> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: Kind::Snapshot { generation: 3, base_checksum: 99 },
            digest: [7; 32],
            memory_size: 10 * WASM_PAGE,
            globals: vec![1, u64::MAX, 0],
            wall_ns: 1_790_000_000_000_000_000,
            monotonic_ns: 42,
            runs: vec![Run { page: 1, count: 2, zero: false }, Run { page: 5, count: 1, zero: true }],
            host_state: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_header_survives_encoding() {
        let bytes = header().encode(1234);
        assert_eq!(Header::decode(&bytes), Ok((header(), 1234)));
    }

    #[test]
    fn a_damaged_or_foreign_header_is_refused_with_its_reason() {
        let good = header().encode(1);
        let with = |at: usize, byte: u8| {
            let mut b = good.clone();
            b[at] = byte;
            Header::decode(&b).unwrap_err()
        };
        assert_eq!(with(0, b'X'), FormatError::Magic);
        assert_eq!(with(8, 9), FormatError::Version(9));
        assert_eq!(with(40, good[40] ^ 1), FormatError::HeaderChecksum);
        assert_eq!(with(24, good[24] ^ 1), FormatError::HeaderChecksum);
        let cut = Header::decode(&good[..good.len() - 1]).unwrap_err();
        assert!(matches!(cut, FormatError::Truncated { .. }), "{cut}");
        assert!(matches!(header().check_digest(&[8; 32]), Err(FormatError::Foreign(_))));
    }

    #[test]
    fn runs_outside_of_memory_or_out_of_order_are_refused() {
        for runs in [
            vec![Run { page: 160, count: 1, zero: false }],
            vec![Run { page: 3, count: u32::MAX, zero: false }],
            vec![Run { page: 5, count: 2, zero: false }, Run { page: 6, count: 1, zero: true }],
            vec![Run { page: 1, count: 0, zero: false }],
        ] {
            let bytes = Header { runs: runs.clone(), ..header() }.encode(0);
            assert_eq!(Header::decode(&bytes), Err(FormatError::Header("page runs")), "{runs:?}");
        }
        let bytes = Header { memory_size: 100, ..header() }.encode(0);
        assert_eq!(Header::decode(&bytes), Err(FormatError::Header("memory size")));
    }

    #[test]
    fn neighbouring_pages_of_one_kind_become_one_run() {
        let mut b = RunBuilder::default();
        for (page, zero) in [(1, false), (2, false), (3, true), (4, true), (6, true), (7, false)] {
            b.push(page, zero);
        }
        let runs: Vec<_> = b.finish().iter().map(|r| (r.page, r.count, r.zero)).collect();
        assert_eq!(runs, [(1, 2, false), (3, 2, true), (6, 1, true), (7, 1, false)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_mutation_of_a_header_is_accepted_as_another(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
            let good = header().encode(7);
            let mut bad = good.clone();
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
            prop_assert!(Header::decode(&bad).is_err());
            let _ = Header::decode(&good[..cut.min(good.len() - 1)]).unwrap_err();
        }

        #[test]
        fn arbitrary_bytes_never_crash_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Header::decode(&bytes);
        }

        #[test]
        fn a_correctly_summed_header_of_arbitrary_content_never_crashes(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![0; PREFIX_LEN];
            bytes.extend(&body);
            bytes[0..8].copy_from_slice(&MAGIC);
            bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
            let len = bytes.len() as u32;
            bytes[12..16].copy_from_slice(&len.to_le_bytes());
            let sum = xxh3_64(&bytes[24..]);
            bytes[16..24].copy_from_slice(&sum.to_le_bytes());
            if let Ok((h, _)) = Header::decode(&bytes) { h.check().unwrap(); }
        }
    }
}
