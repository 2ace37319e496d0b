use std::fs;
use std::path::Path;

use proptest::prelude::*;
use wasmop_core::watch::{Change, Seen};

use super::*;

fn request() -> WatchRequest {
    WatchRequest { version: "v1".into(), kind: "ConfigMap".into(), ..WatchRequest::default() }
}

fn seen(key: &str, version: u64, owner: &str) -> Seen {
    let kind = Arc::new(GroupKind { group: "apps".into(), kind: "Deployment".into() });
    let owners = match owner {
        "" => Arc::new([]) as Arc<[OwnerRef]>,
        name => Arc::new([OwnerRef { kind, name: name.into(), controller: true }]),
    };
    let meta =
        ObjectMetaLite { resource_version: ResourceVersion(version), generation: 1, uid: 7, deleting: false, owners };
    Seen { key: key.into(), meta, object: None }
}

/// A state directory, and one watch's journal in it.
struct Disks {
    dir: tempfile::TempDir,
    key: Option<wasmop_snapshot::encryption::EncryptionKey>,
}

impl Disks {
    fn new() -> Disks {
        Disks { dir: tempfile::tempdir().unwrap(), key: None }
    }

    fn recover(&self) -> Recovered {
        let state = StateDir::open_on(Disk::default(), self.dir.path(), self.key.clone()).unwrap();
        Journals::new(&state).unwrap().recover(&request(), rand::random())
    }

    fn file(&self) -> std::path::PathBuf {
        let mut files = fs::read_dir(self.dir.path().join("watches")).unwrap();
        files.next().unwrap().unwrap().path()
    }
}

/// Everything an index knows, as text.
fn content(index: &Index) -> String {
    let all: Vec<Change> = index.replay(u64::MAX).collect();
    let since = |after| index.replay_between(after, u64::MAX).map(Iterator::collect::<Vec<_>>);
    format!("{} {} {all:?} {:?}", index.last(), index.floor(), (0..=index.last()).map(since).collect::<Vec<_>>())
}

#[test]
fn place_is_valid_up_to_the_last_written_change() {
    let disks = Disks::new();
    let Recovered { mut journal, mut index, .. } = disks.recover();
    index.apply(seen("a", 1, "x"));
    index.apply(seen("b", 2, ""));
    journal.save_index(&mut index, Some(true)).unwrap();
    let place = |number| WatchPosition { watch: journal.watch(), lineage: journal.lineage(), number };
    let Recovered { journal: next, index: found, namespaced } = disks.recover();
    assert_eq!((content(&found), namespaced), (content(&index), Some(true)));
    assert_eq!([1, 2, 3].map(|number| next.number(place(number))), [Some(1), Some(2), None]);
    // Nothing has changed, but what the next host calls its own is known to the one after it.
    let (mut next, mut found) = (next, found);
    next.save_index(&mut found, Some(true)).unwrap();
    let third = disks.recover().journal;
    assert_eq!(third.number(place(2)), Some(2));
    assert_eq!(third.number(WatchPosition { lineage: next.lineage(), ..place(2) }), Some(2));
    assert_eq!(third.number(WatchPosition { lineage: next.lineage() ^ 1, ..place(2) }), None);
}

#[test]
fn encrypted_journal_is_unreadable_with_another_key() {
    let key = |byte: u8| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [byte; 32]).unwrap();
        wasmop_snapshot::encryption::EncryptionKey::read(file.path()).unwrap()
    };
    let mut disks = Disks { key: Some(key(1)), ..Disks::new() };
    let Recovered { mut journal, mut index, .. } = disks.recover();
    index.apply(seen("a-name-that-nobody-is-to-see", 1, ""));
    journal.save_index(&mut index, None).unwrap();
    let bytes = fs::read(disks.file()).unwrap();
    assert!(!bytes.windows(6).any(|w| w == b"a-name"));
    assert_eq!(content(&disks.recover().index), content(&index));
    disks.key = Some(key(2));
    assert!(disks.recover().index.is_empty());
}

