//! Failures of lists, watches and discovery, and how they are reported.

use super::*;

#[tokio::test]
async fn relist_after_410_sends_differences() {
    for in_stream in [true, false] {
        let (mut harness, _, stream) = Harness::watching(&[("a/a", 1), ("a/b", 2), ("a/c", 3)]).await;
        if in_stream {
            stream.event("ERROR", &expired());
        } else {
            drop(stream);
            harness.request("watch=true").await.json(410, &expired());
        }
        harness.request("limit=500").await.list("50", &[("a/a", 1), ("a/c", 40), ("a/d", 41)]);
        assert_eq!(harness.changes().await, ["~a/c", "+a/d", "-a/b", "synced"]);
        harness.request("resourceVersion=50").await;
    }
}

#[tokio::test]
async fn missing_crd_is_reported_once() {
    let mut harness = Harness::new();
    let id = harness.hub.subscribe(request());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    let Change::Waiting(waiting) = harness.change().await else { panic!() };
    assert_eq!(
        waiting.to_string(),
        "cannot watch websites.demo.wasmop.dev/v1: the API server does not serve websites in demo.wasmop.dev/v1"
    );
    assert!(waiting.help().contains("install the CustomResourceDefinition"), "{}", waiting.help());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    harness.request("/apis/demo.wasmop.dev/v1").await.json(200, &json!({"resources": []}));
    harness.request("/apis/demo.wasmop.dev/v1").await.json(200, &json!({"resources": null}));
    assert_eq!(harness.hub.resolved(id), None);
    harness.serve_websites().await;
    // Discovery announces it, but the API server does not serve it yet.
    harness.request("/websites?").await.error(404);
    harness.serve_websites().await;
    harness.request("/websites?").await.list("10", &[("a/a", 1)]);
    assert_eq!(harness.changes().await, ["+a/a", "synced"]);
}

#[tokio::test]
async fn unserved_version_and_missing_crd_are_different_reasons() {
    let mut harness = Harness::new();
    harness.hub.subscribe(request());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    assert_eq!(harness.next().await, "Missing");
    let definition = |served: bool, established: &str| {
        json!({
            "metadata": {"name": "websites.demo.wasmop.dev"},
            "spec": {"versions": [{"name": "v1", "served": served}, {"name": "v1beta1", "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": established, "message": "names"}]},
        })
    };
    for (served, established, cause, message, help) in [
        (false, "True", WaitReason::VersionNotServed, "`served: false` for v1; it serves v1beta1", "served: true"),
        (true, "False", WaitReason::NotEstablished, "is not established: names", "kubectl describe crd"),
    ] {
        *harness.definition.lock().unwrap() = Some(definition(served, established));
        let waiting = loop {
            let exchange = harness.requests.recv().await.unwrap();
            exchange.json(200, &json!({"resources": []}));
            if let Ok(event) = harness.events.try_recv() {
                let Change::Waiting(waiting) = event.event.change else { panic!() };
                break waiting;
            }
        };
        assert_eq!(waiting.cause, cause);
        assert!(waiting.message.contains(message), "{}", waiting.message);
        assert!(waiting.help().contains(help), "{}", waiting.help());
    }
    // A definition that is about to be served is not reported as missing.
    *harness.definition.lock().unwrap() = Some(definition(true, "True"));
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    harness.serve_websites().await;
    harness.request("/websites?").await.list("10", &[]);
    assert_eq!(harness.next().await, "synced");
}

#[tokio::test]
async fn missing_resource_is_unexplained_if_definitions_are_forbidden() {
    let mut harness = Harness::new();
    *harness.definition.lock().unwrap() = Some(json!({"kind": "Status", "status": "Failure", "code": 403}));
    harness.hub.subscribe(request());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    let Change::Waiting(waiting) = harness.change().await else { panic!() };
    assert_eq!((waiting.cause, waiting.cause.reason()), (WaitReason::Unexplained, "ResourceNotServed"));
    assert!(waiting.message.contains("is missing, or does not serve the version"), "{}", waiting.message);
    assert!(waiting.help().contains("get on customresourcedefinitions"), "{}", waiting.help());
}

