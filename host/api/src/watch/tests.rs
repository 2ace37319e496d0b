//! Tests of a hub against an API server that the test plays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use wasmop_core::service_account::ServiceAccount;
use wasmop_core::watch::{Change, Replay, Resolved, WaitReason, WatchEvent, WatchId, WatchPosition, WatchRequest};
use wasmop_core::work_queue::Key;

use super::upstream::UpstreamTimings;
use super::*;

mod derived;
mod failures;
mod flow_control;
mod harness;
mod namespaces;
mod restarts;

use harness::*;

#[tokio::test]
async fn pages_are_listed_and_watched_from_the_version_of_the_list() {
    let mut harness = Harness::new();
    let id = harness.hub.subscribe(WatchRequest {
        namespace: Some("team".into()),
        label_selector: "app=a b".into(),
        field_selector: "metadata.name=x".into(),
        ..request()
    });
    harness.serve_websites().await;
    let list = harness.request("/apis/demo.wasmop.dev/v1/namespaces/team/websites?").await;
    assert!(list.accept.contains("as=PartialObjectMetadataList"), "{}", list.accept);
    for part in ["limit=500", "labelSelector=app%3Da+b", "fieldSelector=metadata.name%3Dx"] {
        assert!(list.path.contains(part), "{}", list.path);
    }
    list.json(200, &json!({"metadata": {"resourceVersion": "7", "continue": "token"}, "items": [object("team/a", 1)]}));
    harness.request("continue=token").await.list("7", &[("team/b", 2)]);
    let watch = harness.request("watch=true").await;
    for part in ["resourceVersion=7", "allowWatchBookmarks=true", "labelSelector=app%3Da+b", "timeoutSeconds="] {
        assert!(watch.path.contains(part), "{}", watch.path);
    }
    assert!(watch.accept.contains("as=PartialObjectMetadata;"), "{}", watch.accept);
    let stream = watch.stream();
    assert_eq!(harness.changes().await, ["+team/a", "+team/b", "synced"]);
    assert_eq!(harness.hub.resolved(id), Some(Resolved { plural: "websites".into(), namespaced: true }));
    stream.event("MODIFIED", &object("team/a", 8));
    stream.event("ADDED", &object("team/c", 9));
    stream.event("DELETED", &object("team/b", 10));
    // A repeated version is no change.
    stream.event("MODIFIED", &object("team/a", 8));
    stream.event("DELETED", &object("team/c", 11));
    for expected in ["~team/a", "+team/c", "-team/b", "-team/c"] {
        assert_eq!(harness.next().await, expected);
    }
    assert_eq!(harness.hub.objects(id), 1);
}

#[tokio::test]
async fn ended_watch_continues_silently_from_its_position() {
    let (mut harness, _, stream) = Harness::watching(&[("a/a", 1)]).await;
    stream.event("MODIFIED", &object("a/a", 12));
    assert_eq!(harness.next().await, "~a/a");
    drop(stream);
    let stream = harness.request("resourceVersion=12").await.stream();
    stream.event("BOOKMARK", &json!({"kind": "Website", "metadata": {"resourceVersion": "99"}}));
    // An incomplete event is ignored.
    stream.raw("{\"type\":\"MODIFIED\",\"object\":{\"meta");
    drop(stream);
    let stream = harness.request("resourceVersion=99").await.stream();
    stream.event("MODIFIED", &object("a/a", 100));
    assert_eq!(harness.next().await, "~a/a");
}

#[tokio::test]
async fn discovery_finds_the_plural_of_a_kind_in_any_group() {
    let mut harness = Harness::new();
    let id =
        harness.hub.subscribe(WatchRequest { version: "v1".into(), kind: "Node".into(), ..WatchRequest::default() });
    let resources = json!({"resources": [
        {"name": "nodes/status", "kind": "Node", "namespaced": false},
        {"name": "nodes", "kind": "Node", "namespaced": false},
    ]});
    harness.request("/api/v1").await.json(200, &resources);
    // The API server writes an empty list as `null`.
    harness.request("/api/v1/nodes?").await.json(200, &json!({"metadata": {"resourceVersion": "10"}, "items": null}));
    assert_eq!(harness.next().await, "synced");
    assert_eq!(harness.hub.resolved(id), Some(Resolved { plural: "nodes".into(), namespaced: false }));
}

