//! A limit to namespaces, and kinds that have none.

use super::*;

fn node(namespace: &str, further: bool) -> WatchRequest {
    WatchRequest {
        version: "v1".into(),
        kind: "Node".into(),
        namespace: Some(namespace.into()),
        further,
        ..WatchRequest::default()
    }
}

#[tokio::test]
async fn cluster_scoped_kinds_are_watched_once() {
    let mut harness = Harness::new();
    let first = harness.hub.subscribe(node("a", false));
    let resources = json!({"resources": [{"name": "nodes", "kind": "Node", "namespaced": false}]});
    harness.request("/api/v1").await.json(200, &resources);
    let list = harness.request("/api/v1/nodes?").await;
    let items = [json!({"metadata": {"name": "n", "resourceVersion": "1", "uid": "n"}})];
    list.json(200, &json!({"metadata": {"resourceVersion": "7"}, "items": items}));
    let _stream = harness.request("watch=true").await.stream();
    assert_eq!(harness.changes().await, ["+n", "synced"]);
    assert_eq!(harness.hub.namespaced(first), Some(false));
    // The one of the second namespace has nothing, and asks for nothing.
    let second = harness.hub.subscribe(node("b", true));
    assert_eq!(harness.changes().await, ["synced"]);
    assert_eq!((harness.hub.objects(first), harness.hub.objects(second)), (1, 0));
}

#[tokio::test]
async fn kinds_with_namespaces_are_watched_in_each() {
    let mut harness = Harness::new();
    harness.hub.subscribe(WatchRequest { namespace: Some("a".into()), ..request() });
    harness.serve_websites().await;
    harness.request("/namespaces/a/websites?").await.list("7", &[("a/x", 1)]);
    let _first = harness.request("/namespaces/a/websites?&watch=true").await.stream();
    assert_eq!(harness.changes().await, ["+a/x", "synced"]);
    harness.hub.subscribe(WatchRequest { namespace: Some("b".into()), further: true, ..request() });
    harness.request("/namespaces/b/websites?").await.list("8", &[("b/y", 2)]);
    let _second = harness.request("/namespaces/b/websites?&watch=true").await.stream();
    assert_eq!(harness.changes().await, ["+b/y", "synced"]);
}