/// What happens to a watch.
#[derive(Clone, Debug)]
enum Step {
    Apply(u8, u8),
    Delete(u8),
    Relist(Vec<u8>),
    Save,
    /// The next host.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12u8, 0..3u8).prop_map(|(key, owner)| Step::Apply(key, owner)),
        2 => (0..12u8).prop_map(Step::Delete),
        1 => proptest::collection::vec(0..12u8, 0..8).prop_map(Step::Relist),
        2 => Just(Step::Save),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

fn corrupt(file: &Path, at: usize, how: u8) {
    let mut bytes = fs::read(file).unwrap();
    let at = at % bytes.len();
    match how {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 0x40,
        _ => bytes[at..].fill(0),
    }
    fs::write(file, bytes).unwrap();
}

proptest! {
    #[test]
    fn next_host_reads_the_written_index(steps in steps()) {
        let disks = Disks::new();
        let Recovered { mut journal, mut index, .. } = disks.recover();
        let mut written = content(&index);
        let owner = |n: u8| ["", "x", "y"][n as usize];
        for (version, step) in steps.into_iter().enumerate() {
            let version = version as u64 + 1;
            match step {
                Step::Apply(key, o) => {
                    index.apply(seen(&key.to_string(), version, owner(o)));
                }
                Step::Delete(key) => {
                    index.delete(seen(&key.to_string(), version, ""));
                }
                Step::Relist(keys) => {
                    index.begin_list();
                    for key in keys {
                        index.apply(seen(&key.to_string(), version, ""));
                    }
                    index.finish_list();
                }
                Step::Save => {
                    journal.save_index(&mut index, None).unwrap();
                    written = content(&index);
                }
                Step::Restart => {
                    Recovered { journal, index, .. } = disks.recover();
                    prop_assert_eq!(content(&index), &written[..]);
                }
            }
        }
    }

    /// A place that is taken for good leads to all that has changed since, whatever became of the file.
    #[test]
    fn intact_part_of_a_damaged_file_is_correct(before in steps(), after in steps(), at in any::<usize>(), how in 0..3u8) {
        let disks = Disks::new();
        let Recovered { mut journal, mut index, .. } = disks.recover();
        // By number, what was there then.
        let mut truth = std::collections::BTreeMap::new();
        let run = |steps: Vec<Step>, journal: &mut Journal, index: &mut Index, truth: &mut std::collections::BTreeMap<u64, String>, from: u64| {
            for (version, step) in steps.into_iter().enumerate() {
                let version = from + version as u64;
                match step {
                    Step::Apply(key, _) => drop(index.apply(seen(&key.to_string(), version, ""))),
                    Step::Delete(key) => drop(index.delete(seen(&key.to_string(), version, ""))),
                    _ => journal.save_index(index, None).unwrap(),
                }
                truth.insert(index.last(), format!("{:?}", index.replay(u64::MAX).collect::<Vec<_>>()));
            }
        };
        run(before, &mut journal, &mut index, &mut truth, 1);
        run(after, &mut journal, &mut index, &mut truth, 1000);
        journal.save_index(&mut index, None).unwrap();
        corrupt(&disks.file(), at, how);
        let found = disks.recover();
        let place = |number| WatchPosition { watch: journal.watch(), lineage: journal.lineage(), number };
        let known = (1..=index.last()).filter(|number| found.journal.number(place(*number)).is_some()).max();
        prop_assert!(known.is_none() || known == Some(found.index.last()));
        if let Some(known) = known {
            let now = format!("{:?}", found.index.replay(u64::MAX).collect::<Vec<_>>());
            prop_assert_eq!(&now, &truth[&known]);
        }
    }
}

#[test]
fn identities_have_separate_journals() {
    let account = |text: &str| Some(Arc::new(text.parse::<wasmop_core::service_account::ServiceAccount>().unwrap()));
    let names = [None, account("a/x"), account("a/y"), account("b/x")]
        .map(|service_account| name(&WatchRequest { service_account, ..request() }));
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
}

#[test]
fn old_unused_journal_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let of = |kind: &str| WatchRequest { version: "v1".into(), kind: kind.into(), ..WatchRequest::default() };
    let kinds = ["Old", "Used", "New"];
    let before = Journals::new(&state).unwrap();
    for kind in kinds {
        let Recovered { mut journal, mut index, .. } = before.recover(&of(kind), rand::random());
        index.apply(seen("a", 1, ""));
        journal.save_index(&mut index, None).unwrap();
    }
    let path = |kind: &str| state.watches_dir().join(format!("{:016x}", hash(&name(&of(kind)))));
    let now = SystemTime::now();
    let written = |path: &Path, age: Duration| {
        fs::File::options().write(true).open(path).unwrap().set_modified(now.checked_sub(age).unwrap()).unwrap();
    };
    let unfinished = path("Old").with_extension("tmp");
    fs::write(&unfinished, "").unwrap();
    let minute = Duration::from_secs(60);
    for old in [&path("Old"), &unfinished, &path("Used")] {
        written(old, MAX_UNUSED + minute);
    }
    written(&path("New"), MAX_UNUSED - minute);
    let next = Journals::new(&state).unwrap();
    assert!(!next.recover(&of("Used"), rand::random()).index.is_empty());
    assert_eq!(next.remove_unused(now).unwrap(), 2);
    assert_eq!(kinds.map(|kind| path(kind).exists()), [false, true, true]);
    assert!(!unfinished.exists());
}
