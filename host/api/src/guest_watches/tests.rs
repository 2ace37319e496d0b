use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc as stream_channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::BoxError;
use wasmop_core::election::{Fence, Term};

use super::*;
use crate::election::boot_clock;

const PATH: &str = "/apis/demo.wasmop.dev/v1/websites";
/// More than any test needs.
const AMPLE: usize = 64 << 20;

type Answer = http::Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A request that waits for an answer of the test.
struct Exchange {
    uri: http::Uri,
    headers: http::HeaderMap,
    answer: oneshot::Sender<Result<Answer, BoxError>>,
}

impl Exchange {
    fn version(&self) -> Option<&str> {
        self.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="))
    }

    fn stream(self) -> Stream {
        let (sender, receiver) = stream_channel::unbounded();
        let mut response = http::Response::new(StreamBody::new(receiver).boxed_unsync());
        *response.version_mut() = http::Version::HTTP_2;
        let _ = self.answer.send(Ok(response));
        Stream(sender)
    }

    fn status(self, code: u16) {
        let body = format!(r#"{{"kind":"Status","status":"Failure","message":"no","reason":"R","code":{code}}}"#);
        let body = Full::new(Bytes::from(body)).map_err(Into::into).boxed_unsync();
        let _ = self.answer.send(Ok(http::Response::builder().status(code).body(body).unwrap()));
    }

    fn fail(self) {
        let _ = self.answer.send(Err("connection refused".into()));
    }
}

/// An open watch; ends when it is dropped.
struct Stream(stream_channel::UnboundedSender<Result<http_body::Frame<Bytes>, BoxError>>);

impl Stream {
    fn send(&self, text: impl Into<String>) {
        self.0.unbounded_send(Ok(http_body::Frame::data(Bytes::from(text.into())))).expect("an open connection");
    }

    /// Waits until the other side has closed the connection.
    async fn closed(&self) {
        while !self.0.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A guest with an open watch.
struct Guest {
    open: OpenWatch,
    batches: UnboundedReceiver<Vec<Reply>>,
    credit: Arc<Semaphore>,
    term: Arc<Term>,
}

impl Guest {
    async fn next(&mut self) -> Vec<Reply> {
        timeout(Duration::from_secs(10), self.batches.recv()).await.expect("an answer").expect("an answer")
    }

    async fn gets(&mut self, text: &str) {
        assert_eq!(self.next().await, [Reply::Body(Bytes::copy_from_slice(text.as_bytes()))]);
    }

    async fn begins(&mut self) {
        assert_eq!(
            self.next().await,
            [Reply::Head { status: 200, headers: "content-type: application/json\n".into() }]
        );
    }

    async fn ends(&mut self) {
        assert_eq!(self.next().await, [Reply::End]);
    }

    fn has_nothing(&mut self) {
        assert!(self.batches.try_recv().is_err());
    }
}

struct World {
    watches: GuestWatches,
    requests: UnboundedReceiver<Exchange>,
}

impl World {
    fn new() -> World {
        let (sender, requests) = unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (answer, answered) = oneshot::channel();
            let (parts, _) = request.into_parts();
            sender.send(Exchange { uri: parts.uri, headers: parts.headers, answer }).unwrap();
            async move { answered.await.unwrap_or_else(|_| Err("dropped".into())) }
        });
        let timings = Timings {
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
            good: Duration::from_millis(50),
        };
        World { watches: GuestWatches::with_timings(kube::Client::new(service, "default"), timings), requests }
    }

    fn open(&self, query: &str) -> Guest {
        self.open_as(query, None, AMPLE)
    }

    fn open_as(&self, query: &str, service_account: Option<&str>, credit: usize) -> Guest {
        let path = format!("{PATH}?watch=true&allowWatchBookmarks=true&{query}");
        let watch = GuestWatch::of("GET", &path, "").expect("a watch");
        let account = service_account.map(|account| Arc::new(account.parse().expect("an account")));
        let caller = Caller::controller("web", None, account);
        let term = Arc::new(Term::new(boot_clock::now() + Duration::from_secs(3600)));
        let fence = Arc::new(Fence::new(term.clone()));
        let (sender, batches) = unbounded_channel();
        let credit = Arc::new(Semaphore::new(credit));
        let send = move |replies| drop(sender.send(replies));
        let open = self.watches.open(watch, caller, credit.clone(), Some(fence), send);
        Guest { open, batches, credit, term }
    }

