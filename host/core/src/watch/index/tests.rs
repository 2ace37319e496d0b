use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::watch::object_meta::{Item, Reader, ResourceVersion};

fn seen(key: &str, version: u64) -> Seen {
    let meta = ObjectMetaLite {
        resource_version: ResourceVersion(version),
        generation: 1,
        uid: 1,
        deleting: false,
        owners: Arc::new([]),
    };
    Seen { key: key.into(), meta, object: None }
}

/// `+key` new, `~key` changed, `-key` gone.
fn said(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
    let say = |change| match change {
        Change::Applied { key, old: None, .. } => format!("+{key}"),
        Change::Applied { key, old: Some(_), .. } => format!("~{key}"),
        Change::Deleted { key, .. } => format!("-{key}"),
        other => panic!("{other:?}"),
    };
    changes.into_iter().map(say).collect()
}

#[test]
fn a_relist_is_only_what_changed() {
    let mut index = Index::default();
    index.begin_list();
    let first = ["a", "b", "c"].map(|key| index.apply(seen(key, 1)));
    assert_eq!(said(first.into_iter().flatten()), ["+a", "+b", "+c"]);
    assert_eq!(index.finish_list(), []);

    index.begin_list();
    let again = [seen("a", 1), seen("c", 5), seen("d", 6)].map(|seen| index.apply(seen));
    assert_eq!(said(again.into_iter().flatten()), ["~c", "+d"]);
    assert_eq!(said(index.finish_list()), ["-b"]);
    assert_eq!(said(index.replay(u64::MAX)), ["+a", "+c", "+d"]);
}

#[test]
fn objects_beyond_the_budget_keep_their_metadata() {
    let budget = Arc::new(ObjectBudget::default());
    budget.set_limit(Some(10));
    let mut index = Index::default();
    index.keep_in(budget.clone());
    let whole = |key: &str, version, bytes| Seen { object: Some("x".repeat(bytes).into()), ..seen(key, version) };
    let given = |change| match change {
        Some(Change::Applied { object, .. } | Change::Deleted { object, .. }) => object.map(|object| object.len()),
        other => panic!("{other:?}"),
    };
    // Subscribers still see it.
    assert_eq!([("a", 8), ("b", 3)].map(|(key, bytes)| given(index.apply(whole(key, 1, bytes)))), [Some(8), Some(3)]);
    assert_eq!(["a", "b"].map(|key| index.object(key).is_some()), [true, false]);
    assert_eq!(index.get("b").unwrap().resource_version, ResourceVersion(1));
    // It shrinks, and the other one fits when seen again.
    given(index.apply(whole("a", 2, 5)));
    assert_eq!(index.apply(whole("b", 1, 3)), None);
    assert_eq!(index.object("b").map(|object| object.len()), Some(3));
    assert_eq!(budget.usage().bytes, 8);
    // Replaced by an object of the same size.
    given(index.apply(whole("a", 3, 7)));
    assert_eq!((index.object("a").is_some(), budget.usage().bytes), (true, 10));
    index.delete(whole("a", 4, 7));
    assert_eq!(budget.usage().bytes, 3);
    index.begin_list();
    assert_eq!(said(index.finish_list()), ["-b"]);
    assert_eq!(budget.usage().bytes, 0);
    given(index.apply(whole("c", 1, 6)));
    drop(index);
    assert_eq!(budget.usage().bytes, 0);
}

#[test]
fn an_abandoned_list_deletes_nothing() {
    let mut index = Index::default();
    index.begin_list();
    index.apply(seen("a", 1));
    index.apply(seen("b", 1));
    index.finish_list();
    index.begin_list();
    index.apply(seen("a", 1));
    index.begin_list();
    index.apply(seen("a", 1));
    index.apply(seen("b", 1));
    assert_eq!(index.finish_list(), []);
    assert_eq!(index.len(), 2);
}

#[test]
fn an_object_that_came_by_watch_after_the_list_survives_until_a_list_lacks_it() {
    let mut index = Index::default();
    index.begin_list();
    index.finish_list();
    assert_eq!(said(index.apply(seen("a", 2))), ["+a"]);
    assert_eq!(index.apply(seen("a", 2)), None);
    assert_eq!(said(index.apply(seen("a", 3))), ["~a"]);
    index.begin_list();
    index.apply(seen("a", 3));
    assert_eq!(index.finish_list(), []);
    index.begin_list();
    assert_eq!(said(index.finish_list()), ["-a"]);
}

