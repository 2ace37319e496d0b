//! Derived watches: which watches ask the API server, and the events of each.

use std::collections::BTreeSet;

use super::*;

mod model;

fn in_a() -> WatchRequest {
    WatchRequest { namespace: Some("a".into()), ..request() }
}

fn labelled() -> WatchRequest {
    WatchRequest { label_selector: "app=x".into(), ..request() }
}

fn whole(request: WatchRequest) -> WatchRequest {
    WatchRequest { full_objects: true, ..request }
}

fn with_app(key: &str, version: u64, app: &str) -> Value {
    let mut object = object(key, version);
    object["metadata"]["labels"] = json!({"app": app});
    object
}

impl Harness {
    /// Expects the next events, as `watch: change`, sorted by watch.
    async fn expect<const N: usize>(&mut self, expected: [&str; N]) {
        let mut sent = Vec::new();
        for _ in 0..N {
            let event = self.events.recv().await.unwrap().event;
            sent.push(format!("{}: {}", event.watch.0, say(&event.change).0));
        }
        sent.sort_by_key(|text| text.split_once(':').unwrap().0.to_owned());
        assert_eq!(sent, expected);
    }

    fn is_quiet(&mut self) -> bool {
        self.requests.try_recv().is_err() && self.events.try_recv().is_err()
    }

    fn is_derived(&self, id: WatchId) -> bool {
        self.hub.watched(id).unwrap().0.state().derived
    }

    async fn until_derived(&self, id: WatchId, derived: bool) {
        while self.is_derived(id) != derived {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn held(&self, id: WatchId) -> Vec<Key> {
        self.hub.keys(id)
    }
}

async fn closed(stream: &Stream) {
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn children_attach_to_a_parent_that_starts_with_them() {
    let mut harness = Harness::new();
    let [all, a, x] = [request(), in_a(), labelled()].map(|request| harness.hub.subscribe(request));
    harness.serve_websites().await;
    harness.request("/v1/websites?&limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "10"}, "items": [object("a/1", 1), with_app("b/2", 2, "x"), with_app("b/3", 3, "y")]}),
    );
    let stream = harness.request("resourceVersion=10").await.stream();
    harness
        .expect(["0: +a/1", "0: +b/2", "0: +b/3", "0: synced", "1: +a/1", "1: synced", "2: +b/2", "2: synced"])
        .await;
    // A label child has an object while it matches.
    stream.event("MODIFIED", &with_app("b/3", 11, "x"));
    harness.expect(["0: ~b/3", "2: +b/3"]).await;
    stream.event("MODIFIED", &with_app("b/2", 12, "y"));
    harness.expect(["0: ~b/2", "2: -b/2"]).await;
    stream.event("MODIFIED", &with_app("a/1", 13, "x"));
    harness.expect(["0: ~a/1", "1: ~a/1", "2: +a/1"]).await;
    stream.event("DELETED", &with_app("a/1", 14, "x"));
    harness.expect(["0: -a/1", "1: -a/1", "2: -a/1"]).await;
    // Children advance with the parent even if none of their objects changed.
    stream.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "20"}}));
    while harness.hub.look(a, |known| known.position) != Some(20) {
        tokio::task::yield_now().await;
    }
    // One relist serves all.
    drop(stream);
    harness.request("resourceVersion=20").await.json(410, &expired());
    harness.request("limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "30"}, "items": [object("a/4", 21), with_app("b/3", 22, "x")]}),
    );
    let _open = harness.request("resourceVersion=30").await.stream();
    harness
        .expect(["0: +a/4", "0: ~b/3", "0: -b/2", "0: synced", "1: +a/4", "1: synced", "2: ~b/3", "2: synced"])
        .await;
    assert_eq!(
        harness.hub.status().iter().map(|watch| (watch.follows, watch.lists)).collect::<BTreeSet<_>>(),
        [(false, 2), (true, 0)].into()
    );
    assert!([all, a, x].iter().all(|id| harness.hub.namespaced(*id) == Some(true)));
    assert!(harness.is_quiet());
}

