//! Journals of watches.

use std::cell::RefCell;

use tempfile::TempDir;

use crate::host::snapshot::StateDir;
use crate::host::watch::Journals;

/// The magic number and the version.
const PREFIX: &[u8] = b"WASMOPWA\x01\0\0\0";

thread_local! {
    static STATE: RefCell<Option<(TempDir, Journals)>> = const { RefCell::new(None) };
}

pub fn target(data: &[u8]) {
    STATE.with_borrow_mut(|state| {
        let (_, journals) = state.get_or_insert_with(|| {
            let dir = TempDir::new().expect("a temporary directory");
            let state = StateDir::open(dir.path()).expect("a state directory");
            let journals = Journals::new(&state).expect("a directory for journals");
            (dir, journals)
        });
        journals.recover_bytes(data).expect("the state directory is writable");
        // Mutations break the checksum. Add a valid block header to reach the records.
        let length = (data.len() as u32).to_le_bytes();
        let sum = xxhash_rust::xxh3::xxh3_64(data).to_le_bytes();
        let journal = [PREFIX, &length, &sum, data].concat();
        journals.recover_bytes(&journal).expect("the state directory is writable");
    });
}
