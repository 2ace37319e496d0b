//! A controller's snapshot files after a kill: a state file in, whole or torn out.
//!
//! Reads the format as `docs/suspend.md` describes it, without code of the host. So a host that accepts a torn snapshot
//! is found out.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const STATE: &[u8] = b"WASMOPST";
const BASE: &[u8] = b"WASMOPBA";
const PREFIX_LEN: usize = 64;
const ROOM: usize = 8192;
const ROOMS: usize = 3;
const PAGE: usize = 4096;

/// The snapshots in a controller's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// The condition of the newest snapshot with a valid header; `None` if no header is valid.
    pub newest: Option<Condition>,
    /// Invalid headers. One of them may have been in the middle of a write.
    pub torn_headers: usize,
    /// Whether a snapshot older than the newest one is whole.
    pub older_whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Whole,
    Torn,
}

impl SnapshotFiles {
    /// Reads the files of a directory. A missing directory or file counts as empty.
    pub fn in_dir(dir: &Path) -> io::Result<SnapshotFiles> {
        let state = match fs::read(dir.join("state")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SnapshotFiles::default()),
            state => state?,
        };
        let mut found = SnapshotFiles::default();
        let mut headers = Vec::new();
        for room in 0..ROOMS {
            let Some(prefix) = state.get(room * ROOM..room * ROOM + PREFIX_LEN) else { break };
            if prefix.iter().all(|b| *b == 0) {
                continue;
            }
            let slot = u32::from_le_bytes(word(prefix, 24)) as usize;
            let begins = if slot == 0 { room * ROOM + PREFIX_LEN } else { slot * PAGE };
            match body(STATE, prefix, state.get(begins..).unwrap_or_default()).and_then(Header::read) {
                Some(header) => headers.push((u64::from_le_bytes(word(prefix, 16)), header)),
                None => found.torn_headers += 1,
            }
        }
        headers.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        for (n, (_, header)) in headers.iter().enumerate() {
            let whole = header.pages_are_there(&state) && header.base_is_there(dir);
            if n == 0 {
                found.newest = Some(if whole { Condition::Whole } else { Condition::Torn });
            }
            found.older_whole |= whole && (n > 0);
        }
        Ok(found)
    }

    /// Whether the host can continue from a snapshot.
    pub fn has_whole(&self) -> bool {
        self.newest == Some(Condition::Whole) || self.older_whole
    }

    /// Whether the host has lost its state: the newest snapshot is torn, and no older one is whole.
    pub fn is_lost(&self) -> bool {
        self.newest == Some(Condition::Torn) && !self.older_whole
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..].first_chunk().copied().unwrap_or([0; N])
}

/// The body after a prefix, if both match the checksum.
fn body<'a>(magic: &[u8], prefix: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
    let body = rest.get(..u32::from_le_bytes(word(prefix, 12)) as usize)?;
    let mut sum = Xxh3::new();
    sum.update(&prefix[..32]);
    sum.update(&prefix[48..PREFIX_LEN]);
    sum.update(body);
    (prefix.starts_with(magic) && sum.digest128() == u128::from_le_bytes(word(prefix, 32))).then_some(body)
}

struct Header {
    base: u64,
    base_sum: u128,
    /// First page, pages, slot.
    extents: Vec<[u128; 3]>,
    sums: Vec<u128>,
}

/// Reads postcard: integers as LEB128, lists prefixed by their length.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u128> {
        let mut value = 0;
        for n in 0.. {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u128::from(byte & 0x7f).checked_shl(7 * n)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| item(self)).collect()
    }
}

impl Header {
    fn read(body: &[u8]) -> Option<Header> {
        let digest = 32;
        let mut reader = Reader(body.get(digest..)?);
        let (base, base_sum) = (reader.number()? as u64, reader.number()?);
        let _memory_size = reader.number()?;
        let _globals = reader.list(Reader::number)?;
        let (_wall, _monotonic) = (reader.number()?, reader.number()?);
        let [_expected, _touched, _known] = [(); 3].map(|()| reader.list(|r| Some([r.number()?, r.number()?])));
        let extents = reader.list(|r| Some([r.number()?, r.number()?, r.number()?]))?;
        Some(Header { base, base_sum, extents, sums: reader.list(Reader::number)? })
    }

