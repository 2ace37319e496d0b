//! Full, read-only, failing disks, and power cuts.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wasmop_snapshot::faulty_disk::DiskFault;

use crate::place::{Place, State};

#[test]
fn on_a_disk_that_refuses_writes_the_instance_stays_and_goes_on_when_it_is_well() {
    for fault in [DiskFault::Full, DiskFault::ReadOnly, DiskFault::Writes] {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::new(&dir.path().join("a"));
        let mut twin = Place::new(&dir.path().join("b"));
        for round in 0..30u64 {
            place.step(round);
            twin.step(round);
            let bad = round % 3 == 1;
            place.disk.set(if bad { fault } else { DiskFault::None });
            let saved = place.save(true, true);
            assert_eq!(saved.is_err(), bad, "{fault:?}: {saved:?}");
            assert_eq!(place.instance.is_some(), bad, "{fault:?}");
            assert!(place.contents() == twin.contents(), "{fault:?}, round {round}");
        }
        place.disk.set(DiskFault::None);
        place.save(true, true).unwrap();
        assert_eq!(place.restart().unwrap(), place.last_save());
        assert!(place.contents() == twin.contents(), "{fault:?}, after a restart");
    }
}

#[test]
fn a_failed_sync_is_made_up_for_by_writing_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    for round in 0..10 {
        place.step(round);
        place.save(true, true).unwrap();
    }
    place.disk.set(DiskFault::Syncs);
    place.step(10);
    place.save(true, true).unwrap();
    place.disk.set(DiskFault::None);
    let (written, dirty) = {
        place.resident();
        place.save(true, true).unwrap()
    };
    assert!(written >= dirty, "{written} of {dirty}");
    let expected = place.contents();
    place.instance = None;
    // Nothing of it may be lost any more.
    for seed in 0..20 {
        place.disk.lose_power(&mut StdRng::seed_from_u64(seed)).unwrap();
        assert_eq!(place.restart().unwrap(), place.last_save());
        assert!(place.contents() == expected);
    }
}

#[test]
fn a_slow_disk_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let mut twin = Place::new(&dir.path().join("b"));
    place.disk.set(DiskFault::Slow(std::time::Duration::from_millis(2)));
    for round in 0..5 {
        place.step(round);
        twin.step(round);
        place.save(true, true).unwrap();
    }
    assert!(place.contents() == twin.contents());
}

#[test]
fn a_read_that_fails_is_an_error_and_not_another_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    place.step(1);
    place.save(true, true).unwrap();
    place.disk.set(DiskFault::Reads);
    let (package, store) = (place.package.clone(), place.store.clone());
    assert!(wasmop_vm::instance::FullInstance::start(&package, &store, place.origin, 0).is_err());
    place.disk.set(DiskFault::None);
    place.resident();
}

#[test]
fn a_state_file_that_is_made_again_is_found_after_a_power_cut() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::new(&dir.path().join("a"));
        place.step(1);
        place.save(true, true).unwrap();
        place.discard();
        place.step(2);
        let expected = place.contents();
        place.save(true, true).unwrap();
        place.instance = None;
        place.disk.lose_power(&mut StdRng::seed_from_u64(seed)).unwrap();
        assert_eq!(place.restart().unwrap(), place.last_save(), "seed {seed}");
        assert!(place.contents() == expected, "seed {seed}");
    }
}

/// A life of saves and power cuts. After each cut the host must find a state that was saved: the last
/// one that was put on disk or a later one. `large`: its memory has a base image of its own from the beginning.
fn live(seed: u64, large: bool, sync: impl Fn(&mut StdRng) -> bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let mut saved: BTreeMap<u64, State> = BTreeMap::from([(0, place.contents())]);
    let mut durable = 0;
    place.disk.lose_power(&mut StdRng::seed_from_u64(0)).unwrap();
    if large {
        while place.own_bases().is_empty() {
            place.step(rng.random());
            place.save(true, true).unwrap();
        }
        durable = place.last_save();
        saved = BTreeMap::from([(durable, place.contents())]);
    }
    for _ in 0..12 {
        place.disk.cut_power_after(rng.random_range(0..40));
        while !place.disk.is_off() {
            place.step(rng.random());
            let contents = place.contents();
            let (suspending, sync) = (rng.random_bool(0.8), sync(&mut rng));
            // What was being written when the power went may be there, wholly.
            saved.insert(place.last_save() + 1, contents);
            let done = place.save(suspending, sync).is_ok();
            if done && sync && !place.disk.is_off() {
                durable = place.last_save();
            }
            if !done {
                break;
            }
        }
        place.instance = None;
        place.disk.lose_power(&mut rng).unwrap();
        let found = match place.restart() {
            Ok(found) => found,
            // Possible only where nothing was ever put on disk.
            Err(error) => {
                assert_eq!(durable, 0, "seed {seed}: {error}");
                place.store.discard().unwrap();
                0
            }
        };
        assert!(found >= durable, "seed {seed}: {found} was found, {durable} was on disk");
        assert!(place.contents() == saved[&found], "seed {seed}: another state than was saved as {found}");
        durable = found;
        saved.retain(|at, _| *at >= durable);
    }
}

#[test]
fn after_a_power_cut_at_any_point_a_saved_state_is_found_that_is_not_older_than_the_last_synced_one() {
    for seed in 0..60 {
        live(seed, seed % 3 == 0, |rng| rng.random_bool(if seed % 2 == 0 { 0.6 } else { 0.95 }));
    }
}

#[test]
fn without_any_syncing_a_power_cut_never_gives_a_state_that_was_not_saved() {
    for seed in 1000..1030 {
        live(seed, seed % 3 == 0, |_| false);
    }
}
