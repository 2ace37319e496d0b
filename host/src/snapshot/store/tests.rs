//! What a host finds of one that was killed at any point of a save, and refuses of what was damaged.

use super::*;

const DIGEST: [u8; 32] = [7; 32];
const MEMORY: u64 = 65_536;

struct Place {
    _dir: tempfile::TempDir,
    state: StateDir,
    store: ControllerStore,
    image: Arc<BaseImage>,
}

fn moment(wall_ns: u64) -> Moment {
    Moment { digest: DIGEST, wall_ns, monotonic_ns: 5, host_state: vec![wall_ns as u8] }
}

/// An image whose page 1 is full of `byte`.
fn image(path: &Path, generation: u64, byte: u8) -> BaseImage {
    BaseImage::write(path, Header::new(moment(0), MEMORY, vec![1]), generation, |n, page| {
        page.fill(if n == 1 { byte } else { 0 });
        Ok(true)
    })
    .unwrap()
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    let store = state.controller("c").unwrap();
    let image = Arc::new(image(&state.image_path("aa"), 0, 1));
    Place { _dir: dir, state, store, image }
}

/// A snapshot on `base` with page 2 full of `byte`, as `save` writes it.
fn snapshot(path: &Path, base: &BaseImage, wall_ns: u64, byte: u8) {
    let page = [byte; PAGE];
    let mut sum = DataChecksum::default();
    sum.update(&page);
    let header = Header {
        kind: Kind::Snapshot { generation: base.generation, base_checksum: base.checksum },
        runs: vec![Run { page: 2, count: 1, zero: false }],
        ..Header::new(moment(wall_ns), MEMORY, vec![1])
    };
    let head = header.encode(sum.finish());
    let file = new_file(path).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&page, data_offset(head.len())).unwrap();
}

impl Place {
    /// When the snapshot was written that the next host goes on from.
    fn recovered(&self) -> Result<Option<u64>, ImageError> {
        Ok(self.store.recover(&DIGEST, &self.image)?.map(|(_, header)| header.wall_ns))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.store.dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn nothing_is_recovered_where_there_is_nothing() {
    assert_eq!(place().recovered().unwrap(), None);
}

#[test]
fn a_whole_snapshot_without_its_name_is_taken_if_it_is_newer() {
    let p = place();
    snapshot(&p.store.snapshot_path(), &p.image, 10, 1);
    snapshot(&p.store.snapshot_tmp(3), &p.image, 20, 2);
    snapshot(&p.store.snapshot_tmp(4), &p.image, 30, 3);
    assert_eq!(p.recovered().unwrap(), Some(30));
    assert_eq!(p.files(), ["snapshot"]);
    snapshot(&p.store.snapshot_tmp(5), &p.image, 29, 4);
    assert_eq!(p.recovered().unwrap(), Some(30), "left over from before");
    assert_eq!(p.files(), ["snapshot"]);
}

#[test]
fn a_snapshot_cut_at_any_byte_is_not_taken_and_the_one_before_is() {
    let p = place();
    snapshot(&p.store.snapshot_path(), &p.image, 10, 1);
    let tmp = p.store.snapshot_tmp(3);
    snapshot(&tmp, &p.image, 20, 2);
    let whole = fs::read(&tmp).unwrap();
    for len in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
        fs::write(&tmp, &whole[..len]).unwrap();
        assert_eq!(p.recovered().unwrap(), Some(10), "cut at {len}");
    }
}

#[test]
fn a_kill_anywhere_between_a_new_base_and_its_snapshot_loses_neither_old_nor_new() {
    // The steps of the sync thread, in order.
    for steps in 0..=3 {
        let p = place();
        let old = image(&p.store.base_path(2), 2, 9);
        snapshot(&p.store.snapshot_path(), &old, 10, 1);
        let new = image(&p.store.base_tmp(3), 3, 8);
        snapshot(&p.store.snapshot_tmp(3), &new, 20, 2);
        if steps >= 1 {
            fs::rename(p.store.base_tmp(3), p.store.base_path(3)).unwrap();
        }
        if steps >= 2 {
            fs::rename(p.store.snapshot_tmp(3), p.store.snapshot_path()).unwrap();
        }
        if steps >= 3 {
            fs::remove_file(p.store.base_path(2)).unwrap();
        }
        assert_eq!(p.recovered().unwrap(), Some(20), "after {steps} steps");
        assert_eq!(p.files(), ["base.3", "snapshot"], "after {steps} steps");
    }
}

#[test]
fn damage_to_any_part_of_snapshot_or_base_is_refused() {
    let p = place();
    let base = image(&p.store.base_path(2), 2, 9);
    snapshot(&p.store.snapshot_path(), &base, 10, 1);
    assert_eq!(p.recovered().unwrap(), Some(10));
    let base_page = data_offset(read_header(base.file()).unwrap().2) as usize + PAGE + 5;
    for (path, at) in [
        (p.store.snapshot_path(), 3),
        (p.store.snapshot_path(), 50),
        (p.store.snapshot_path(), PAGE + 100),
        (p.store.base_path(2), 40),
        (p.store.base_path(2), base_page),
    ] {
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        // `recover` removes a base that no good snapshot needs.
        let checked = p.store.check(&p.store.snapshot_path(), &DIGEST, &p.image);
        assert!(checked.is_err(), "{} at {at}", path.display());
        fs::write(&path, good).unwrap();
    }
    let foreign = p.store.check(&p.store.snapshot_path(), &[8; 32], &p.image);
    assert!(matches!(foreign, Err(ImageError::Format(FormatError::Foreign(_)))));
}

#[test]
fn a_second_host_is_refused_with_the_first_ones_process_id() {
    let p = place();
    let Err(error) = StateDir::open(p.state.path()) else { panic!("opened twice") };
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())) && text.contains("help:"), "{text}");
}