#[tokio::test]
async fn late_child_takes_over_the_cache_and_continues_when_the_parent_ends() {
    let (mut harness, all, stream) = Harness::watching(&[("a/1", 1), ("ab/2", 2), ("b/3", 3)]).await;
    let a = harness.hub.subscribe(in_a());
    harness.expect(["1: +a/1", "1: synced"]).await;
    stream.event("ADDED", &object("a/4", 11));
    harness.expect(["0: +a/4", "1: +a/4"]).await;
    // A late subscriber gets a replay.
    harness.hub.replay(a, 7);
    harness.expect(["1: synced", "1: +a/1", "1: +a/4", "1: replayed"]).await;
    // The parent does not keep labels, so a label child lists itself.
    harness.hub.subscribe(labelled());
    let list = harness.request("labelSelector=app%3Dx").await;
    list.list("11", &[("b/3", 3)]);
    let _labelled = harness.request("watch=true").await;
    harness.expect(["2: +b/3", "2: synced"]).await;

    stream.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "15"}}));
    while harness.hub.look(a, |known| known.position) != Some(15) {
        tokio::task::yield_now().await;
    }
    harness.hub.release(all);
    closed(&stream).await;
    // The child continues from its position without a list.
    let watch = harness.request("namespaces/a/websites?").await;
    assert!(watch.path.contains("watch=true") && watch.path.contains("resourceVersion=15"), "{}", watch.path);
    watch.stream().event("DELETED", &object("a/1", 16));
    harness.expect(["1: -a/1"]).await;
    assert_eq!(harness.held(a), ["a/4".into()] as [Key; 1]);
}

#[tokio::test]
async fn child_attaches_once_the_parent_has_caught_up() {
    let mut harness = Harness::new();
    let a = harness.hub.subscribe(in_a());
    harness.serve_websites().await;
    harness.request("namespaces/a").await.list("20", &[("a/1", 1), ("a/2", 15)]);
    let own = harness.request("resourceVersion=20").await.stream();
    harness.expect(["0: +a/1", "0: +a/2", "0: synced"]).await;
    harness.hub.subscribe(request());
    // A stale list, from a cache that lags.
    harness.request("/v1/websites?&limit=500").await.list("10", &[("a/1", 1), ("b/1", 3)]);
    let parent = harness.request("resourceVersion=10").await.stream();
    harness.expect(["1: +a/1", "1: +b/1", "1: synced"]).await;
    own.event("MODIFIED", &object("a/1", 21));
    harness.expect(["0: ~a/1"]).await;
    assert!(!own.0.is_closed() && !harness.is_derived(a));
    for event in [object("a/2", 15), object("a/1", 21)] {
        parent.event("MODIFIED", &event);
    }
    harness.expect(["1: +a/2", "1: ~a/1"]).await;
    harness.until_derived(a, true).await;
    closed(&own).await;
    parent.event("DELETED", &object("a/2", 22));
    // No event comes twice.
    harness.expect(["0: synced", "0: -a/2", "1: -a/2"]).await;
    assert!(harness.is_quiet());
}

#[tokio::test]
async fn child_works_while_its_parent_is_forbidden() {
    let mut harness = Harness::new();
    let ids = [request(), in_a()].map(|request| harness.hub.subscribe(request));
    harness.serve_websites().await;
    harness.request("/v1/websites?").await.error(403);
    harness.request("namespaces/a/websites?").await.list("10", &[("a/1", 1)]);
    let own = harness.request("namespaces/a/websites?").await.stream();
    harness.expect(["0: Forbidden", "1: +a/1", "1: synced"]).await;
    // Until access is granted.
    loop {
        let list = harness.request("/v1/websites?").await;
        if harness.hub.status().len() == 2 {
            list.list("12", &[("a/1", 1), ("a/2", 11), ("b/1", 2)]);
            break;
        }
    }
    let parent = harness.request("/v1/websites?").await.stream();
    harness.until_derived(ids[1], true).await;
    closed(&own).await;
    harness.expect(["0: +a/1", "0: +a/2", "0: +b/1", "0: synced", "1: +a/2", "1: synced"]).await;
    // Access is revoked; the child continues on its own.
    drop(parent);
    harness.request("/v1/websites?&watch=true").await.error(403);
    while harness.requests.recv().await.unwrap().path.contains("/v1/websites?") {}
    assert!(!harness.is_derived(ids[1]));
}