#[test]
fn deleting_an_unknown_object_is_no_change() {
    let mut index = Index::default();
    assert_eq!(index.delete(seen("a", 1)), None);
    index.apply(seen("a", 1));
    assert_eq!(said(index.delete(seen("a", 2))), ["-a"]);
    assert!(index.is_empty());
}

#[test]
fn an_object_recreated_with_the_same_version_text_is_a_change() {
    let mut index = Index::default();
    index.apply(seen("a", 1));
    let mut new = seen("a", 1);
    new.meta.uid = 2;
    assert_eq!(said(index.apply(new)), ["~a"]);
}

#[test]
fn the_kept_metadata_is_read_from_an_object() {
    let json = r#"{"kind":"ConfigMap","metadata":{"name":"a","namespace":"ns","uid":"u-1","resourceVersion":"123",
        "generation":4,"deletionTimestamp":"2026-01-01T00:00:00Z","labels":{"x":"\u00e4"},"managedFields":[{"manager":"m"}],
        "ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"d","uid":"u-2","controller":true},
                           {"apiVersion":"v1","kind":"Node","name":"n","uid":"u-3"}]},"data":{"k":"v"}}"#;
    let mut reader = Reader::new(None);
    let Item { seen, version, .. } = reader.read(json).unwrap();
    assert_eq!((&*seen.key, version.as_ref()), ("ns/a", "123"));
    let meta = &seen.meta;
    assert_eq!((meta.resource_version, meta.generation, meta.deleting), (ResourceVersion(123), 4, true));
    let owners: Vec<_> = meta.owners.iter().map(|o| (&*o.kind.group, &*o.kind.kind, &*o.name, o.controller)).collect();
    assert_eq!(owners, [("apps", "Deployment", "d", true), ("", "Node", "n", false)]);
    assert_eq!(seen.object, None);
    // Kinds of owners are shared.
    let again = reader.read(json).unwrap().seen;
    assert!(Arc::ptr_eq(&again.meta.owners[0].kind, &meta.owners[0].kind));

    let mut full = Reader::new(Some(("v1".into(), "ConfigMap".into())));
    let item = r#"{"metadata":{"name":"a","resourceVersion":"x","managedFields":[{"manager":"m"}]},"data":{"k":"v"}}"#;
    let seen = full.read(item).unwrap().seen;
    assert_eq!(&*seen.key, "a");
    let object: serde_json::Value = serde_json::from_str(&seen.object.unwrap()).unwrap();
    assert_eq!(
        object,
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "x"},
            "data": {"k": "v"}})
    );
    for bad in ["", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"name":1,"resourceVersion":"1"}}"#, "[1]"] {
        assert!(reader.read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_whole_object_is_kept_byte_for_byte_at_any_depth() {
    let mut full = Reader::new(Some(("fc.dev/v1".into(), "Thing".into())));
    let nested = |depth: usize| format!("{}1{}", r#"{"n":"#.repeat(depth), "}".repeat(depth));
    for (spec, status) in [
        (nested(200), "{}".to_owned()),
        (nested(100_000), "[]".to_owned()),
        (r#"{"a":9223372036854775807,"b":0.1000,"c":1e400}"#.to_owned(), r#""\u00e4\"\\""#.to_owned()),
    ] {
        let managed = format!(r#"[{{"fieldsV1":{spec}}}]"#);
        let item = format!(
            r#"{{"metadata":{{"managedFields":{managed},"name":"a","resourceVersion":"7"}},"spec":{spec},"s\u0074atus":{status}}}"#
        );
        let seen = full.read(&item).unwrap().seen;
        let expected = format!(
            r#"{{"apiVersion":"fc.dev/v1","kind":"Thing","metadata":{{"name":"a","resourceVersion":"7"}},"spec":{spec},"status":{status}}}"#
        );
        assert!(seen.object.as_deref() == Some(&*expected), "{:.300}", seen.object.unwrap());
    }
}

#[test]
fn an_object_with_odd_metadata_keeps_its_name() {
    let mut full = Reader::new(Some(("v1".into(), "ConfigMap".into())));
    for strange in [r#""generation":"x""#, r#""ownerReferences":[{}]"#, r#""uid":{}"#, r#""deletionTimestamp":1"#] {
        let json =
            format!(r#"{{"metadata":{{"name":"a","namespace":"ns","resourceVersion":"9",{strange}}},"data":{{}}}}"#);
        let Item { seen, version, labels } = full.read(&json).unwrap();
        assert_eq!((&*seen.key, &*version, labels.is_none()), ("ns/a", "9", true), "{strange}");
        assert_eq!((seen.meta.resource_version, seen.object), (ResourceVersion(9), None));
    }
}

#[test]
fn an_entry_of_the_index_is_small() {
    // With its key of some 30 bytes and the tree's slack this stays below 200 bytes an object.
    assert!(size_of::<(Key, Entry)>() <= 96, "{}", size_of::<(Key, Entry)>());
    assert!(size_of::<OwnerRef>() <= 32);
}

use crate::watch::object_meta::OwnerRef;

#[derive(Clone, Debug)]
enum Event {
    /// Create or modify.
    Write(u8),
    Delete(u8),
    Recreate(u8),
    /// Events are lost until the next list.
    Disconnect,
    Relist,
    /// A list that stops after some objects.
    TornList(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..8_u8).prop_map(Event::Write),
        3 => (0..8_u8).prop_map(Event::Delete),
        1 => (0..8_u8).prop_map(Event::Recreate),
        1 => Just(Event::Disconnect),
        2 => Just(Event::Relist),
        1 => (0..8_usize).prop_map(Event::TornList),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Applying the changes to an empty set yields, after each list, the content of the server. No change repeats a
    /// state.
    #[test]
    fn changes_add_up_to_the_content_of_the_server(events in proptest::collection::vec(event(), 1..80)) {
        let mut server: BTreeMap<Key, u64> = BTreeMap::new();
        let mut follower: BTreeMap<Key, u64> = BTreeMap::new();
        let mut index = Index::default();
        let mut connected = false;
        let mut version = 0;
        let mut events = events;
        events.push(Event::Relist);
        for event in events {
            version += 1;
            let mut changes = Vec::new();
            match event {
                Event::Write(n) => {
                    let key: Key = format!("ns/{n}").into();
                    server.insert(key.clone(), version);
                    if connected {
                        changes.extend(index.apply(seen(&key, version)));
                    }
                }
                Event::Delete(n) => {
                    let key: Key = format!("ns/{n}").into();
                    if server.remove(&key).is_some() && connected {
                        changes.extend(index.delete(seen(&key, version)));
                    }
                }
                Event::Recreate(n) => {
                    let key: Key = format!("ns/{n}").into();
                    if server.insert(key.clone(), version).is_some() && connected {
                        changes.extend(index.delete(seen(&key, version)));
                    }
                    if connected {
                        changes.extend(index.apply(seen(&key, version)));
                    }
                }
                Event::Disconnect => connected = false,
                Event::Relist => {
                    index.begin_list();
                    for (key, version) in &server {
                        changes.extend(index.apply(seen(key, *version)));
                    }
                    changes.extend(index.finish_list());
                    connected = true;
                }
                Event::TornList(count) => {
                    index.begin_list();
                    for (key, version) in server.iter().take(count) {
                        changes.extend(index.apply(seen(key, *version)));
                    }
                    connected = false;
                }
            }
            for change in changes {
                match change {
                    Change::Applied { key, meta, old, .. } => {
                        let before = follower.insert(key, meta.resource_version.0);
                        prop_assert_eq!(before, old.map(|old| old.resource_version.0));
                        prop_assert_ne!(before, Some(meta.resource_version.0));
                    }
                    Change::Deleted { key, .. } => prop_assert!(follower.remove(&key).is_some()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            if connected {
                prop_assert_eq!(&follower, &server);
            }
            let held: BTreeMap<Key, u64> = index.entries.iter().map(|(key, entry)| (key.clone(), entry.meta.resource_version.0)).collect();
            prop_assert_eq!(&follower, &held);
        }
        prop_assert_eq!(follower, server);
    }
}

fn since(index: &Index, after: u64) -> Option<Vec<String>> {
    Some(said(index.replay_between(after, u64::MAX)?))
}

/// With a generation and an owner.
fn versioned(key: &str, version: u64, generation: i64, owner: &str) -> Seen {
    let mut seen = seen(key, version);
    let kind = Arc::new(super::super::object_meta::GroupKind { group: "".into(), kind: "Node".into() });
    seen.meta.owners = Arc::new([super::super::object_meta::OwnerRef { kind, name: owner.into(), controller: true }]);
    Seen { meta: ObjectMetaLite { generation, ..seen.meta }, ..seen }
}

#[test]
fn a_returning_subscriber_gets_the_changes_since() {
    let mut index = Index::default();
    index.apply(versioned("a", 1, 1, "x"));
    index.apply(versioned("b", 2, 1, "x"));
    index.apply(versioned("a", 3, 1, "x"));
    index.delete(seen("b", 4));
    index.apply(versioned("a", 5, 2, "y"));
    index.apply(versioned("b", 6, 1, "x"));
    assert_eq!(index.last(), 6);
    for (after, expected) in [
        (6, &[][..]),
        (5, &["+b"]),
        // Its former owners first.
        (4, &["~a", "+a", "+b"]),
        (3, &["-b", "~a", "+a", "+b"]),
        (0, &["-b", "~a", "+a", "+b"]),
    ] {
        assert_eq!(since(&index, after).unwrap(), expected, "after {after}");
    }
    assert_eq!(since(&index, 7), None);
    // The status of an object seen before.
    index.apply(versioned("a", 7, 2, "y"));
    assert_eq!(since(&index, 6).unwrap(), ["~a"]);
    assert_eq!(since(&index, 4).unwrap(), ["~a", "+a", "+b"]);
}

#[test]
fn a_subscriber_that_missed_too_much_gets_everything() {
    let mut index = Index::default();
    for i in 0..=MAX_PAST {
        index.apply(seen(&i.to_string(), 1));
        index.delete(seen(&i.to_string(), 2));
    }
    assert_eq!(index.floor(), 2);
    assert_eq!(since(&index, 1), None);
    assert_eq!(since(&index, 2).unwrap().len(), MAX_PAST);
}

#[derive(Clone, Debug)]
enum Write {
    Spec(usize),
    Status(usize),
    Delete(usize),
}

proptest! {
    /// A journal ends, a newer list follows, and a subscriber arrives last. The first replay plus all later changes,
    /// less those it ignores, is what concerns it.
    #[test]
    fn a_subscriber_to_generations_misses_none(
        writes in proptest::collection::vec(prop_oneof![
            (0..3usize).prop_map(Write::Spec),
            (0..3usize).prop_map(Write::Status),
            (0..3usize).prop_map(Write::Delete),
        ], 1..40),
        cuts in (0..40usize, 0..40usize),
    ) {
        let (after, until) = (cuts.0.min(cuts.1).min(writes.len()), cuts.0.max(cuts.1).min(writes.len()));
        let mut index = Index::default();
        // Generation by object, 0 if absent.
        let mut generations = [0i64; 3];
        let mut history = vec![(0, generations)];
        let mut changes = Vec::new();
        for (version, write) in (1..).zip(&writes) {
            let (Write::Spec(n) | Write::Status(n) | Write::Delete(n)) = *write;
            let key = n.to_string();
            let change = match write {
                Write::Delete(_) => {
                    generations[n] = 0;
                    index.delete(seen(&key, version))
                }
                _ => {
                    generations[n] = match write {
                        Write::Status(_) if generations[n] > 0 => generations[n],
                        _ => version as i64,
                    };
                    index.apply(versioned(&key, version, generations[n], "x"))
                }
            };
            changes.extend(change);
            history.push((index.last(), generations));
        }
        let concerned = |replayed: Vec<Change>| {
            let later = &changes[history[until].0 as usize..];
            let heard = replayed.iter().chain(later).filter(|change| super::super::passage(true, change) == super::super::Passage::Counts);
            heard.filter_map(|change| match change {
                Change::Applied { key, .. } | Change::Deleted { key, .. } => key.parse::<usize>().ok(),
                _ => None,
            }).collect::<BTreeSet<_>>()
        };
        let fresh = concerned(index.replay(history[until].0).collect());
        let back = concerned(index.replay_between(history[after].0, history[until].0).unwrap().collect());
        for (n, (now, then)) in generations.into_iter().zip(history[after].1).enumerate() {
            prop_assert!(now == 0 || fresh.contains(&n), "{n} exists, and a new subscriber did not get it");
            prop_assert!(now == then || back.contains(&n), "{n} is another than it was");
        }
    }
}