#[tokio::test]
async fn full_objects_are_kept_without_managed_fields() {
    let mut harness = Harness::new();
    let id = harness.hub.subscribe(WatchRequest { full_objects: true, ..request() });
    harness.serve_websites().await;
    let mut item = object("a/a", 1);
    item["spec"] = json!({"x": 1});
    item["metadata"]["managedFields"] = json!([{"manager": "m"}]);
    let list = harness.request("limit=50").await;
    assert!(!list.path.contains("limit=500"), "a page is held as a whole: {}", list.path);
    assert_eq!(list.accept, "");
    list.json(200, &json!({"metadata": {"resourceVersion": "10"}, "items": [item]}));
    let check = |change: &Change| {
        let Change::Applied { object: Some(object), .. } = change else { panic!("{change:?}") };
        let object: Value = serde_json::from_str(object).unwrap();
        assert_eq!((&object["spec"]["x"], &object["kind"]), (&json!(1), &json!("Website")));
        assert_eq!(object["apiVersion"], "demo.wasmop.dev/v1");
        assert!(object["metadata"].get("managedFields").is_none());
    };
    check(&harness.change().await);
    assert_eq!(harness.next().await, "synced");
    harness.hub.replay(id, 7);
    assert_eq!(harness.next().await, "synced");
    check(&harness.change().await);
    assert_eq!(harness.next().await, "replayed");
    let stream = harness.request("watch=true").await.stream();
    stream.event("DELETED", &item);
    let Change::Deleted { object: Some(_), .. } = harness.change().await else { panic!() };
}

