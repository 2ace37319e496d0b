use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::watch::{Index, ObjectMetaLite, ResourceVersion, Seen};

fn config_maps() -> Resource {
    Resource { group: "".into(), plural: "configmaps".into() }
}

fn writes() -> Writes {
    let watch: WatchSpec = serde_json::from_value(serde_json::json!({
        "version": "v1", "kind": "ConfigMap", "plural": "configmaps", "cached": true,
    }))
    .expect("a watch");
    Writes::of(&[Resource::of(&watch)].into()).expect("something cached")
}

fn request(verb: &'static str, resource: &str, name: Option<&str>) -> Allowed {
    Allowed {
        verb,
        group: String::new(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        subresource: String::new(),
        namespace: Some("a".to_owned()),
        name: name.map(str::to_owned),
    }
}

fn answer(writes: &mut Writes, call: u64, status: u16, body: &str) {
    writes.on_reply(call, &Reply::Head { status, headers: String::new() });
    writes.on_reply(call, &Reply::Body(Bytes::copy_from_slice(body.as_bytes())));
    writes.on_reply(call, &Reply::End);
}

fn seen(key: &str, uid: u64, version: u64) -> Seen {
    let meta = ObjectMetaLite {
        resource_version: ResourceVersion(version),
        generation: 0,
        uid,
        deleting: false,
        owners: Arc::new([]),
    };
    Seen { key: key.into(), meta, object: Some("{}".into()) }
}

fn object(name: &str, uid: &str, version: u64) -> String {
    serde_json::json!({"metadata": {"namespace": "a", "name": name, "uid": uid, "resourceVersion": version.to_string()}})
        .to_string()
}

const GONE: &str = r#"{"kind":"Status","metadata":{},"status":"Success","details":{"name":"x","uid":"u1"}}"#;

#[test]
fn a_write_gates_reads_until_the_cache_has_seen_it() {
    let updated = object("x", "u1", 8);
    let last_finalizer = r#"{"metadata":{"namespace":"a","name":"x","uid":"u1","resourceVersion":"8","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#;
    // what, verb, resource, name, status, answer, version of the cache; then whether x, y and a list may be read.
    for (what, verb, resource, name, status, body, position, expected) in [
        ("not seen", "patch", "configmaps", Some("x"), 200, &*updated, 7, [false, true, false]),
        ("seen", "patch", "configmaps", Some("x"), 200, &updated, 8, [true, true, true]),
        ("created, not seen", "create", "configmaps", None, 201, &updated, 7, [false, true, false]),
        ("created, seen", "create", "configmaps", None, 201, &updated, 9, [true, true, true]),
        ("refused", "patch", "configmaps", Some("x"), 409, GONE, 7, [true, true, true]),
        ("of another kind", "patch", "secrets", Some("x"), 200, &updated, 7, [true, true, true]),
        ("a read", "get", "configmaps", Some("x"), 200, &updated, 7, [true, true, true]),
        ("not JSON", "update", "configmaps", Some("x"), 200, "k8s\0", 100, [false, true, false]),
        ("deleted", "delete", "configmaps", Some("x"), 200, GONE, 100, [false, true, false]),
        ("the last finalizer", "patch", "configmaps", Some("x"), 200, last_finalizer, 100, [false, true, false]),
        ("all deleted", "deletecollection", "configmaps", None, 200, "{}", 100, [false, false, false]),
    ] {
        let mut index = Index::default();
        index.apply(seen("a/x", hash("u1"), 3));
        index.apply(seen("a/y", hash("u2"), 4));
        let mut writes = writes();
        let cache = CacheView { index: &index, position };
        writes.sent(1, &request(verb, resource, name), "/");
        assert!(writes.are_in(&config_maps(), None, cache), "{what}: not acknowledged yet");
        answer(&mut writes, 1, status, body);
        let may = |key: Option<&str>| writes.are_in(&config_maps(), key.map(Into::into).as_ref(), cache);
        assert_eq!([may(Some("a/x")), may(Some("a/y")), may(None)], expected, "{what}");
    }
}

#[test]
fn a_gate_without_version_is_opened_by_a_later_write_or_a_deletion() {
    let mut index = Index::default();
    index.apply(seen("a/x", hash("u1"), 3));
    let mut writes = writes();
    writes.sent(1, &request("delete", "configmaps", Some("x")), "/");
    writes.sent(2, &request("patch", "configmaps", Some("y")), "/");
    answer(&mut writes, 1, 200, GONE);
    answer(&mut writes, 2, 200, &object("y", "u2", 5));
    let x: Key = "a/x".into();
    let may =
        |writes: &Writes, position| writes.are_in(&config_maps(), Some(&x), CacheView { index: &index, position });
    assert!(!may(&writes, 100), "the other write may have been before it");
    writes.sent(3, &request("patch", "configmaps", Some("y")), "/");
    answer(&mut writes, 3, 200, &object("y", "u2", 9));
    assert!(!may(&writes, 8));
    assert!(may(&writes, 9));

    let mut writes = self::writes();
    writes.sent(1, &request("delete", "configmaps", Some("x")), "/");
    writes.gone(&config_maps(), "a/x", hash("u1"));
    answer(&mut writes, 1, 200, GONE);
    assert!(may(&writes, 1), "its end was seen before the answer");
    writes.sent(2, &request("delete", "configmaps", Some("x")), "/");
    answer(&mut writes, 2, 200, GONE);
    assert!(!may(&writes, 100));
    writes.gone(&config_maps(), "a/x", hash("another"));
    assert!(!may(&writes, 100), "that was another object of the name");
    writes.gone(&config_maps(), "a/x", hash("u1"));
    assert!(may(&writes, 1));
}

#[test]
fn a_gate_closes_once_the_guest_knows_of_success() {
    let index = Index::default();
    let cache = CacheView { index: &index, position: 100 };
    let x: Key = "a/x".into();
    let head = Reply::Head { status: 200, headers: String::new() };
    let mut writes = writes();
    writes.sent(1, &request("patch", "configmaps", Some("x")), "/");
    writes.on_reply(1, &head);
    assert!(!writes.are_in(&config_maps(), Some(&x), cache));
    writes.on_reply(1, &Reply::Failed("cut".to_owned()));
    assert!(!writes.are_in(&config_maps(), Some(&x), cache), "it has succeeded, nobody knows as what");
    let mut writes = self::writes();
    writes.sent(1, &request("patch", "configmaps", Some("x")), "/");
    writes.failed(1);
    assert!(writes.are_in(&config_maps(), Some(&x), cache), "nothing was acknowledged");
}

#[test]
fn the_number_of_gates_is_bounded() {
    let index = Index::default();
    let mut writes = writes();
    for n in 1..=1000 {
        writes.sent(n, &request("patch", "configmaps", Some(&format!("x{n}"))), "/");
        answer(&mut writes, n, 200, &object(&format!("x{n}"), "u", n));
    }
    assert!(writes.gates.len() <= MAX_GATES + 1 && writes.bytes() < 20_000, "{} gates", writes.gates.len());
    let may = |writes: &Writes, position| writes.are_in(&config_maps(), None, CacheView { index: &index, position });
    assert!(!may(&writes, 999));
    assert!(may(&writes, 1000));
    writes.forget(&config_maps(), 1000);
    assert!(writes.gates.is_empty());
}

/// An event.
#[derive(Clone, Debug)]
enum Step {
    Send {
        object: usize,
        deletes: bool,
    },
    /// The API server executes a write in flight.
    Commit(usize),
    /// An executed write is answered.
    Answer(usize),
    /// Someone else writes.
    Other {
        object: usize,
        deletes: bool,
    },
    /// The cache takes in this many changes.
    See(usize),
    /// The host's loop takes in this many changes of the cache.
    Hear(usize),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, any::<bool>()).prop_map(|(object, deletes)| Step::Send { object, deletes }),
        3 => (0..4_usize).prop_map(Step::Commit),
        3 => (0..4_usize).prop_map(Step::Answer),
        1 => (0..3_usize, any::<bool>()).prop_map(|(object, deletes)| Step::Other { object, deletes }),
        3 => (1..4_usize).prop_map(Step::See),
        2 => (1..4_usize).prop_map(Step::Hear),
        1 => Just(Step::Forget),
    ]
}

