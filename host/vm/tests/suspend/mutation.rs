//! Whatever becomes of its files, an instance is what was saved, or the snapshot is refused.

use std::fs;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::place::{Place, State};

/// `WASMOP_MUTATIONS` for a long run.
fn cases() -> u64 {
    std::env::var("WASMOP_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        // Half of them in the headers, where most of the meaning is.
        let reach = if rng.random_bool(0.5) { bytes.len().min(24 << 10) } else { bytes.len() };
        let at = rng.random_range(0..reach);
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + rng.random_range(1..9000)).min(bytes.len());
                bytes[at..end].fill(0);
            }
            4 => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                rng.fill(&mut bytes[at..end]);
            }
            5 => {
                // A piece of the file in another place, as misdirected writes do.
                let from = rng.random_range(0..bytes.len()) / 4096 * 4096;
                let at = at / 4096 * 4096;
                let len = 4096.min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + len, at);
            }
            _ => bytes.extend(std::iter::repeat_n(rng.random::<u8>(), rng.random_range(1..5000))),
        }
    }
}

/// Saves a few times, so that older headers and pages are in the file too; all states it had.
fn lived(place: &mut Place, seed: u64, large: bool) -> Vec<State> {
    let mut states = Vec::new();
    for n in 0..4 {
        for step in 0..if large { 60 } else { 3 } {
            place.step(seed * 1000 + n * 100 + step);
        }
        states.push(place.contents());
        place.save(true, true).unwrap();
    }
    states
}

#[test]
fn a_mutated_file_is_refused_or_without_effect() {
    let mut refused = 0;
    for case in 0..cases() / 100 {
        let mut rng = StdRng::seed_from_u64(case);
        let dir = tempfile::tempdir().unwrap();
        let mut place = Place::new(&dir.path().join("a"));
        let states = lived(&mut place, case, case % 3 == 0);
        let files: Vec<_> = fs::read_dir(place.controller_dir()).unwrap().map(|e| e.unwrap().path()).collect();
        let good: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
        let base = files.iter().any(|f| f.file_name().unwrap().to_str().unwrap().starts_with("base."));
        for _ in 0..100 {
            place.instance = None;
            for (file, good) in files.iter().zip(&good) {
                fs::write(file, good).unwrap();
            }
            let victim = rng.random_range(0..files.len());
            let mut bytes = good[victim].clone();
            mutate(&mut bytes, &mut rng);
            fs::write(&files[victim], &bytes).unwrap();
            match place.restart() {
                Err(_) => refused += 1,
                // A header that is gone leaves an older one.
                Ok(0) => refused += 1,
                Ok(_) => {
                    let found = place.contents();
                    assert!(states.contains(&found), "case {case}: a state that was never saved (own base: {base})");
                }
            }
        }
    }
    assert!(refused > cases() / 20, "{refused} were refused: the mutations hardly reach anything");
}

#[test]
fn a_page_that_is_damaged_while_the_host_runs_is_refused_at_the_resume() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(&dir.path().join("a"));
    place.step(3);
    place.step(4);
    place.save(true, true).unwrap();
    let path = place.controller_dir().join("state");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4000;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    place.forget_memories();
    let (package, store) = (place.package.clone(), place.store.clone());
    let error = wasmop_vm::instance::FullInstance::start(&package, &store, place.origin, 0).err().expect("is damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
}