#[tokio::test]
async fn deeply_nested_object_or_invalid_metadata_stops_no_watch() {
    let deep = |name: &str| {
        let spec = format!("{}1{}", r#"{"n":"#.repeat(200), "}".repeat(200));
        format!(r#"{{"metadata":{{"namespace":"a","name":"{name}","resourceVersion":"11"}},"spec":{spec}}}"#)
    };
    let strange = r#"{"metadata":{"namespace":"a","name":"s","resourceVersion":"12","generation":"x"}}"#;
    let mut harness = Harness::new();
    harness.hub.subscribe(WatchRequest { full_objects: true, ..request() });
    harness.serve_websites().await;
    let page = format!(r#"{{"metadata":{{"resourceVersion":"10"}},"items":[{},{strange}]}}"#, deep("d"));
    let body = Full::new(Bytes::from(page)).map_err(Into::into).boxed_unsync();
    let _ = harness.request("limit=50").await.answer.send(http::Response::new(body));
    assert_eq!(harness.changes().await, ["+a/d", "+a/s", "synced"]);
    let stream = harness.request("watch=true").await.stream();
    for (kind, object) in [("ADDED", deep("e")), ("ADDED", strange.replace(r#""s""#, r#""t""#)), ("DELETED", deep("d"))]
    {
        stream.raw(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"));
    }
    stream.event("ADDED", &object("a/z", 13));
    for expected in ["+a/e", "+a/t", "-a/d", "+a/z"] {
        assert_eq!(harness.next().await, expected);
    }
}

#[tokio::test]
async fn watch_of_whole_objects_serves_metadata_subscribers() {
    let mut harness = Harness::new();
    let whole = || WatchRequest { full_objects: true, ..request() };
    let first = harness.hub.subscribe(whole());
    harness.serve_websites().await;
    harness.request("limit=50").await.list("10", &[("a/a", 1)]);
    let stream = harness.request("watch=true").await.stream();
    assert_eq!(harness.changes().await, ["+a/a", "synced"]);
    assert_eq!((harness.hub.subscribe(request()), harness.hub.len()), (first, 1));
    // The watch keeps whole objects for later subscribers.
    harness.hub.release(first);
    assert_eq!(harness.hub.subscribe(whole()), first);
    stream.event("MODIFIED", &object("a/a", 11));
    assert_eq!(harness.next().await, "~a/a");
    harness.hub.release(first);
    harness.hub.release(first);
    assert!(harness.hub.is_empty());
    assert_ne!(harness.hub.subscribe(request()), first);
}

#[tokio::test]
async fn metadata_watch_switches_to_whole_objects_for_a_new_subscriber() {
    let (mut harness, id, stream) = Harness::watching(&[("a/a", 1), ("a/b", 2)]).await;
    assert_eq!(harness.hub.subscribe(WatchRequest { full_objects: true, ..request() }), id);
    harness.hub.replay(id, 7);
    assert!(harness.hub.look(id, |_| ()).is_none(), "it has none to show yet");
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
    let list = harness.request("limit=50").await;
    assert_eq!(list.accept, "");
    list.list("12", &[("a/a", 1), ("a/b", 11)]);
    // All subscribers get the changes, and the new one gets all objects.
    let mut said = Vec::new();
    while said.last().is_none_or(|(_, text)| text != "replayed") {
        let WatchEvent { replay, change, .. } = harness.events.recv().await.unwrap().event;
        if let Change::Applied { object, .. } = &change {
            assert!(object.is_some(), "{change:?}");
        }
        said.push((replay.map(|replay| replay.subscriber), say(&change).0));
    }
    let expected = [(None, "~a/b"), (None, "synced"), (Some(7), "+a/a"), (Some(7), "replayed")];
    assert_eq!(said, expected.map(|(subscriber, text)| (subscriber, text.to_owned())));
    assert_eq!(harness.hub.look(id, |known| known.index.object("a/a").is_some()), Some(true));
    assert_eq!(harness.hub.len(), 1);
}

#[tokio::test]
async fn changes_before_the_list_of_whole_objects_are_sent_whole() {
    let (mut harness, id, stream) = Harness::watching(&[("a/a", 1), ("a/b", 2)]).await;
    harness.hub.subscribe(WatchRequest { full_objects: true, ..request() });
    harness.hub.replay(id, 7);
    // The metadata watch may deliver it before it ends; otherwise the list does.
    stream.event("MODIFIED", &object("a/b", 11));
    harness.request("limit=50").await.list("12", &[("a/a", 1), ("a/b", 11)]);
    let mut whole = std::collections::BTreeSet::new();
    loop {
        match harness.events.recv().await.unwrap().event {
            WatchEvent { replay: Some(Replay { subscriber: 7, .. }), change: Change::Replayed, .. } => break,
            WatchEvent { replay, change: Change::Applied { key, object: Some(_), .. }, .. } => {
                // For all subscribers, or for the new one.
                assert!(replay.is_none_or(|replay| replay.subscriber == 7));
                whole.insert(key);
            }
            _ => {}
        }
    }
    assert_eq!(whole.into_iter().collect::<Vec<_>>(), ["a/a".into(), "a/b".into()] as [Key; 2]);
}

#[tokio::test]
async fn each_identity_has_its_own_watch() {
    let (mut harness, first, _stream) = Harness::watching(&[("a/a", 1), ("b/b", 2)]).await;
    let account: Arc<ServiceAccount> = Arc::new("a/website".parse().unwrap());
    let second = harness.hub.subscribe(WatchRequest { service_account: Some(account.clone()), ..request() });
    assert_ne!(first, second);
    // It has no object that only the host may see.
    assert_eq!(harness.hub.objects(second), 0);
    let list = harness.request("limit=500").await;
    assert_eq!(list.user, Some(account.user()));
    list.list("10", &[("a/a", 1)]);
    let watch = harness.request("watch=true").await;
    assert_eq!(watch.user, Some(account.user()));
    assert_eq!(harness.changes().await, ["+a/a", "synced"]);
    watch.error(403);
    while harness.next().await != "Forbidden" {}
    let third = harness.hub.subscribe(WatchRequest { service_account: Some(account), ..request() });
    assert_eq!((second, harness.hub.len()), (third, 2));
}

#[tokio::test]
async fn equal_requests_share_a_watch_and_late_subscribers_get_a_replay() {
    let (mut harness, first, stream) = Harness::watching(&[("a/a", 1), ("a/b", 2)]).await;
    let second = harness.hub.subscribe(request());
    assert_eq!(first, second);
    assert_eq!(harness.hub.len(), 1);
    harness.hub.replay(second, 42);
    let replay = Some(Replay { subscriber: 42, missed: false });
    for expected in ["synced", "+a/a", "+a/b", "replayed"] {
        let event = harness.events.recv().await.unwrap().event;
        assert_eq!((event.replay, event.number, say(&event.change).0.as_str()), (replay, 2, expected));
    }
    stream.event("ADDED", &object("a/c", 11));
    let event = harness.events.recv().await.unwrap().event;
    assert_eq!((event.watch, event.number, event.replay), (first, 3, None));
    let other = harness.hub.subscribe(WatchRequest { namespace: Some("a".into()), ..request() });
    assert_ne!(first, other);

    // The watch ends with its last subscriber.
    harness.hub.release(first);
    assert!(!stream.0.is_closed());
    harness.hub.release(first);
    assert_eq!(harness.hub.len(), 1);
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn replay_before_the_first_list_ends_without_synced() {
    let mut harness = Harness::new();
    let id = harness.hub.subscribe(request());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    assert_eq!(harness.next().await, "Missing");
    harness.hub.replay(id, 1);
    for expected in ["Missing", "replayed"] {
        let event = harness.events.recv().await.unwrap().event;
        let subscriber = event.replay.map(|replay| replay.subscriber);
        assert_eq!((subscriber, say(&event.change).0.as_str()), (Some(1), expected));
    }
    harness.serve_websites().await;
    harness.request("limit=500").await.list("10", &[]);
    let event = harness.events.recv().await.unwrap().event;
    assert_eq!((event.replay, event.change), (None, Change::Synced));
}

fn end_of_list(version: &str) -> Value {
    json!({"metadata": {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}})
}

#[tokio::test]
async fn streamed_list_becomes_a_watch_and_a_relist_sends_differences() {
    let mut harness = Harness::streaming(TIMINGS, None);
    harness.hub.subscribe(request());
    harness.serve_websites().await;
    let begin = "watch=true&timeoutSeconds=";
    let list = harness.request(begin).await;
    for part in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "allowWatchBookmarks=true"] {
        assert!(list.path.contains(part), "{}", list.path);
    }
    assert!(list.accept.contains("as=PartialObjectMetadata;"), "{}", list.accept);
    let stream = list.stream();
    for (key, version) in [("a/a", 1), ("a/b", 2), ("a/c", 3)] {
        stream.event("ADDED", &object(key, version));
    }
    // A bookmark without the annotation does not end the list.
    stream.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "4"}}));
    stream.event("BOOKMARK", &end_of_list("10"));
    assert_eq!(harness.changes().await, ["+a/a", "+a/b", "+a/c", "synced"]);
    stream.event("MODIFIED", &object("a/a", 11));
    assert_eq!(harness.next().await, "~a/a");
    drop(stream);
    let again = harness.request("resourceVersion=11").await;
    assert!(!again.path.contains("sendInitialEvents"), "{}", again.path);
    again.json(410, &expired());
    // An incomplete list deletes no objects.
    let stream = harness.request("sendInitialEvents=true").await.stream();
    stream.event("ADDED", &object("a/b", 2));
    stream.cut();
    let stream = harness.request("sendInitialEvents=true").await.stream();
    for (key, version) in [("a/a", 11), ("a/c", 12)] {
        stream.event("ADDED", &object(key, version));
    }
    stream.event("BOOKMARK", &end_of_list("13"));
    assert_eq!(harness.changes().await, ["~a/c", "-a/b", "synced"]);
}

#[tokio::test]
async fn watches_share_that_lists_are_not_streamed() {
    for refusal in [400, 422] {
        let mut harness = Harness::streaming(TIMINGS, None);
        harness.hub.subscribe(request());
        harness.serve_websites().await;
        harness.request("sendInitialEvents=true").await.error(refusal);
        harness.request("limit=500").await.list("10", &[("a/a", 1)]);
        assert_eq!(harness.changes().await, ["+a/a", "synced"]);
        harness.request("resourceVersion=10").await.json(410, &expired());
        harness.request("limit=500").await.list("11", &[("a/a", 1)]);
        assert_eq!(harness.next().await, "synced");
        let _open = harness.request("resourceVersion=11").await;
        harness.hub.subscribe(WatchRequest { field_selector: "spec.x=1".into(), ..request() });
        harness.request("limit=500").await;
    }
}

#[tokio::test]
async fn request_that_would_change_the_path_is_never_sent() {
    let table = [
        WatchRequest { namespace: Some("../x".into()), ..request() },
        WatchRequest { namespace: Some(String::new()), ..request() },
        WatchRequest { namespace: Some("a/b".into()), ..request() },
        WatchRequest { group: "a/b".into(), ..request() },
        WatchRequest { group: "..".into(), ..request() },
        WatchRequest { version: String::new(), ..request() },
        WatchRequest { version: "v1?watch=true".into(), ..request() },
        WatchRequest { plural: "web sites".into(), ..request() },
        WatchRequest { plural: "a%2fb".into(), ..request() },
        WatchRequest { plural: String::new(), kind: String::new(), ..request() },
        // Such a name could only flood the log.
        WatchRequest { group: "g".repeat(64 << 10), ..request() },
        WatchRequest { version: "v".repeat(64 << 10), ..request() },
        WatchRequest { plural: "p".repeat(64 << 10), ..request() },
        WatchRequest { plural: String::new(), kind: "ä".repeat(32 << 10), ..request() },
        WatchRequest { namespace: Some("n".repeat(64 << 10)), ..request() },
    ];
    for request in table {
        let mut harness = Harness::new();
        harness.hub.subscribe(request);
        let Change::Waiting(waiting) = harness.change().await else { panic!() };
        assert_eq!(waiting.cause, WaitReason::Invalid, "{waiting}");
        assert!(waiting.to_string().len() < 2000, "{waiting}");
        assert!(harness.requests.try_recv().is_err());
    }
}

#[tokio::test]
async fn dropped_hub_ends_its_watches() {
    let (harness, _, stream) = Harness::watching(&[]).await;
    drop(harness.hub);
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
}
