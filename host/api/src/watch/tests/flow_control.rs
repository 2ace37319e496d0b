//! Upstreams that are faster than the host's loop.

use super::*;
use crate::watch::flow_control::MAX_IN_FLIGHT_BYTES;

/// A large object's size, without its metadata.
const LARGE: usize = 1 << 20;
/// Far more than may be in flight.
const OBJECTS: u64 = 30;
/// An object's metadata has fewer bytes.
const MOST: usize = MAX_IN_FLIGHT_BYTES + LARGE + 1024;

fn whole() -> WatchRequest {
    WatchRequest { full_objects: true, ..request() }
}

fn large(version: u64, bytes: usize) -> String {
    let content = "x".repeat(bytes);
    let metadata = format!(r#"{{"namespace":"a","name":"{version:03}","uid":"u","resourceVersion":"{version}"}}"#);
    format!(r#"{{"metadata":{metadata},"spec":"{content}"}}"#)
}

impl Stream {
    fn large(&self, version: u64, bytes: usize) {
        self.raw(format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", large(version, bytes)));
    }
}

impl Harness {
    /// Until an upstream has to wait; it would have gone on in the turns that follow.
    async fn until_full(&self) {
        while self.hub.in_flight_bytes() <= MAX_IN_FLIGHT_BYTES {
            tokio::task::yield_now().await;
        }
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }

    /// An open list of whole objects that have sent more than may be in flight.
    async fn full() -> (Harness, WatchId, Stream) {
        let mut harness = Harness::streaming(TIMINGS, None);
        let id = harness.hub.subscribe(whole());
        harness.serve_websites().await;
        let stream = harness.request("sendInitialEvents=true").await.stream();
        (1..=OBJECTS).for_each(|version| stream.large(version, LARGE));
        harness.until_full().await;
        (harness, id, stream)
    }

    /// Takes all large objects, while no more than may be are in flight.
    async fn take(&mut self) {
        for version in 1..=OBJECTS {
            let bytes = self.hub.in_flight_bytes();
            assert!(bytes <= MOST, "{bytes} bytes before object {version}");
            assert_eq!(self.next().await, format!("+a/{version:03}"));
        }
    }
}

#[tokio::test]
async fn objects_of_a_streamed_list_wait_for_the_loop() {
    let (mut harness, _, stream) = Harness::full().await;
    stream.event("BOOKMARK", &end_of_list("100"));
    harness.take().await;
    assert_eq!(harness.next().await, "synced");
    assert_eq!(harness.hub.in_flight_bytes(), 0);
}

#[tokio::test]
async fn objects_of_a_page_wait_for_the_loop() {
    let mut harness = Harness::new();
    harness.hub.subscribe(whole());
    harness.serve_websites().await;
    let items: Vec<_> = (1..=OBJECTS).map(|version| large(version, LARGE)).collect();
    let page = format!(r#"{{"metadata":{{"resourceVersion":"100"}},"items":[{}]}}"#, items.join(","));
    let body = Full::new(Bytes::from(page)).map_err(Into::into).boxed_unsync();
    let _ = harness.request("limit=50").await.answer.send(http::Response::new(body));
    harness.until_full().await;
    harness.take().await;
    assert_eq!(harness.next().await, "synced");
    assert_eq!(harness.hub.in_flight_bytes(), 0);
}

#[tokio::test]
async fn objects_of_a_watch_wait_for_the_loop() {
    let mut harness = Harness::new();
    harness.hub.subscribe(whole());
    harness.serve_websites().await;
    harness.request("limit=50").await.list("0", &[]);
    assert_eq!(harness.next().await, "synced");
    let stream = harness.request("watch=true").await.stream();
    (1..=OBJECTS).for_each(|version| stream.large(version, LARGE));
    harness.until_full().await;
    harness.take().await;
    assert_eq!(harness.hub.in_flight_bytes(), 0);
}

#[tokio::test]
async fn object_larger_than_the_limit_is_sent_alone() {
    let mut harness = Harness::streaming(TIMINGS, None);
    harness.hub.subscribe(whole());
    harness.serve_websites().await;
    let stream = harness.request("sendInitialEvents=true").await.stream();
    stream.large(1, MAX_IN_FLIGHT_BYTES + 1);
    stream.large(2, 1);
    harness.until_full().await;
    assert_eq!(harness.events.len(), 1);
    assert_eq!([harness.next().await, harness.next().await], ["+a/001", "+a/002"]);
}

#[tokio::test]
async fn watch_that_ends_while_it_waits_blocks_no_other() {
    let (mut harness, id, stream) = Harness::full().await;
    // A watch of another identity waits after it.
    let other = WatchRequest { service_account: Some(Arc::new("a/website".parse().unwrap())), ..whole() };
    harness.hub.subscribe(other);
    let others = harness.request("sendInitialEvents=true").await.stream();
    others.large(1, LARGE);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    harness.hub.release(id);
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
    // The loop first takes the remaining events of the ended watch, then those of the other one.
    loop {
        let event = harness.events.recv().await.unwrap().event;
        if event.watch != id {
            assert_eq!(say(&event.change).0, "+a/001");
            break;
        }
    }
    assert_eq!(harness.hub.in_flight_bytes(), 0);
}

#[tokio::test]
async fn hub_ends_while_a_watch_waits() {
    let (harness, _, stream) = Harness::full().await;
    drop(harness.hub);
    while !stream.0.is_closed() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn discarded_objects_are_not_in_flight() {
    let (harness, _, _stream) = Harness::full().await;
    drop(harness.events);
    while harness.hub.in_flight_bytes() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn metadata_does_not_wait_for_whole_objects() {
    let (mut harness, _, _stream) = Harness::full().await;
    let metadata = harness.hub.subscribe(WatchRequest { field_selector: "spec.x=1".into(), ..request() });
    let stream = harness.request("sendInitialEvents=true").await.stream();
    stream.event("ADDED", &object("a/a", 1));
    while harness.hub.objects(metadata) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn large_replay_delays_upstreams_but_not_the_loop() {
    let (mut harness, id, stream) = Harness::full().await;
    stream.event("BOOKMARK", &end_of_list("100"));
    harness.take().await;
    assert_eq!(harness.next().await, "synced");
    harness.hub.replay(id, 7);
    stream.large(101, LARGE);
    harness.until_full().await;
    // `synced`, the objects and `replayed`, and not the new one.
    assert_eq!(harness.events.len() as u64, OBJECTS + 2);
    assert_eq!(harness.next().await, "synced");
    for version in 1..=OBJECTS {
        assert_eq!(harness.next().await, format!("+a/{version:03}"));
    }
    assert_eq!([harness.next().await, harness.next().await], ["replayed", "+a/101"]);
    assert_eq!(harness.hub.in_flight_bytes(), 0);
}
