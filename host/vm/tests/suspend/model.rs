//! Whatever happens between its steps, an instance is what its uninterrupted twin is, bit for bit.

use proptest::prelude::*;

use crate::place::Place;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Step(u64),
    /// `keep`: its memory is there to be used again.
    Suspend {
        sync: bool,
        keep: bool,
    },
    Save {
        sync: bool,
    },
    /// The disk fails after so many changes, and is well again afterwards.
    FailedSave {
        suspending: bool,
        changes: u32,
    },
    Restart,
    /// From the base image, in the same process.
    Anew,
    /// A step that is undone: back to the last snapshot, and the steps since once more.
    RollBack(u64),
}

fn operations(saves: u32) -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        8 => any::<u64>().prop_map(Operation::Step),
        4 => any::<(bool, bool)>().prop_map(|(sync, keep)| Operation::Suspend { sync, keep }),
        saves => any::<bool>().prop_map(|sync| Operation::Save { sync }),
        1 => (any::<bool>(), 0u32..12).prop_map(|(suspending, changes)| Operation::FailedSave { suspending, changes }),
        1 => Just(Operation::Restart),
        1 => any::<u64>().prop_map(Operation::RollBack),
    ];
    let rarely = prop_oneof![40 => operation, 1 => Just(Operation::Anew)];
    proptest::collection::vec(rarely, 1..60)
}

/// Runs both, and compares all of their memory after each operation.
fn equals_its_twin(
    mut place: Place,
    new_twin: impl Fn() -> Place,
    operations: Vec<Operation>,
) -> Result<(), TestCaseError> {
    let mut twin = new_twin();
    for operation in operations {
        match operation {
            Operation::Step(seed) => {
                place.step(seed);
                twin.step(seed);
            }
            Operation::Suspend { sync, keep } => {
                place.save(true, sync).unwrap();
                if !keep {
                    place.forget_memories();
                }
            }
            Operation::Save { sync } => {
                place.save(false, sync).unwrap();
            }
            Operation::FailedSave { suspending, changes } => {
                place.resident();
                place.disk.cut_power_after(changes);
                let failed = place.save(suspending, true).is_err();
                place.disk.power_on();
                if failed {
                    prop_assert!(place.instance.is_some());
                }
            }
            Operation::Anew => {
                place.discard();
                twin = new_twin();
            }
            Operation::Restart => {
                place.save(true, false).unwrap();
                let at = place.last_save();
                prop_assert_eq!(place.restart().unwrap(), at);
            }
            Operation::RollBack(seed) => {
                place.step(seed);
                let instance = place.instance.take().unwrap();
                let (package, store) = (place.package.clone(), place.store.clone());
                // The failed step is in the log of a real one; here it is a step that has worked.
                let (instance, _) = instance.rolled_back(&package, &store).unwrap();
                place.instance = Some(instance);
                twin.step(seed);
            }
        }
        prop_assert!(place.contents() == twin.contents(), "differs after {operation:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn suspended_at_any_point_it_equals_its_uninterrupted_twin(operations in operations(1)) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(&dir.path().join("a"));
        equals_its_twin(place, || Place::new(&tempfile::tempdir_in(dir.path()).unwrap().keep()), operations)?;
    }
}

proptest! {
    // Hundreds of pages lie in slots and are mapped from there.
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn saved_while_its_state_file_is_mapped_it_equals_its_uninterrupted_twin(operations in operations(6)) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::large(&dir.path().join("a"));
        equals_its_twin(place, || Place::large(&tempfile::tempdir_in(dir.path()).unwrap().keep()), operations)?;
    }
}