const NAMES: [&str; 3] = ["x", "y", "z"];

/// An API server and a cache that lags behind it.
#[derive(Default)]
struct World {
    /// UIDs of existing objects.
    objects: BTreeMap<usize, u64>,
    /// Object, UID, and whether it is gone; the resource version is the position, counted from 1.
    log: Vec<(usize, u64, bool)>,
    position: usize,
    index: Index,
    ends: Vec<(usize, u64)>,
}

impl World {
    /// Status and body of the answer.
    fn write(&mut self, object: usize, deletes: bool) -> (u16, String) {
        let version = self.log.len() as u64 + 1;
        match (self.objects.get(&object).copied(), deletes) {
            (None, true) => (404, "{}".to_owned()),
            (Some(uid), true) => {
                self.objects.remove(&object);
                self.log.push((object, uid, true));
                (200, serde_json::json!({"kind": "Status", "details": {"uid": uid.to_string()}}).to_string())
            }
            (uid, false) => {
                let uid = uid.unwrap_or(version);
                self.objects.insert(object, uid);
                self.log.push((object, uid, false));
                (200, self::object(NAMES[object], &uid.to_string(), version))
            }
        }
    }

    fn see(&mut self) {
        let Some(&(object, uid, gone)) = self.log.get(self.position) else { return };
        self.position += 1;
        let key = format!("a/{}", NAMES[object]);
        let seen = seen(&key, hash(&uid.to_string()), self.position as u64);
        if gone {
            self.index.delete(seen);
            self.ends.push((object, uid));
        } else {
            self.index.apply(seen);
        }
    }
}