    async fn request(&mut self) -> Exchange {
        timeout(Duration::from_secs(10), self.requests.recv()).await.expect("a request").expect("a request")
    }

    /// Of a watch that begins at `version`.
    async fn watch_from(&mut self, version: &str) -> Stream {
        let request = self.request().await;
        assert_eq!(request.version(), Some(version), "{}", request.uri);
        request.stream()
    }

    async fn settled(&self, connections: usize, watches: usize) {
        let expected = GuestWatchCounts { connections, watches };
        for _ in 0..5000 {
            if self.watches.counts() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.watches.counts(), expected);
    }
}

fn added(version: u64) -> String {
    format!("{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"a\",\"resourceVersion\":\"{version}\"}}}}}}\n")
}

fn bookmark(version: u64) -> String {
    format!("{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"}}}}}}\n")
}

fn list_end(version: u64) -> String {
    let annotations = r#"{"k8s.io/initial-events-end":"true"}"#;
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\",\"annotations\":{annotations}}}}}}}\n"
    )
}

#[tokio::test]
async fn guest_gets_changes_and_no_bookmarks() {
    let mut world = World::new();
    let mut guest = world.open("resourceVersion=5");
    let request = world.request().await;
    assert_eq!(request.version(), Some("5"));
    assert_eq!(request.headers["accept"], "application/json");
    assert_eq!(request.headers["accept-encoding"], "identity");
    let stream = request.stream();
    guest.begins().await;
    stream.send(bookmark(6));
    stream.send(added(7));
    guest.gets(&added(7)).await;
    // Lines that arrive together are one resume; those that come in pieces are put together.
    let (first, second) = (added(8), added(9));
    stream.send(format!("{first}{}", &second[..20]));
    guest.gets(&first).await;
    stream.send(format!("{}{}{}", &second[20..], bookmark(10), added(11)));
    guest.gets(&format!("{second}{}", added(11))).await;
}

#[tokio::test]
async fn equal_watches_share_a_connection() {
    let mut world = World::new();
    let mut first = world.open("resourceVersion=5");
    let stream = world.watch_from("5").await;
    first.begins().await;
    stream.send(added(6));
    first.gets(&added(6)).await;
    // One that is as far as the stream, and one that is further.
    let mut second = world.open("resourceVersion=6");
    let mut third = world.open("resourceVersion=8");
    second.begins().await;
    third.begins().await;
    world.settled(1, 3).await;
    stream.send(added(7) + &added(8));
    first.gets(&(added(7) + &added(8))).await;
    second.gets(&(added(7) + &added(8))).await;
    stream.send(added(9));
    third.gets(&added(9)).await;
    assert!(world.requests.try_recv().is_err());
}

#[tokio::test]
async fn watch_that_is_behind_catches_up_first() {
    let mut world = World::new();
    let mut first = world.open("resourceVersion=5");
    let shared = world.watch_from("5").await;
    first.begins().await;
    shared.send(added(9));
    first.gets(&added(9)).await;
    let mut late = world.open("resourceVersion=3");
    let own = world.watch_from("3").await;
    late.begins().await;
    own.send(added(4));
    late.gets(&added(4)).await;
    world.settled(1, 1).await;
    own.send(added(9));
    late.gets(&added(9)).await;
    own.closed().await;
    world.settled(1, 2).await;
    shared.send(added(10));
    first.gets(&added(10)).await;
    late.gets(&added(10)).await;
}

