//! A watch hub, and an API server that the test plays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc as stream_channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tower::BoxError;
use wasmop_core::watch::{Change, WatchId, WatchRequest};

use crate::watch::upstream::UpstreamTimings;
use crate::watch::*;

pub type Answer = http::Response<UnsyncBoxBody<Bytes, BoxError>>;

pub const TIMINGS: UpstreamTimings = UpstreamTimings {
    first_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(8),
    missing_delay: Duration::from_millis(8),
    short_watch: Duration::ZERO,
    good_watch: Duration::from_secs(10),
    bookmark_silence: Duration::from_secs(3600),
    list_silence: Duration::from_secs(3600),
};

/// A request that waits for an answer of the test.
pub struct Exchange {
    pub path: String,
    pub accept: String,
    /// `Impersonate-User`.
    pub user: Option<String>,
    pub answer: oneshot::Sender<Answer>,
}

impl Exchange {
    pub fn json(self, status: u16, body: &Value) {
        let body = Full::new(Bytes::from(body.to_string())).map_err(Into::into).boxed_unsync();
        // The watch may have ended.
        let _ = self.answer.send(http::Response::builder().status(status).body(body).unwrap());
    }

    pub fn error(self, status: u16) {
        let message = format!("because of {status}");
        self.json(
            status,
            &json!({"kind": "Status", "status": "Failure", "message": message, "reason": "R", "code": status}),
        );
    }

    pub fn list(self, version: &str, objects: &[(&str, u64)]) {
        let items: Vec<_> = objects.iter().map(|(key, version)| object(key, *version)).collect();
        self.json(200, &json!({"metadata": {"resourceVersion": version}, "items": items}));
    }

    pub fn stream(self) -> Stream {
        self.stream_over(http::Version::HTTP_11)
    }

    pub fn stream_over(self, version: http::Version) -> Stream {
        let (sender, receiver) = stream_channel::unbounded();
        let mut response = http::Response::new(StreamBody::new(receiver).boxed_unsync());
        *response.version_mut() = version;
        let _ = self.answer.send(response);
        Stream(sender)
    }
}

/// An open watch; ends when it is dropped.
pub struct Stream(pub stream_channel::UnboundedSender<Result<http_body::Frame<Bytes>, BoxError>>);

impl Stream {
    pub fn raw(&self, text: impl Into<String>) {
        self.0.unbounded_send(Ok(http_body::Frame::data(Bytes::from(text.into())))).unwrap();
    }

    pub fn event(&self, kind: &str, object: &Value) {
        self.raw(format!("{}\n", json!({"type": kind, "object": object})));
    }

    pub fn cut(self) {
        self.0.unbounded_send(Err("connection reset".into())).unwrap();
    }
}

pub struct Harness {
    pub hub: WatchHub,
    pub requests: UnboundedReceiver<Exchange>,
    pub events: UnboundedReceiver<Delivery>,
    /// The CustomResourceDefinition of websites, of which requests are answered without the test.
    pub definition: Arc<Mutex<Option<Value>>>,
}

impl Harness {
    pub fn new() -> Self {
        Self::with_timings(TIMINGS)
    }

    /// Of an API server that serves lists in pages only.
    pub fn with_timings(timings: UpstreamTimings) -> Self {
        let harness = Self::streaming(timings, None);
        harness.hub.streaming.store(false, std::sync::atomic::Ordering::Relaxed);
        harness
    }

    pub fn streaming(timings: UpstreamTimings, journals: Option<Journals>) -> Self {
        let (sender, requests) = unbounded_channel();
        let definition = Arc::new(Mutex::new(None::<Value>));
        let definition_asked_for = definition.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let sender: UnboundedSender<Exchange> = sender.clone();
            let definition = definition_asked_for.lock().unwrap().clone();
            async move {
                if request.uri().path().starts_with(definition::PATH) {
                    let (status, body) = match definition {
                        Some(definition) if definition["code"] == 403 => (403, definition),
                        Some(definition) => (200, definition),
                        None => (404, json!({"kind": "Status", "status": "Failure", "code": 404})),
                    };
                    let body = Full::new(Bytes::from(body.to_string())).map_err(Into::into).boxed_unsync();
                    return Ok(http::Response::builder().status(status).body(body).unwrap());
                }
                let (answer, answered) = oneshot::channel();
                let accept = request.headers().get("accept").map_or("", |value| value.to_str().unwrap());
                let user = request.headers().get("impersonate-user").map(|user| user.to_str().unwrap().to_owned());
                let exchange = Exchange { path: request.uri().to_string(), accept: accept.into(), user, answer };
                sender.send(exchange).map_err(|_| BoxError::from("test is over"))?;
                answered.await.map_err(|_| BoxError::from("connection refused"))
            }
        });
        let (sender, events) = unbounded_channel();
        let client = kube::Client::new(service, "default");
        Harness { hub: WatchHub::with_timings(client, sender, journals, timings), requests, events, definition }
    }

    /// The next request, which must have this in its path.
    pub async fn request(&mut self, path: &str) -> Exchange {
        let exchange = self.requests.recv().await.unwrap();
        assert!(exchange.path.contains(path), "expected {path}, got {}", exchange.path);
        exchange
    }

    /// Answers discovery.
    pub async fn serve_websites(&mut self) {
        self.request("/apis/demo.wasmop.dev/v1").await.json(200, &websites());
    }

    pub async fn change(&mut self) -> Change {
        self.events.recv().await.unwrap().event.change
    }

    /// Changes up to and with `Synced` or `Waiting`, as `+key`, `~key`, `-key`, `synced`, `cause`.
    pub async fn changes(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let (text, last) = say(&self.change().await);
            said.push(text);
            if last {
                return said;
            }
        }
    }

    pub async fn next(&mut self) -> String {
        say(&self.change().await).0
    }

    /// A watch on websites that is synced with these objects, watching from version 10.
    pub async fn watching(objects: &[(&str, u64)]) -> (Self, WatchId, Stream) {
        let mut harness = Harness::new();
        let id = harness.hub.subscribe(request());
        harness.serve_websites().await;
        harness.request("limit=500").await.list("10", objects);
        let stream = harness.request("resourceVersion=10").await.stream();
        assert_eq!(harness.changes().await.len(), objects.len() + 1);
        (harness, id, stream)
    }
}

pub fn say(change: &Change) -> (String, bool) {
    match change {
        Change::Applied { key, old: None, .. } => (format!("+{key}"), false),
        Change::Applied { key, old: Some(_), .. } => (format!("~{key}"), false),
        Change::Deleted { key, .. } => (format!("-{key}"), false),
        Change::Synced => ("synced".into(), true),
        Change::Replayed => ("replayed".into(), true),
        Change::Waiting(waiting) => (format!("{:?}", waiting.cause), true),
    }
}

pub fn request() -> WatchRequest {
    WatchRequest {
        group: "demo.wasmop.dev".into(),
        version: "v1".into(),
        kind: "Website".into(),
        plural: "websites".into(),
        ..WatchRequest::default()
    }
}

pub fn websites() -> Value {
    json!({"resources": [
        {"name": "websites", "kind": "Website", "namespaced": true, "verbs": []},
        {"name": "websites/status", "kind": "Website", "namespaced": true, "verbs": []},
    ]})
}

pub fn object(key: &str, version: u64) -> Value {
    let (namespace, name) = key.split_once('/').unwrap();
    json!({"metadata": {"name": name, "namespace": namespace, "resourceVersion": version.to_string(), "uid": name}})
}

pub fn expired() -> Value {
    json!({"kind": "Status", "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410})
}