#[tokio::test]
async fn objects_of_a_removed_crd_are_deleted_when_it_returns() {
    let (mut harness, _, stream) = Harness::watching(&[("a/a", 1)]).await;
    drop(stream);
    harness.request("watch=true").await.error(404);
    assert_eq!(harness.changes().await, ["Missing"]);
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    harness.serve_websites().await;
    harness.request("limit=500").await.list("90", &[]);
    assert_eq!(harness.changes().await, ["-a/a", "synced"]);
}

#[tokio::test]
async fn watches_that_wait_for_a_crd_share_discovery() {
    let mut harness = Harness::with_timings(UpstreamTimings { missing_delay: Duration::from_secs(600), ..TIMINGS });
    for n in 0..1000 {
        harness.hub.subscribe(WatchRequest { namespace: Some(format!("ns-{n}")), ..request() });
    }
    harness.request("/apis/demo.wasmop.dev/v1").await.error(404);
    for _ in 0..1000 {
        assert_eq!(harness.next().await, "Missing");
    }
    assert!(harness.requests.try_recv().is_err());
}

#[tokio::test]
async fn missing_permissions_are_reported_once_a_cause_and_retried() {
    let mut harness = Harness::new();
    harness.hub.subscribe(request());
    harness.serve_websites().await;
    harness.request("/websites?").await.error(403);
    let Change::Waiting(waiting) = harness.change().await else { panic!() };
    assert_eq!(waiting.to_string(), "cannot watch websites.demo.wasmop.dev/v1: because of 403 (status 403)");
    assert!(waiting.help().contains("list and watch on websites.demo.wasmop.dev/v1"));
    harness.request("/websites?").await.error(403);
    harness.request("/websites?").await.error(401);
    assert_eq!(harness.next().await, "Unauthorized");
    harness.request("/websites?").await.list("10", &[]);
    assert_eq!(harness.next().await, "synced");
    let stream = harness.request("watch=true").await;
    stream.error(403);
    assert_eq!(harness.next().await, "Forbidden");
    // The watch does not list again, and recovers as soon as access is granted.
    let _stream = harness.request("watch=true").await.stream();
    assert_eq!(harness.next().await, "synced");
}

#[tokio::test]
async fn identity_without_discovery_watches_granted_resources() {
    let mut harness = Harness::new();
    let id = harness.hub.subscribe(request());
    harness.request("/apis/demo.wasmop.dev/v1").await.error(403);
    harness.request("/apis/demo.wasmop.dev/v1/websites?").await.list("10", &[]);
    assert_eq!(harness.next().await, "synced");
    assert_eq!(harness.hub.resolved(id), None);
}

#[tokio::test]
async fn short_outage_is_not_reported() {
    let (mut harness, _, stream) = Harness::watching(&[("a/a", 1)]).await;
    stream.cut();
    drop(harness.request("resourceVersion=10").await);
    let stream = harness.request("resourceVersion=10").await.stream();
    stream.event("ADDED", &object("a/b", 11));
    assert_eq!(harness.next().await, "+a/b");
}

#[tokio::test]
async fn long_outage_is_reported_once_and_ends_with_a_relist() {
    let (mut harness, _, stream) = Harness::watching(&[("a/a", 1), ("a/b", 2)]).await;
    stream.cut();
    for _ in 0..4 {
        drop(harness.request("resourceVersion=10").await);
    }
    let Change::Waiting(waiting) = harness.change().await else { panic!() };
    assert_eq!(waiting.cause, WaitReason::Unreachable);
    assert!(waiting.message.contains("connection refused"), "{}", waiting.message);
    // The API server may have returned with another state.
    for _ in 0..3 {
        drop(harness.request("limit=500").await);
    }
    harness.request("limit=500").await.list("5", &[("a/a", 1)]);
    assert_eq!(harness.changes().await, ["-a/b", "synced"]);
    harness.request("resourceVersion=5").await;
}