#[tokio::test]
async fn list_becomes_the_shared_stream() {
    let mut world = World::new();
    let mut guest = world.open("sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let request = world.request().await;
    let query = request.uri.query().unwrap();
    assert!(query.contains("sendInitialEvents=true") && query.contains("resourceVersionMatch=NotOlderThan"), "{query}");
    let stream = request.stream();
    guest.begins().await;
    stream.send(added(90) + &added(4) + &list_end(92));
    guest.gets(&(added(90) + &added(4) + &list_end(92))).await;
    world.settled(1, 1).await;
    stream.send(bookmark(95) + &added(96));
    guest.gets(&added(96)).await;
    drop(stream);
    world.watch_from("96").await;
}

#[tokio::test]
async fn list_that_is_cut_ends_the_guests_watch() {
    let mut world = World::new();
    let mut guest = world.open("resourceVersion=0");
    let stream = world.watch_from("0").await;
    guest.begins().await;
    stream.send(added(90));
    guest.gets(&added(90)).await;
    drop(stream);
    guest.ends().await;
    // With a bookmark it can be continued.
    let mut guest = world.open("resourceVersion=0");
    let stream = world.watch_from("0").await;
    guest.begins().await;
    stream.send(added(90) + &bookmark(91));
    guest.gets(&added(90)).await;
    world.settled(1, 1).await;
    drop(stream);
    world.watch_from("91").await;
    guest.has_nothing();
}

#[tokio::test]
async fn reconnects_do_not_reach_the_guest() {
    let mut world = World::new();
    let mut guest = world.open("resourceVersion=5");
    let stream = world.watch_from("5").await;
    guest.begins().await;
    stream.send(added(6) + &bookmark(8));
    guest.gets(&added(6)).await;
    // Cut within an event, which comes again.
    stream.send(&added(9)[..30]);
    drop(stream);
    for _ in 0..3 {
        let request = world.request().await;
        assert_eq!(request.version(), Some("8"));
        request.fail();
    }
    world.request().await.status(503);
    world.request().await.status(429);
    let stream = world.watch_from("8").await;
    stream.send("<html>\n");
    let stream = world.watch_from("8").await;
    stream.send(added(9));
    guest.gets(&added(9)).await;
}

#[tokio::test]
async fn refused_watch_ends_with_the_version_that_it_has_reached() {
    for code in [401, 403, 404, 410] {
        let mut world = World::new();
        let mut guest = world.open("resourceVersion=5");
        let stream = world.watch_from("5").await;
        guest.begins().await;
        stream.send(bookmark(8));
        drop(stream);
        world.request().await.status(code);
        guest.gets(&bookmark(8)).await;
        guest.ends().await;
        world.settled(0, 0).await;
    }
}

#[tokio::test]
async fn error_in_a_watch_reaches_all_guests_and_ends_it() {
    let mut world = World::new();
    let mut guests = [world.open("resourceVersion=5"), world.open("resourceVersion=5")];
    let stream = world.watch_from("5").await;
    for guest in &mut guests {
        guest.begins().await;
    }
    let error = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410}}\n";
    stream.send(added(6) + error);
    for guest in &mut guests {
        guest.gets(&(added(6) + error)).await;
        guest.ends().await;
    }
    world.settled(0, 0).await;
}

