//! An API server that serves only ConfigMaps: lists, watches and discovery over HTTP. A test changes its objects by calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use futures::channel::mpsc::UnboundedSender;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The server. It stops when it is dropped.
pub struct FakeCluster {
    state: Arc<State>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct State {
    /// Whether the server supports `sendInitialEvents`.
    streams_lists: bool,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    /// ConfigMaps of the namespace `default` by name.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Watch events as lines, each with its resource version.
    history: Vec<(u64, String)>,
    watchers: Vec<UnboundedSender<Result<Frame<Bytes>, BoxError>>>,
    counts: RequestCounts,
}

/// Requests and objects so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub lists: u64,
    /// Watches with `sendInitialEvents`.
    pub streamed_lists: u64,
    pub watches: u64,
    /// Created objects.
    pub objects: u64,
}

impl FakeCluster {
    pub async fn start(streams_lists: bool) -> Result<FakeCluster> {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = socket.local_addr()?;
        let state = Arc::new(State { streams_lists, content: Mutex::default() });
        let serving = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let state = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(state.clone(), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(FakeCluster { state, address, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates or changes a ConfigMap.
    pub fn put(&self, name: &str) {
        let mut content = self.state.content();
        let version = content.version + 1;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": version.to_string()},
            "data": {"version": version.to_string()},
        });
        let is_new = content.objects.insert(name.into(), object.clone()).is_none();
        content.counts.objects += u64::from(is_new);
        let kind = if is_new { "ADDED" } else { "MODIFIED" };
        content.publish(kind, object);
    }

    pub fn delete(&self, name: &str) {
        let mut content = self.state.content();
        let version = content.version + 1;
        if let Some(mut object) = content.objects.remove(name) {
            object["metadata"]["resourceVersion"] = version.to_string().into();
            content.publish("DELETED", object);
        }
    }

    /// Ends all watches and discards the history, so that no watch can continue from an earlier version.
    pub fn expire(&self) {
        let mut content = self.state.content();
        content.version += 1;
        content.history.clear();
        content.watchers.clear();
    }

    pub fn counts(&self) -> RequestCounts {
        self.state.content().counts
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

impl Content {
    fn publish(&mut self, kind: &str, object: Value) {
        self.version += 1;
        let line = line(kind, &object);
        self.watchers.retain(|watcher| watcher.unbounded_send(frame(&line)).is_ok());
        self.history.push((self.version, line));
    }
}

fn frame(line: &str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::copy_from_slice(line.as_bytes())))
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    state.answer(&request)
}

impl State {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let of = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
        };
        match request.uri().path() {
            "/version" => json(
                200,
                &json!({
                    "major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64", "gitCommit": "",
                    "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "",
                }),
            ),
            "/api" => json(200, &json!({"kind": "APIVersions", "versions": ["v1"]})),
            "/api/v1" => json(
                200,
                &json!({"resources": [
                    {"name": "configmaps", "kind": "ConfigMap", "namespaced": true, "singularName": "", "verbs": []},
                ]}),
            ),
            "/api/v1/configmaps" if of("watch").is_none() => {
                let mut content = self.content();
                content.counts.lists += 1;
                let items: Vec<_> = content.objects.values().collect();
                json(
                    200,
                    &json!({
                        "apiVersion": "v1", "kind": "ConfigMapList",
                        "metadata": {"resourceVersion": content.version.to_string()}, "items": items,
                    }),
                )
            }
            "/api/v1/configmaps" => self.watch(of("sendInitialEvents") == Some("true"), of("resourceVersion")),
            path => status(404, path),
        }
    }

    fn watch(&self, lists: bool, from: Option<&str>) -> Result<Response<Body>, BoxError> {
        let mut content = self.content();
        content.counts.watches += u64::from(!lists);
        content.counts.streamed_lists += u64::from(lists);
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        if lists {
            if !self.streams_lists {
                return status(
                    422,
                    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
                );
            }
            for object in content.objects.values() {
                sender.unbounded_send(frame(&line("ADDED", object)))?;
            }
            let end = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {
                "resourceVersion": content.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
            }});
            sender.unbounded_send(frame(&line("BOOKMARK", &end)))?;
        } else {
            let from: u64 = from.unwrap_or_default().parse()?;
            let oldest = content.history.first().map_or(content.version, |(version, _)| version - 1);
            if from < oldest {
                return status(410, "too old resource version");
            }
            for (_, line) in content.history.iter().filter(|(version, _)| *version > from) {
                sender.unbounded_send(frame(line))?;
            }
        }
        content.watchers.push(sender);
        Ok(Response::new(StreamBody::new(receiver).boxed_unsync()))
    }
}

fn json(status: u16, body: &Value) -> Result<Response<Body>, BoxError> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    Ok(Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(body)?)
}

fn status(code: u16, message: &str) -> Result<Response<Body>, BoxError> {
    json(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": "Invalid", "code": code,
        }),
    )
}