#[test]
fn what_another_instance_left_in_a_memory_that_is_used_again_is_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Place::new(&dir.path().join("a"));
    let mut twin = Place::new(&dir.path().join("b"));
    // The same package, another controller.
    let state = first.state.take().unwrap();
    for round in 0..40 {
        let other = std::sync::Arc::new(state.controller("other").unwrap());
        let mine = std::mem::replace(&mut first.store, other);
        let (origin, _) = (first.origin, first.instance.take());
        first.origin = wasmop_vm::instance::Origin::Fresh;
        for seed in 0..5 {
            first.step(round * 1000 + seed);
        }
        first.save(true, true).unwrap();
        first.store = mine;
        first.origin = origin;
        first.step(round);
        twin.step(round);
        assert!(first.contents() == twin.contents(), "round {round}");
        first.save(true, true).unwrap();
    }
}

#[test]
fn only_what_has_changed_is_written_and_the_file_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let (mut written, mut changed) = (0, 0);
    for round in 0..300u64 {
        place.step(round % 7);
        let (bytes, dirty) = place.save(true, true).unwrap();
        written += bytes;
        changed += dirty;
    }
    assert!(written < changed / 2, "{written} bytes written of {changed} that differ");
    let (idle, _) = place.save(true, true).unwrap();
    assert_eq!(idle, 4096, "nothing has happened: only a header is written");
    let len: u64 =
        std::fs::read_dir(place.controller_dir()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    let memory = place.resident().memory_size();
    assert!(len < 3 * memory, "{len} bytes on disk for a memory of {memory}");
}

#[test]
fn what_an_instance_looked_at_is_known_to_the_next_which_reads_it_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let touched = |place: &Place| place.store.open(place.origin.snapshot().unwrap()).unwrap().header.touched;
    let mut seen = Vec::new();
    for round in 0..4 {
        place.step(round);
        place.save(true, true).unwrap();
        // In a memory that is used again it can't be seen: what is known stays.
        if round == 2 {
            assert_eq!(touched(&place), seen);
        }
        seen = touched(&place);
        assert!(!seen.is_empty(), "round {round}");
        let open = place.store.open(place.origin.snapshot().unwrap()).unwrap();
        let base = place.store.base(&open.header, place.package.image().unwrap()).unwrap();
        let data = open.header.sums.len() as u64 * 4096;
        assert!(open.ahead_bytes(&base) >= data + 4096, "round {round}: {} of {data}", open.ahead_bytes(&base));
        if round % 2 == 0 {
            place.forget_memories();
        }
    }
}

#[test]
fn a_clock_that_is_behind_after_a_reboot_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    place.set_clock(1000);
    for round in 0..6 {
        place.step(round);
        place.save(round % 2 == 0, true).unwrap();
        let expected = place.contents();
        assert_eq!(place.restart().unwrap(), place.last_save(), "round {round}");
        assert!(place.contents() == expected, "round {round}");
        // A board without a battery: each boot begins at the same moment.
        place.set_clock(round * 2);
    }
}

#[test]
fn a_large_memory_gets_a_base_image_of_its_own_and_pages_go_back_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    let mut twin = Place::new(&dir.path().join("b"));
    let mut seed = 0..;
    let mut step = |place: &mut Place, twin: &mut Place| {
        let seed = seed.next().unwrap();
        place.step(seed);
        twin.step(seed);
    };
    // Until the memory has its full size, and more of it is other than in the package's image than not.
    while place.own_bases().is_empty() || place.resident().memory_size() < 40 << 16 {
        step(&mut place, &mut twin);
        place.save(true, true).unwrap();
    }
    let base = place.own_bases();
    let (mut written, mut differ) = (0, 0);
    for round in 0..200 {
        step(&mut place, &mut twin);
        let (bytes, dirty) = place.save(true, round % 5 != 0).unwrap();
        (written, differ) = (written + bytes, differ + dirty);
        match round % 4 {
            0 => place.forget_memories(),
            1 => assert_eq!(place.restart().unwrap(), place.last_save(), "round {round}"),
            _ => {}
        }
        assert!(place.contents() == twin.contents(), "round {round}");
    }
    assert_eq!(place.own_bases(), base, "the same one all the time");
    let (written, differ) = (written / 200 / 4096, differ / 200 / 4096);
    assert!(written < 250 && differ < 250, "{written} pages written and {differ} in slots, of 640, each time");
}