#[tokio::test]
async fn list_gets_the_answer_of_the_api_server_if_it_is_refused() {
    let mut world = World::new();
    let mut guest = world.open("sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    world.request().await.status(403);
    let [Reply::Head { status: 403, .. }, Reply::Body(status), Reply::End] = &guest.next().await[..] else {
        panic!("not a refusal")
    };
    assert!(String::from_utf8_lossy(status).contains("\"code\":403"));
    let mut guest = world.open("resourceVersion=0");
    world.request().await.fail();
    let [Reply::Failed(why)] = &guest.next().await[..] else { panic!("not a failure") };
    assert!(why.contains("connection refused"), "{why}");
}

#[tokio::test]
async fn slow_guest_gets_a_connection_of_its_own() {
    let mut world = World::new();
    let mut quick = world.open("resourceVersion=5");
    let shared = world.watch_from("5").await;
    quick.begins().await;
    let head = "content-type: application/json\n".len();
    let mut slow = world.open_as("resourceVersion=5", None, head + added(6).len());
    slow.begins().await;
    shared.send(added(6));
    slow.gets(&added(6)).await;
    quick.gets(&added(6)).await;
    shared.send(added(7));
    quick.gets(&added(7)).await;
    let own = world.watch_from("6").await;
    own.send(added(7));
    shared.send(added(8));
    quick.gets(&added(8)).await;
    slow.has_nothing();
    world.settled(1, 1).await;
    slow.credit.add_permits(AMPLE);
    slow.gets(&added(7)).await;
    own.send(added(8));
    slow.gets(&added(8)).await;
    world.settled(1, 2).await;
    shared.send(added(9));
    slow.gets(&added(9)).await;
}

#[tokio::test]
async fn large_objects_come_in_pieces() {
    let mut world = World::new();
    let mut guest = world.open("resourceVersion=5");
    let stream = world.watch_from("5").await;
    guest.begins().await;
    let filler = "x".repeat(150 << 10);
    let line = added(6).replace("\"a\"", &format!("\"{filler}\""));
    stream.send(line.clone());
    let mut text = Vec::new();
    for reply in guest.next().await {
        let Reply::Body(bytes) = reply else { panic!("not a body") };
        assert!(bytes.len() <= wasmop_core::reply::CHUNK_BYTES);
        text.extend_from_slice(&bytes);
    }
    assert_eq!(text, line.as_bytes());
}

#[tokio::test]
async fn connection_ends_with_the_last_guest() {
    let mut world = World::new();
    let mut first = world.open("resourceVersion=5");
    let stream = world.watch_from("5").await;
    first.begins().await;
    let mut second = world.open("resourceVersion=5");
    second.begins().await;
    world.settled(1, 2).await;
    first.open.abort();
    world.settled(1, 1).await;
    stream.send(added(6));
    second.gets(&added(6)).await;
    first.has_nothing();
    // One whose lease is lost goes with the next event.
    let third = world.open("resourceVersion=6");
    world.settled(1, 2).await;
    drop(third.term);
    second.open.abort();
    third.open.abort();
    stream.closed().await;
    world.settled(0, 0).await;
    // One that is dropped while it lists.
    let guest = world.open("resourceVersion=0");
    let stream = world.watch_from("0").await;
    guest.open.abort();
    stream.closed().await;
}

#[tokio::test]
async fn identities_share_nothing() {
    let mut world = World::new();
    let _host = world.open("resourceVersion=5");
    let request = world.request().await;
    assert!(!request.headers.contains_key("impersonate-user"));
    let _first = request.stream();
    let _other = world.open_as("resourceVersion=5", Some("a/b"), AMPLE);
    let request = world.request().await;
    assert_eq!(request.headers["impersonate-user"], "system:serviceaccount:a:b");
    let _second = request.stream();
    world.settled(2, 2).await;
}

#[tokio::test]
async fn all_connections_end_with_the_host() {
    let mut world = World::new();
    let mut guest = world.open("resourceVersion=5");
    let shared = world.watch_from("5").await;
    guest.begins().await;
    let _listing = world.open("resourceVersion=0");
    let own = world.watch_from("0").await;
    drop(world.watches);
    shared.closed().await;
    own.closed().await;
}

#[tokio::test]
async fn lines_before_garbage_are_delivered_once() {
    // The guest catches up on its own connection, beside a stream that is ahead.
    let mut world = World::new();
    let mut first = world.open("resourceVersion=9");
    let _shared = world.watch_from("9").await;
    first.begins().await;
    let mut late = world.open("resourceVersion=3");
    let own = world.watch_from("3").await;
    late.begins().await;
    own.send(added(4) + "<html>\n");
    late.gets(&added(4)).await;
    let own = world.watch_from("4").await;
    own.send(added(9));
    late.gets(&added(9)).await;
    world.settled(1, 2).await;
}

#[tokio::test]
async fn slow_guest_continues_from_the_last_bookmark() {
    let mut world = World::new();
    let mut quick = world.open("resourceVersion=5");
    let shared = world.watch_from("5").await;
    quick.begins().await;
    let mut slow = world.open_as("resourceVersion=5", None, "content-type: application/json\n".len());
    slow.begins().await;
    shared.send(bookmark(800));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    shared.send(added(801));
    quick.gets(&added(801)).await;
    // Version 5 may be compacted by now.
    assert_eq!(world.request().await.version(), Some("800"));
}