#[tokio::test]
async fn invalid_watch_event_loses_no_change() {
    let lines = ["not json\n", "{\"type\":\"ADDED\"}\n", "{\"type\":\"NEW\",\"object\":{}}\n"];
    let (mut harness, _, mut stream) = Harness::watching(&[]).await;
    for (n, line) in lines.iter().enumerate() {
        let version = 11 + n as u64;
        stream.event("ADDED", &object(&format!("a/{n}"), version));
        stream.raw(*line);
        assert_eq!(harness.next().await, format!("+a/{n}"));
        stream = harness.request(&format!("resourceVersion={version}")).await.stream();
    }
}

#[tokio::test]
async fn invalid_list_is_retried() {
    let mut harness = Harness::new();
    harness.hub.subscribe(request());
    harness.serve_websites().await;
    harness.request("limit=500").await.json(200, &json!("hello"));
    harness.request("limit=500").await.json(200, &json!({"metadata": {}, "items": []}));
    harness.request("limit=500").await.json(200, &json!({"metadata": {"resourceVersion": "1"}, "items": "x"}));
    assert_eq!(harness.next().await, "Server");
    harness.request("limit=500").await.list("10", &[]);
    assert_eq!(harness.next().await, "synced");
}

#[tokio::test]
async fn objects_without_a_name_or_version_are_skipped() {
    let nameless = json!({"metadata": {"resourceVersion": "5"}});
    let unversioned = json!({"metadata": {"name": "x", "namespace": "a"}});
    let mut harness = Harness::new();
    harness.hub.subscribe(request());
    harness.serve_websites().await;
    let items = [object("a/a", 1), nameless.clone(), unversioned.clone(), json!({}), json!(1), object("a/b", 2)];
    harness.request("limit=500").await.json(200, &json!({"metadata": {"resourceVersion": "10"}, "items": items}));
    assert_eq!(harness.changes().await, ["+a/a", "+a/b", "synced"]);
    let stream = harness.request("resourceVersion=10").await.stream();
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        stream.event(kind, &nameless);
        stream.event(kind, &unversioned);
    }
    stream.event("ADDED", &object("a/c", 11));
    assert_eq!(harness.next().await, "+a/c");
    assert!(!stream.0.is_closed());
    drop(stream);
    harness.request("resourceVersion=11").await;
}

/// Fails if the watch waits for something else.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

#[tokio::test]
async fn silent_watch_restarts_after_a_bookmark() {
    let mut harness =
        Harness::streaming(UpstreamTimings { bookmark_silence: Duration::from_millis(20), ..TIMINGS }, None);
    harness.hub.subscribe(request());
    harness.serve_websites().await;
    // PINGs would be answered.
    let list = harness.request("sendInitialEvents=true").await.stream_over(http::Version::HTTP_2);
    list.event("BOOKMARK", &end_of_list("10"));
    assert_eq!(harness.changes().await, ["synced"]);
    list.event("BOOKMARK", &json!({"metadata": {"resourceVersion": "11"}}));
    let _second = soon(harness.request("resourceVersion=11")).await.stream_over(http::Version::HTTP_2);
    assert!(harness.events.try_recv().is_err(), "it is worth no word");
}

#[tokio::test]
async fn list_that_freezes_once_is_streamed_again() {
    let frozen = UpstreamTimings { list_silence: Duration::from_millis(20), ..TIMINGS };
    // Objects before each silence; whether the next list is streamed.
    for (objects, is_streamed) in [(&[1][..], true), (&[0], false), (&[1, 1], false)] {
        let mut harness = Harness::streaming(frozen, None);
        harness.hub.subscribe(request());
        harness.serve_websites().await;
        let mut open = Vec::new();
        for count in objects {
            let stream = soon(harness.request("sendInitialEvents=true")).await.stream_over(http::Version::HTTP_2);
            (0..*count).for_each(|_| stream.event("ADDED", &object("a/a", 1)));
            open.push(stream);
        }
        let next = soon(harness.request("/websites?")).await;
        assert_eq!(next.path.contains("sendInitialEvents=true"), is_streamed, "{objects:?}: {}", next.path);
    }
}
