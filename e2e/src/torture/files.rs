//! What a kill left of a controller's snapshots: files in, whole or torn out.
//!
//! Reads the format by its description in `docs/suspend.md` and with none of the host's code, so that
//! a host which takes a torn file for a whole one has a witness against it.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8] = b"WASMOP\0\x01";
const PREFIX_LEN: usize = 32;
const PAGE: usize = 4096;

/// The snapshots in a controller's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The one that has the name.
    pub named: Option<Condition>,
    /// Those that were being written, or waited for fsync and rename.
    pub unnamed_whole: usize,
    pub unnamed_torn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Whole,
    Torn,
}

impl Found {
    /// Looks at all files; a directory that is not there is an empty one.
    pub fn in_dir(dir: &Path) -> io::Result<Found> {
        let mut found = Found::default();
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == "snapshot" {
                found.named = Some(condition(&fs::read(entry.path())?));
            } else if name.starts_with("snapshot.") {
                match condition(&fs::read(entry.path())?) {
                    Condition::Whole => found.unnamed_whole += 1,
                    Condition::Torn => found.unnamed_torn += 1,
                }
            }
        }
        Ok(found)
    }

    /// Whether there is something to continue from.
    pub fn has_whole(&self) -> bool {
        self.named == Some(Condition::Whole) || self.unnamed_whole > 0
    }
}

/// Whether header and page data are what their checksums say.
fn condition(bytes: &[u8]) -> Condition {
    let word = |at: usize| bytes[at..].first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    let whole = || {
        if bytes.len() < PREFIX_LEN || &bytes[..8] != MAGIC {
            return None;
        }
        let header_len = u32::from_le_bytes(*bytes[12..].first_chunk()?) as usize;
        let header = bytes.get(24..header_len)?;
        // A file that ends with its header has no padding behind it.
        let data = bytes.get(header_len.next_multiple_of(PAGE)..).unwrap_or_default();
        Some(word(16)? == xxh3_64(header) && word(24)? == xxh3_64(data))
    };
    if whole() == Some(true) { Condition::Whole } else { Condition::Torn }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of two pages, as the page in `docs/suspend.md` draws it.
    fn snapshot() -> Vec<u8> {
        let data = vec![7; 2 * PAGE];
        let header_len = PREFIX_LEN + 5;
        let mut bytes = vec![0; PAGE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = 1;
        bytes[12..16].copy_from_slice(&(header_len as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&xxh3_64(&data).to_le_bytes());
        bytes[32..header_len].copy_from_slice(b"hello");
        let sum = xxh3_64(&bytes[24..header_len]);
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_snapshot_cut_anywhere_is_torn() {
        let whole = snapshot();
        assert_eq!(condition(&whole), Condition::Whole);
        for len in (0..whole.len()).step_by(37) {
            assert_eq!(condition(&whole[..len]), Condition::Torn, "cut at {len}");
        }
    }

    #[test]
    fn named_and_unnamed_snapshots_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Found::in_dir(&dir.path().join("none")).unwrap(), Found::default());
        fs::write(dir.path().join("snapshot"), snapshot()).unwrap();
        fs::write(dir.path().join("snapshot.12.tmp"), &snapshot()[..PAGE]).unwrap();
        fs::write(dir.path().join("base.12.tmp"), "").unwrap();
        let found = Found::in_dir(dir.path()).unwrap();
        assert_eq!(found, Found { named: Some(Condition::Whole), unnamed_whole: 0, unnamed_torn: 1 });
        assert!(found.has_whole());
    }
}