#[tokio::test]
async fn child_waits_with_its_parent_while_the_api_server_is_unreachable() {
    let mut harness = Harness::new();
    let a = [request(), in_a()].map(|request| harness.hub.subscribe(request))[1];
    harness.serve_websites().await;
    harness.request("/v1/websites?").await.list("10", &[("a/1", 1)]);
    drop(harness.request("/v1/websites?").await.stream());
    harness.expect(["0: +a/1", "0: synced", "1: +a/1", "1: synced"]).await;
    for _ in 0..4 {
        // Only the parent asks.
        drop(harness.request("/v1/websites?&watch=true").await);
    }
    harness.expect(["0: Unreachable", "1: Unreachable"]).await;
    assert!(harness.is_derived(a) && harness.hub.look(a, |_| ()).is_none());
    let stream = harness.request("/v1/websites?&watch=true").await.stream();
    harness.expect(["0: synced", "1: synced"]).await;
    stream.event("MODIFIED", &object("a/1", 11));
    harness.expect(["0: ~a/1", "1: ~a/1"]).await;
    assert!(harness.is_derived(a) && harness.is_quiet());
}

#[tokio::test]
async fn child_shares_whole_objects_which_count_once() {
    let (mut harness, all, stream) = Harness::watching(&[("a/1", 1)]).await;
    let a = harness.hub.subscribe(whole(in_a()));
    let list = harness.request("namespaces/a/websites?").await;
    assert_eq!(list.accept, "");
    list.list("10", &[("a/1", 1)]);
    let own = harness.request("namespaces/a/websites?").await.stream();
    harness.expect(["1: +a/1", "1: synced"]).await;
    let one = harness.hub.objects_usage().bytes;
    assert_ne!(one, 0);
    // The parent starts to keep whole objects.
    harness.hub.subscribe(whole(request()));
    closed(&stream).await;
    harness.request("/v1/websites?&limit=50").await.list("11", &[("a/1", 1), ("b/2", 2)]);
    let parent = harness.request("/v1/websites?").await.stream();
    harness.until_derived(a, true).await;
    closed(&own).await;
    harness.expect(["0: +b/2", "0: synced", "1: synced"]).await;
    assert_eq!(harness.hub.objects_usage().bytes, 2 * one);
    let object_of =
        |harness: &Harness, id| harness.hub.look(id, |known| known.index.object("a/1").cloned()).flatten().unwrap();
    assert!(Arc::ptr_eq(&object_of(&harness, all), &object_of(&harness, a)));
    // Whole objects carry the labels that a selector needs.
    let x = harness.hub.subscribe(labelled());
    harness.expect(["2: synced"]).await;
    parent.event("MODIFIED", &with_app("b/2", 12, "x"));
    harness.expect(["0: ~b/2", "2: +b/2"]).await;
    assert!(
        harness.hub.look(x, |known| known.index.object("b/2").is_none()).unwrap(),
        "a metadata watch keeps no whole objects"
    );
    // Once detached, the child pays for the objects that it keeps.
    harness.hub.release(all);
    harness.hub.release(all);
    while [a, x].iter().any(|id| harness.is_derived(*id)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while harness.hub.objects_usage().bytes != one {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn attached_child_can_switch_to_whole_objects() {
    for parent_is_whole in [false, true] {
        let mut harness = Harness::new();
        let mut ids =
            [if parent_is_whole { whole(request()) } else { request() }, in_a()].map(|r| harness.hub.subscribe(r));
        harness.serve_websites().await;
        harness.request("/v1/websites?").await.list("10", &[("a/1", 1), ("b/1", 2)]);
        let _wider = harness.request("/v1/websites?").await.stream();
        harness.expect(["0: +a/1", "0: +b/1", "0: synced", "1: +a/1", "1: synced"]).await;
        ids[1] = harness.hub.subscribe(whole(in_a()));
        harness.hub.replay(ids[1], 7);
        if !parent_is_whole {
            harness.request("namespaces/a/websites?").await.list("11", &[("a/1", 1)]);
            let _own = harness.request("namespaces/a/websites?").await.stream();
        }
        for expected in ["synced", "+a/1", "replayed"] {
            let event = harness.events.recv().await.unwrap().event;
            assert_eq!((event.watch, say(&event.change).0.as_str()), (ids[1], expected));
            assert!(!matches!(event.change, Change::Applied { object: None, .. }));
        }
        assert_eq!(harness.is_derived(ids[1]), parent_is_whole);
        assert_eq!(harness.hub.look(ids[1], |known| known.index.object("a/1").is_some()), Some(true));
    }
}

#[tokio::test]
async fn child_with_children_keeps_them_when_it_detaches() {
    let mut harness = Harness::new();
    let requests = [WatchRequest { namespace: Some("a".into()), ..labelled() }, in_a(), request()];
    let [x_in_a, a, all] = requests.map(|request| harness.hub.subscribe(request));
    harness.serve_websites().await;
    // Children attach before they ask if the parent has not listed yet.
    harness.request("/v1/websites?&limit=500").await.json(
        200,
        &json!({"metadata": {"resourceVersion": "10"}, "items": [with_app("a/1", 1, "x"), object("a/2", 2), object("b/1", 3)]}),
    );
    let stream = harness.request("resourceVersion=10").await.stream();
    harness
        .expect([
            "0: +a/1",
            "0: synced",
            "1: +a/1",
            "1: +a/2",
            "1: synced",
            "2: +a/1",
            "2: +a/2",
            "2: +b/1",
            "2: synced",
        ])
        .await;
    stream.event("MODIFIED", &with_app("a/2", 11, "x"));
    harness.expect(["0: +a/2", "1: ~a/2", "2: ~a/2"]).await;
    harness.hub.release(all);
    // The deletion comes by the namespace watch or the child.s own; either way once.
    let own = harness.request("/namespaces/a/websites?").await;
    assert!(own.path.contains("resourceVersion=11"), "{}", own.path);
    let other = tokio::time::timeout(Duration::from_millis(200), harness.requests.recv()).await.ok().flatten();
    let streams: Vec<_> = std::iter::once(own).chain(other).map(Exchange::stream).collect();
    harness.until_derived(x_in_a, true).await;
    for stream in streams.iter().filter(|stream| !stream.0.is_closed()) {
        stream.event("DELETED", &with_app("a/1", 12, "x"));
    }
    let mut sent = [harness.events.recv().await.unwrap().event, harness.events.recv().await.unwrap().event];
    sent.sort_by_key(|event| event.watch);
    assert_eq!(sent.map(|event| (event.watch, say(&event.change).0)), [(x_in_a, "-a/1".into()), (a, "-a/1".into())]);
    assert_eq!([x_in_a, a].map(|id| harness.held(id).len()), [1, 1]);
}

#[tokio::test]
async fn label_child_detaches_when_its_parent_becomes_metadata_only() {
    let mut harness = Harness::new();
    let requests = [in_a(), WatchRequest { namespace: Some("a".into()), ..labelled() }];
    let [a, x_in_a] = requests.map(|request| harness.hub.subscribe(request));
    harness.serve_websites().await;
    let items = json!([with_app("a/1", 1, "x"), object("a/2", 2)]);
    let list = || json!({"metadata": {"resourceVersion": "10"}, "items": items});
    harness.request("namespaces/a").await.json(200, &list());
    let own = harness.request("resourceVersion=10").await.stream();
    harness.expect(["0: +a/1", "0: +a/2", "0: synced", "1: +a/1", "1: synced"]).await;
    assert!(harness.is_derived(x_in_a));
    harness.hub.subscribe(request());
    harness.request("/v1/websites?").await.json(200, &list());
    let parent = harness.request("/v1/websites?").await.stream();
    // The child continues on its own, and loses no objects although their labels are unknown.
    let labelled = harness.request("labelSelector=app%3Dx").await;
    assert!(labelled.path.contains("watch=true&") && labelled.path.contains("resourceVersion=10"), "{}", labelled.path);
    let labelled = labelled.stream();
    closed(&own).await;
    harness.expect(["0: synced", "2: +a/1", "2: +a/2", "2: synced"]).await;
    assert_eq!([a, x_in_a].map(|id| (harness.is_derived(id), harness.held(id).len())), [(true, 2), (false, 1)]);
    for stream in [&parent, &labelled] {
        stream.event("MODIFIED", &with_app("a/1", 11, "x"));
    }
    harness.expect(["0: ~a/1", "1: ~a/1", "2: ~a/1"]).await;
}
