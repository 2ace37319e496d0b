//! Consecutive hosts on one state directory, and the changes between them.

use super::*;

/// A state directory for consecutive hosts.
struct Hosts {
    _dir: tempfile::TempDir,
    state: wasmop_snapshot::StateDir,
}

impl Hosts {
    fn new() -> Hosts {
        let dir = tempfile::tempdir().unwrap();
        let state = wasmop_snapshot::StateDir::open(dir.path()).unwrap();
        Hosts { _dir: dir, state }
    }

    /// A watch on websites that has listed these objects at version 10.
    async fn next(&self, request: WatchRequest, objects: &[(&str, u64)]) -> (Harness, WatchId, Stream) {
        let mut harness = Harness::streaming(TIMINGS, Some(Journals::new(&self.state).unwrap()));
        let id = harness.hub.subscribe(request);
        harness.serve_websites().await;
        let stream = harness.request("sendInitialEvents=true").await.stream();
        for (key, version) in objects {
            stream.event("ADDED", &object(key, *version));
        }
        stream.event("BOOKMARK", &end_of_list("10"));
        (harness, id, stream)
    }
}

impl Harness {
    /// The replay for a subscriber at `place`, as by `say`, and whether it has only the missed changes.
    async fn recalled(&mut self, id: WatchId, place: Option<WatchPosition>) -> (Vec<String>, bool) {
        self.hub.recall(id, 1, place);
        let mut said = Vec::new();
        loop {
            let event = self.events.recv().await.unwrap().event;
            let Some(replay) = event.replay else { continue };
            if event.change == Change::Replayed {
                return (said, replay.missed);
            }
            said.push(say(&event.change).0);
        }
    }

    fn place_now(&self, id: WatchId, number: u64) -> Option<WatchPosition> {
        self.hub.watched(id).unwrap().save().unwrap();
        self.hub.place(id, number)
    }
}

#[tokio::test]
async fn next_host_sends_changes_since_a_controllers_position() {
    let hosts = Hosts::new();
    let (mut harness, id, stream) = hosts.next(request(), &[("a/a", 1), ("a/b", 2), ("a/c", 3)]).await;
    assert_eq!(harness.changes().await, ["+a/a", "+a/b", "+a/c", "synced"]);
    let early = harness.place_now(id, 2);
    let late = harness.place_now(id, 3);
    stream.event("MODIFIED", &object("a/a", 11));
    stream.event("DELETED", &object("a/b", 12));
    assert_eq!([harness.next().await, harness.next().await], ["~a/a", "-a/b"]);
    // A place whose change is not in the journal.
    let unwritten = harness.hub.place(id, 5);
    drop(harness);

    let (mut harness, id, _stream) = hosts.next(request(), &[("a/a", 11), ("a/c", 3), ("a/d", 14)]).await;
    // All subscribers get the changes since the journal was written.
    assert_eq!(harness.changes().await, ["~a/a", "+a/d", "-a/b", "synced"]);
    assert_eq!(harness.recalled(id, late).await, (vec![], true));
    assert_eq!(harness.recalled(id, early).await, (vec!["+a/c".into()], true));
    // All subscribers have had the later changes already.
    for unknown in [unwritten, None, late.map(|place| WatchPosition { lineage: 0, ..place })] {
        assert_eq!(harness.recalled(id, unknown).await, (vec!["+a/c".into()], false));
    }
    let now = harness.place_now(id, 6);
    drop(harness);

    // A third host, for which these changes are older.
    let (mut harness, id, _stream) = hosts.next(request(), &[("a/a", 11), ("a/c", 3), ("a/d", 14)]).await;
    assert_eq!(harness.changes().await, ["synced"]);
    assert_eq!(harness.recalled(id, now).await, (vec![], true));
    assert_eq!(harness.recalled(id, late).await, (vec!["-a/b".into(), "+a/a".into(), "+a/d".into()], true));
    let other = harness.hub.subscribe(WatchRequest { namespace: Some("x".into()), ..request() });
    assert_eq!([id, other].map(|id| harness.hub.is_in(&late.unwrap(), id)), [true, false]);
}

#[tokio::test]
async fn subscriber_without_a_position_gets_the_current_objects() {
    let hosts = Hosts::new();
    let (mut harness, id, _stream) = hosts.next(request(), &[("a/a", 1), ("a/b", 2), ("a/c", 3)]).await;
    assert_eq!(harness.changes().await.len(), 4);
    let place = harness.place_now(id, 2);
    drop(harness);
    let mut harness = Harness::streaming(TIMINGS, Some(Journals::new(&hosts.state).unwrap()));
    let id = harness.hub.subscribe(request());
    harness.hub.recall(id, 1, None);
    // The missed changes are known before the list.
    assert_eq!(harness.recalled(id, place).await, (vec!["+a/c".into()], true));
    harness.serve_websites().await;
    let stream = harness.request("sendInitialEvents=true").await.stream();
    for (key, version) in [("a/a", 10), ("a/b", 2)] {
        stream.event("ADDED", &object(key, version));
    }
    stream.event("BOOKMARK", &end_of_list("11"));
    assert_eq!(harness.changes().await, ["~a/a", "-a/c", "synced"]);
    assert_eq!([harness.next().await, harness.next().await], ["+a/b", "replayed"]);
}

#[tokio::test]
async fn whole_objects_are_replayed_after_the_relist() {
    let hosts = Hosts::new();
    let whole = || WatchRequest { full_objects: true, ..request() };
    let (mut harness, id, _stream) = hosts.next(whole(), &[("a/a", 1), ("a/b", 2)]).await;
    assert_eq!(harness.changes().await.len(), 3);
    let (first, both) = (harness.place_now(id, 1), harness.place_now(id, 2));
    drop(harness);
    let mut harness = Harness::streaming(TIMINGS, Some(Journals::new(&hosts.state).unwrap()));
    let id = harness.hub.subscribe(whole());
    for (subscriber, place) in [(1, first), (2, both), (3, None)] {
        harness.hub.recall(id, subscriber, place);
    }
    harness.serve_websites().await;
    let stream = harness.request("sendInitialEvents=true").await.stream();
    for (key, version) in [("a/c", 3), ("a/a", 1), ("a/b", 2)] {
        stream.event("ADDED", &object(key, version));
    }
    assert_eq!(harness.next().await, "+a/c");
    // A subscriber in the middle of the list has missed its start.
    assert_eq!(harness.hub.replay(id, 4), 3);
    stream.event("BOOKMARK", &end_of_list("10"));
    assert_eq!(harness.changes().await, ["synced"]);
    for (subscriber, expected) in [(1, &["a/b"][..]), (2, &[]), (3, &["a/a", "a/b"]), (4, &["a/a", "a/b", "a/c"])] {
        let mut sent = Vec::new();
        loop {
            let event = harness.events.recv().await.unwrap().event;
            assert_eq!(event.replay.unwrap().subscriber, subscriber);
            match event.change {
                Change::Applied { key, object: Some(_), .. } => sent.push(key),
                Change::Replayed => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent, expected.iter().map(|key| Key::from(*key)).collect::<Vec<_>>());
    }
}