    fn pages_are_there(&self, state: &[u8]) -> bool {
        let stored = self.extents.iter().filter(|[.., slot]| *slot != 0);
        let mut slots = stored.flat_map(|[_, count, slot]| (*slot as usize)..(*slot + *count) as usize);
        self.sums.iter().all(|sum| {
            let page = slots.next().and_then(|slot| state.get(slot * PAGE..slot * PAGE + PAGE));
            page.is_some_and(|page| xxh3_128(page) == *sum)
        }) && slots.next().is_none()
    }

    /// Base 0 is the package's image, which is not in the controller's directory.
    fn base_is_there(&self, dir: &Path) -> bool {
        self.base == 0 || self.own_base_is_there(dir).unwrap_or(false)
    }

    fn own_base_is_there(&self, dir: &Path) -> Option<bool> {
        let image = fs::read(dir.join(format!("base.{}", self.base))).ok()?;
        let body = body(BASE, image.get(..PREFIX_LEN)?, image.get(PREFIX_LEN..)?)?;
        let data = (PREFIX_LEN + body.len()).next_multiple_of(PAGE);
        // All remaining pages: the file grows with the memory.
        let memory = image.get(data..)?;
        let named = |n: u128| self.extents.iter().any(|[page, count, _]| (*page..page + count).contains(&n));
        let mut all = 0;
        for (n, page) in memory.chunks(PAGE).enumerate() {
            if page.iter().any(|b| *b != 0) && !named(n as u128) {
                let numbered = [&(n as u32).to_le_bytes()[..], &xxh3_128(page).to_le_bytes()].concat();
                all ^= xxh3_128(&numbered);
            }
        }
        Some(all == self.base_sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mut value: u128, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn room(seq: u64, slot: u64, page: &[u8]) -> Vec<u8> {
        let mut body = vec![9; 32];
        for value in [0, 77, 65536, 1, 5, 1, 1] {
            number(value, &mut body);
        }
        let [expected, touched, known] = [&[1, 4, 2][..], &[0], &[1, 3, 7]];
        for value in [expected, touched, known].concat() {
            number(value, &mut body);
        }
        for value in [1, 3, 1, u128::from(slot), 1, xxh3_128(page), 0, 0] {
            number(value, &mut body);
        }
        let mut out = vec![0; PREFIX_LEN];
        out[..8].copy_from_slice(STATE);
        out[8] = 3;
        out[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
        out[16..24].copy_from_slice(&seq.to_le_bytes());
        let mut sum = Xxh3::new();
        sum.update(&out[..32]);
        sum.update(&out[48..]);
        sum.update(&body);
        out[32..48].copy_from_slice(&sum.digest128().to_le_bytes());
        out.extend(body);
        out
    }

    /// A file with two snapshots of one page each, as drawn in `docs/suspend.md`.
    fn state() -> Vec<u8> {
        let mut file = vec![0; 8 * PAGE];
        for (n, slot) in [(0, 6), (1, 7)] {
            let page = [n as u8 + 1; PAGE];
            let header = room(n as u64 + 1, slot, &page);
            file[n * ROOM..n * ROOM + header.len()].copy_from_slice(&header);
            file[slot as usize * PAGE..][..PAGE].copy_from_slice(&page);
        }
        file
    }

    fn found(state: &[u8]) -> SnapshotFiles {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state"), state).unwrap();
        SnapshotFiles::in_dir(dir.path()).unwrap()
    }

    #[test]
    fn whole_and_torn_snapshots_are_distinguished() {
        assert_eq!(SnapshotFiles::in_dir(Path::new("/nonexistent")).unwrap(), SnapshotFiles::default());
        let whole = SnapshotFiles { newest: Some(Condition::Whole), torn_headers: 0, older_whole: true };
        assert_eq!(found(&state()), whole);
        let mut newest_torn = state();
        newest_torn[7 * PAGE + 5] ^= 1;
        let torn = found(&newest_torn);
        assert_eq!(torn, SnapshotFiles { newest: Some(Condition::Torn), ..whole });
        assert!(torn.has_whole() && !torn.is_lost());
        let mut header_torn = state();
        header_torn[ROOM + 80] ^= 1;
        assert_eq!(
            found(&header_torn),
            SnapshotFiles { newest: Some(Condition::Whole), torn_headers: 1, older_whole: false }
        );
        newest_torn[6 * PAGE] ^= 1;
        assert!(found(&newest_torn).is_lost());
        assert!(found(&state()[..7 * PAGE]).has_whole() && found(&state()[..6 * PAGE]).is_lost());
    }
}