struct Sent {
    call: u64,
    object: usize,
    deletes: bool,
    /// Once executed: the answer and the resulting version.
    done: Option<((u16, String), usize)>,
}

proptest! {
    /// No answer is older than an own write whose answer the controller has received.
    #[test]
    fn a_controller_reads_its_own_writes(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::default();
        let mut writes = writes();
        let mut under_way: Vec<Sent> = Vec::new();
        // By object, the version of the last acknowledged write.
        let mut acknowledged = [0_usize; NAMES.len()];
        for (call, step) in (1..).zip(steps) {
            match step {
                Step::Send { object, deletes } => {
                    let verb = if deletes { "delete" } else { "patch" };
                    writes.sent(call, &request(verb, "configmaps", Some(NAMES[object])), "/");
                    under_way.push(Sent { call, object, deletes, done: None });
                }
                Step::Commit(n) => {
                    if let Some(sent) = under_way.iter_mut().filter(|sent| sent.done.is_none()).nth(n) {
                        let answer = world.write(sent.object, sent.deletes);
                        sent.done = Some((answer, world.log.len()));
                    }
                }
                Step::Answer(n) => {
                    let done = under_way.iter().enumerate().filter(|(_, sent)| sent.done.is_some()).nth(n);
                    if let Some((at, _)) = done {
                        let Sent { call, object, done, .. } = under_way.swap_remove(at);
                        let Some(((status, body), version)) = done else { continue };
                        answer(&mut writes, call, status, &body);
                        if status == 200 {
                            acknowledged[object] = acknowledged[object].max(version);
                        }
                    }
                }
                Step::Other { object, deletes } => {
                    world.write(object, deletes);
                }
                Step::See(n) => (0..n).for_each(|_| world.see()),
                Step::Hear(n) => {
                    for (object, uid) in world.ends.drain(..n.min(world.ends.len())) {
                        writes.gone(&config_maps(), &format!("a/{}", NAMES[object]), hash(&uid.to_string()));
                    }
                }
                Step::Forget => writes.forget(&config_maps(), world.position as u64),
            }
            let cache = CacheView { index: &world.index, position: world.position as u64 };
            for (object, name) in NAMES.iter().enumerate() {
                let key: Key = format!("a/{name}").into();
                let is_there = world.index.get(&key).is_some();
                let may_object = writes.are_in(&config_maps(), Some(&key), cache);
                let may_list = writes.are_in(&config_maps(), None, cache);
                // An absent object is not answered; in a list it stands for its deletion.
                if is_there && (may_object || may_list) {
                    prop_assert!(
                        world.position >= acknowledged[object],
                        "{name} is answered as of {}, and {} was acknowledged", world.position, acknowledged[object]
                    );
                }
            }
        }
        // All gates are open once everything is seen and answered.
        (0..world.log.len()).for_each(|_| world.see());
        for (object, uid) in world.ends.drain(..) {
            writes.gone(&config_maps(), &format!("a/{}", NAMES[object]), hash(&uid.to_string()));
        }
        let cache = CacheView { index: &world.index, position: world.position as u64 };
        prop_assert!(writes.are_in(&config_maps(), None, cache), "{:?}", writes.gates);
    }
}

