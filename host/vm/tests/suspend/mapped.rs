//! What a memory maps of its files stays as it is, whatever is saved meanwhile.

use std::path::Path;

use wasmop_snapshot::faulty_disk::DiskFault;

use crate::place::{Place, write_pages};

/// An instance and its twin that is never interrupted.
struct Pair {
    place: Place,
    twin: Place,
    steps: u64,
}

impl Pair {
    fn new(dir: &Path) -> Pair {
        Pair { place: Place::large(&dir.join("a")), twin: Place::large(&dir.join("b")), steps: 0 }
    }

    fn write(&mut self, first: u64, count: u64) {
        self.step(first, count, false);
    }

    fn clear(&mut self, first: u64, count: u64) {
        self.step(first, count, true);
    }

    fn step(&mut self, first: u64, count: u64, zeros: bool) {
        self.steps += 1;
        let what = write_pages(first, count, zeros, self.steps);
        self.place.step(what);
        self.twin.step(what);
    }

    fn suspend(&mut self, keep: bool) {
        self.place.save(true, true).unwrap();
        if !keep {
            self.place.forget_memories();
        }
    }

    fn save(&mut self) {
        self.place.save(false, true).unwrap();
    }

    /// All of its memory is what it should be. Resumes it.
    #[track_caller]
    fn is_whole(&mut self) {
        let ((found, globals), (expected, twins)) = (self.place.contents(), self.twin.contents());
        let pages = found.chunks(4096).zip(expected.chunks(4096));
        let differ: Vec<usize> = pages.enumerate().filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
        assert!(differ.is_empty(), "{} pages differ, from {:?}", differ.len(), differ.first());
        assert_eq!((found.len(), globals), (expected.len(), twins));
    }

    /// Pages that are mapped from its state file.
    fn mapped_slots(&self) -> usize {
        let file = self.place.controller_dir().join("state").display().to_string();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let addresses = maps.lines().filter(|line| line.ends_with(&file)).filter_map(|line| line.split_once(' '));
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        addresses.filter_map(|(range, _)| range.split_once('-')).map(|(a, b)| (address(b) - address(a)) / 4096).sum()
    }

    /// Has 300 pages mapped from the end of its state file.
    fn with_mapped_slots(dir: &Path) -> Pair {
        let mut pair = Pair::new(dir);
        for _ in 0..2 {
            pair.write(16, 300);
            pair.suspend(false);
        }
        pair.place.resident();
        assert_eq!(pair.mapped_slots(), 300);
        pair
    }
}

#[test]
fn saves_of_a_resident_instance_do_not_cut_the_file_below_what_it_maps() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::with_mapped_slots(dir.path());
    pair.write(16, 300);
    pair.save();
    // Most of the file is free by now, and its end is mapped.
    pair.write(16, 100);
    pair.save();
    // It grows again, with other pages.
    pair.write(700, 400);
    pair.save();
    pair.is_whole();
    pair.write(20, 5);
    pair.suspend(true);
    pair.is_whole();
    pair.suspend(false);
    pair.is_whole();
}

#[test]
fn what_is_only_mapped_stays_when_all_pages_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::with_mapped_slots(dir.path());
    // The disk loses track of what it was given: everything goes to new places.
    pair.place.disk.set(DiskFault::Syncs);
    pair.save();
    pair.place.disk.set(DiskFault::None);
    for round in 0..4 {
        pair.save();
        pair.write(700, 100 * round + 100);
        pair.is_whole();
    }
    pair.suspend(false);
    pair.is_whole();
}

#[test]
fn a_memory_that_maps_a_discarded_file_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::new(dir.path());
    // Beyond the memory that it begins with.
    for _ in 0..2 {
        pair.write(900, 300);
        pair.suspend(false);
    }
    pair.place.resident();
    assert_eq!(pair.mapped_slots(), 300);
    pair.suspend(true);
    pair.place.discard();
    pair.twin = Place::large(&dir.path().join("c"));
    pair.write(1199, 1);
    pair.is_whole();
    for _ in 0..2 {
        pair.write(16, 300);
        pair.suspend(true);
        pair.is_whole();
    }
}

#[test]
fn a_failed_save_leaves_nothing_behind_in_the_base_image() {
    for changes in 0..16 {
        let dir = tempfile::tempdir().unwrap();
        let mut pair = Pair::new(dir.path());
        pair.write(16, 500);
        pair.suspend(false);
        assert_eq!(pair.place.own_bases().len(), 1);
        // The memory grows, and what is new is saved in slots.
        pair.write(900, 4);
        pair.save();
        pair.write(900, 4);
        pair.place.disk.cut_power_after(changes);
        let failed = pair.place.save(true, true).is_err();
        pair.place.disk.power_on();
        assert_eq!(failed, pair.place.instance.is_some());
        pair.clear(900, 2);
        pair.is_whole();
        pair.suspend(false);
        pair.is_whole();
        pair.suspend(false);
        assert_eq!(pair.place.restart().unwrap(), pair.place.last_save(), "{changes} changes");
        pair.is_whole();
    }
}
