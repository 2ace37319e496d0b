//! Encrypted snapshots: the same states, nothing readable on disk, and no state lost to a wrong key.

use std::fs;
use std::path::Path;

use wasmop_snapshot::encryption::EncryptionKey;
use wasmop_snapshot::format::FormatError;
use wasmop_snapshot::image::ImageError;

use crate::place::Place;

fn key(dir: &Path, byte: u8) -> EncryptionKey {
    let path = dir.join("key");
    fs::write(&path, [byte; 32]).unwrap();
    EncryptionKey::read(&path).unwrap()
}

/// Whether a page of `memory` with some content is to be found in the state file.
fn shows(place: &Place, memory: &[u8]) -> bool {
    let state = fs::read(place.controller_dir().join("state")).unwrap();
    let pages = memory.chunks(4096).filter(|p| p.iter().any(|b| *b != 0));
    let mut pieces = pages.filter_map(|p| p.chunks(8).find(|c| c.iter().filter(|b| **b != 0).count() >= 8));
    pieces.any(|piece| state.windows(8).any(|w| w == piece))
}

#[test]
fn an_encrypted_instance_equals_its_twin_and_shows_nothing_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::encrypted(&dir.path().join("a"), key(dir.path(), 1));
    let mut plain = Place::new(&dir.path().join("b"));
    for round in 0..60u64 {
        place.step(round);
        plain.step(round);
        if round % 3 == 0 {
            place.save(true, true).unwrap();
            plain.save(true, true).unwrap();
        }
        if round % 20 == 19 {
            place.save(true, true).unwrap();
            assert_eq!(place.restart().unwrap(), place.last_save());
        }
        assert!(place.contents() == plain.contents(), "round {round}");
    }
    let (memory, _) = place.contents();
    place.save(true, true).unwrap();
    plain.save(true, true).unwrap();
    assert!(shows(&plain, &memory), "the check finds what is not encrypted");
    assert!(!shows(&place, &memory));
    let files: Vec<_> = fs::read_dir(place.controller_dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["state"], "no base image of its own");
}

#[test]
fn a_missing_or_other_key_is_an_error_that_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::encrypted(&dir.path().join("a"), key(dir.path(), 1));
    place.step(1);
    let expected = place.contents();
    place.save(true, true).unwrap();
    for (other, error) in [(None, FormatError::NoKey), (Some(key(dir.path(), 2)), FormatError::OtherKey)] {
        place.key = other;
        let found = place.restart();
        assert!(matches!(&found, Err(ImageError::Format(e)) if *e == error), "{found:?}");
    }
    place.key = Some(key(dir.path(), 1));
    assert_eq!(place.restart().unwrap(), place.last_save());
    assert!(place.contents() == expected);
}

#[test]
fn what_was_not_encrypted_goes_on_and_is_encrypted_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let mut twin = Place::new(&dir.path().join("b"));
    for round in 0..6u64 {
        place.step(round);
        twin.step(round);
        place.save(true, true).unwrap();
        if round == 2 {
            place.key = Some(key(dir.path(), 1));
            place.restart().unwrap();
        }
        assert!(place.contents() == twin.contents(), "round {round}");
    }
    place.save(true, true).unwrap();
    place.key = None;
    assert!(place.restart().is_err());
}