#[test]
fn a_gate_without_version_is_opened_by_a_later_read() {
    const TOKEN: &str = r#"{"kind":"TokenRequest","metadata":{"name":"x","namespace":"a"}}"#;
    const EVICTED: &str = r#"{"kind":"Status","metadata":{},"status":"Success"}"#;
    const LIST: &str = r#"{"items":[{"metadata":{"resourceVersion":"3"}}],"metadata":{"resourceVersion":"8"}}"#;
    let read = object("x", "u1", 8);
    let large = format!(r#"{{"items":["{}"],"metadata":{{"resourceVersion":"8"}}}}"#, "x".repeat(5 << 20));
    let subresource = |name| Allowed { subresource: "token".to_owned(), ..request("create", "configmaps", name) };
    // what, the write and its answer; the read, its path, status and answer; whether x and a list may be read from a
    // cache at version 7, and at 8.
    let token = || (subresource(Some("x")), TOKEN);
    let get = || request("get", "configmaps", Some("x"));
    let list = || request("list", "configmaps", None);
    let gone = || (request("delete", "configmaps", Some("x")), "k8s\0");
    let all = || (request("deletecollection", "configmaps", None), "{}");
    let (shut, open) = ([false, false], [true, true]);
    for (what, (write, answered), reads, path, status, body, at_7, at_8) in [
        ("of the object", token(), get(), "/x", 200, &*read, shut, open),
        ("of a list", token(), list(), "/?limit=500&labelSelector=a", 200, LIST, shut, open),
        ("after an eviction", (subresource(Some("x")), EVICTED), get(), "/x", 200, &read, shut, open),
        ("after a deletion", gone(), get(), "/x", 200, &read, shut, open),
        ("of a list, after all were deleted", all(), list(), "/", 200, LIST, shut, open),
        ("of one object, after all were deleted", all(), get(), "/x", 200, &read, shut, shut),
        ("of another object", token(), request("get", "configmaps", Some("y")), "/y", 200, &read, shut, shut),
        ("of another resource", token(), request("list", "secrets", None), "/", 200, LIST, shut, shut),
        ("that any version answers", token(), get(), "/x?resourceVersion=0", 200, &read, shut, shut),
        ("of a further page", token(), list(), "/?continue=x", 200, LIST, shut, shut),
        ("that is refused", token(), get(), "/x", 403, &read, shut, shut),
        ("that says no version", token(), get(), "/x", 200, "{}", shut, shut),
        ("of a large list", token(), list(), "/", 200, &large, shut, open),
    ] {
        let mut index = Index::default();
        index.apply(seen("a/x", hash("u1"), 3));
        let mut writes = writes();
        writes.sent(1, &write, "/");
        answer(&mut writes, 1, 201, answered);
        writes.sent(2, &reads, path);
        answer(&mut writes, 2, status, body);
        for (position, expected) in [(7, at_7), (8, at_8)] {
            let cache = CacheView { index: &index, position };
            let may = |key: Option<&str>| writes.are_in(&config_maps(), key.map(Into::into).as_ref(), cache);
            assert_eq!([may(Some("a/x")), may(None)], expected, "{what}, at {position}");
        }
    }
}

#[test]
fn a_read_in_flight_while_a_write_was_answered_opens_no_gate() {
    let mut index = Index::default();
    index.apply(seen("a/x", hash("u1"), 3));
    let mut writes = writes();
    let cache = CacheView { index: &index, position: 100 };
    let get = request("get", "configmaps", Some("x"));
    for (first, second) in [(1, 2), (3, 4)] {
        writes.sent(first, &request("create", "configmaps", Some("x")), "/");
        answer(&mut writes, first, 201, "{}");
        writes.sent(second, &get, "/x");
    }
    // The read of the first round was sent before the gate of the second was closed.
    answer(&mut writes, 2, 200, &object("x", "u1", 8));
    assert!(!writes.are_in(&config_maps(), Some(&"a/x".into()), cache));
    writes.failed(4);
    assert!(!writes.are_in(&config_maps(), Some(&"a/x".into()), cache));
    writes.sent(5, &get, "/x");
    answer(&mut writes, 5, 200, &object("x", "u1", 8));
    assert!(writes.are_in(&config_maps(), Some(&"a/x".into()), cache));
    assert!(writes.reads.is_empty());
}

#[test]
fn a_read_without_result_opens_the_gate_of_an_uncached_object() {
    let mut index = Index::default();
    index.apply(seen("a/x", hash("u1"), 3));
    let mut writes = writes();
    writes.sent(1, &request("create", "configmaps", Some("x")), "/");
    answer(&mut writes, 1, 201, "{}");
    writes.sent(2, &request("get", "configmaps", Some("x")), "/x");
    answer(&mut writes, 2, 404, "{}");
    let key: Key = "a/x".into();
    assert!(!writes.are_in(&config_maps(), Some(&key), CacheView { index: &index, position: 100 }));
    index.delete(seen("a/x", hash("u1"), 4));
    assert!(writes.are_in(&config_maps(), None, CacheView { index: &index, position: 100 }));
}

#[test]
fn a_read_of_any_version_becomes_a_read_of_the_newest() {
    for (any, expected) in [
        ("/x?resourceVersion=0", "/x"),
        ("/x?limit=5&resourceVersion=0&labelSelector=a", "/x?limit=5&labelSelector=a"),
        ("/x?resourceVersion=0&resourceVersionMatch=NotOlderThan", "/x"),
        ("/x", "/x"),
    ] {
        assert_eq!(newest(any), expected);
    }
}

#[test]
fn answers_are_not_kept() {
    let index = Index::default();
    let piece = Bytes::from("x".repeat(64 << 10));
    let (begin, end) =
        (Bytes::from(r#"{"items":[""#), Bytes::from(r#""],"metadata":{"resourceVersion":"8","uid":"u"}}"#));
    let mut writes = writes();
    writes.sent(1, &request("delete", "configmaps", Some("y")), "/");
    answer(&mut writes, 1, 200, "{}");
    writes.sent(2, &request("list", "configmaps", None), "/");
    writes.sent(3, &request("update", "configmaps", Some("x")), "/");
    for call in [2, 3] {
        writes.on_reply(call, &Reply::Head { status: 200, headers: String::new() });
        writes.on_reply(call, &Reply::Body(begin.clone()));
        for _ in 0..200 {
            writes.on_reply(call, &Reply::Body(piece.clone()));
        }
    }
    assert!(piece.is_unique(), "a piece is still held");
    assert!(writes.bytes() < 64 << 10, "{} bytes", writes.bytes());
    for call in [2, 3] {
        writes.on_reply(call, &Reply::Body(end.clone()));
        writes.on_reply(call, &Reply::End);
    }
    let may = |position| writes.are_in(&config_maps(), None, CacheView { index: &index, position });
    assert!(!may(7));
    assert!(may(8));
}

#[test]
fn resources_of_old_registrations_are_evicted() {
    let of = |plural: String| Resource { group: "".into(), plural: plural.into() };
    let mut all: Arc<[Resource]> = [config_maps()].into();
    for n in 0..10 * MAX_RESOURCES {
        Resource::extend(&mut all, &[of(format!("r{n}")), config_maps()]);
        assert!(all.len() <= MAX_RESOURCES);
        assert!(all.contains(&config_maps()) && all.contains(&of(format!("r{n}"))), "{n}");
    }
    let before = all.clone();
    Resource::extend(&mut all, &[config_maps()]);
    assert!(Arc::ptr_eq(&all, &before), "nothing is copied for what is known");
}
