//! Turns a healthy API server into one that is slow, rude or away, at a test's command.
//!
//! A plain HTTP listener on loopback forwards every request with the upstream client's credentials
//! and passes bodies through as they arrive, so that watches work. Rules, added and dropped while
//! it runs, say which requests go wrong and how:
//!
//! ```no_run
//! # async fn example(cluster: kube::Client) -> anyhow::Result<()> {
//! use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
//! let proxy = FaultProxy::start(cluster).await?;
//! std::fs::write("kubeconfig", proxy.kubeconfig())?;
//! let busy = Fault::Status { code: 429, retry_after_seconds: Some(1) };
//! let _busy = proxy.add(Rule::new("PATCH", "/configmaps/", busy).times(2));
//! let held = proxy.hold("/configmaps/");
//! held.until_waiting(3).await?; // three requests wait
//! held.release();               // they go on, and later ones are not held
//! # Ok(())
//! # }
//! ```

mod listener;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use kube::client::Body;
use listener::Listener;
use tokio::sync::watch;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long a test waits for requests to come.
const PATIENCE: Duration = Duration::from_secs(45);

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is forwarded after this time.
    Delay(Duration),
    /// It is forwarded when the rule is released or dropped.
    Hold,
    /// It is answered with this status instead of being forwarded.
    Status { code: u16, retry_after_seconds: Option<u32> },
    /// It is forwarded, but the connection breaks after this many bytes of the answer's body.
    Cut { after_bytes: usize },
    /// It is forwarded, and the answer's body comes in pieces of so many bytes with a pause before each.
    Slow { bytes: usize, pause: Duration },
    /// It is answered with 302 and this as the place to go.
    Redirect(String),
    /// It is answered with something that is not JSON.
    Garbage,
    /// It is answered with success and a page for people, as by a proxy that wants somebody to log in.
    Html,
}

/// Which requests go wrong, and how. The first rule that matches counts.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Empty for any.
    pub method: String,
    /// A part of path and query; empty for any.
    pub path: String,
    pub fault: Fault,
    /// For so many requests only.
    pub times: Option<u64>,
}

impl Rule {
    pub fn new(method: &str, path: &str, fault: Fault) -> Self {
        Rule { method: method.into(), path: path.into(), fault, times: None }
    }

    /// For the next `times` requests only.
    pub fn times(self, times: u64) -> Self {
        Rule { times: Some(times), ..self }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        (self.method.is_empty() || self.method == method) && path.contains(&self.path)
    }
}

/// A rule in force; dropping it removes the rule and lets go what it holds.
pub struct ActiveRule {
    id: u64,
    hits: watch::Receiver<u64>,
    state: Arc<State>,
}

impl ActiveRule {
    /// Requests that the rule was applied to.
    pub fn hits(&self) -> u64 {
        *self.hits.borrow()
    }

    /// Waits until the rule was applied to this many requests, though not for ever.
    pub async fn until_waiting(&self, requests: u64) -> Result<()> {
        let mut hits = self.hits.clone();
        let enough = hits.wait_for(|now| *now >= requests);
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("the fault proxy waited for {requests} requests, but only {} came", self.hits()),
        }
    }

    /// Ends the rule: what it holds is forwarded, and it applies to nothing more.
    pub fn release(&self) {
        self.state.lock().rules.retain(|rule| rule.id != self.id);
    }
}

impl Drop for ActiveRule {
    fn drop(&mut self) {
        self.release();
    }
}

/// A rule as the proxy holds it. Dropping it closes `hits`, which lets go what is held.
struct Held {
    id: u64,
    rule: Rule,
    hits: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    rules: Vec<Held>,
    next_id: u64,
    /// Requests by method and path without query.
    counts: BTreeMap<(String, String), u64>,
    /// Those of them that begin a list, by path: also as the beginning of a watch. Each `GET` that is no watch
    /// is taken for one.
    lists: BTreeMap<String, u64>,
    /// Of all requests that had one.
    traceparents: Vec<String>,
}

struct State {
    upstream: kube::Client,
    inner: Mutex<Inner>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running proxy; ends, with all its connections, when it is dropped.
pub struct FaultProxy {
    state: Arc<State>,
    listener: Listener,
}

impl FaultProxy {
    /// Listens on a free port of loopback and forwards to what `upstream` is connected to.
    pub async fn start(upstream: kube::Client) -> Result<FaultProxy> {
        let state = Arc::new(State { upstream, inner: Mutex::default() });
        let listener = Listener::start(state.clone()).await?;
        Ok(FaultProxy { state, listener })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// A kubeconfig for whoever is to reach the cluster through the proxy.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: proxy\n\
             clusters: [{{name: proxy, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: proxy, user: {{}}}}]\n\
             contexts: [{{name: proxy, context: {{cluster: proxy, user: proxy}}}}]\n"
        )
    }

    /// From now on, requests that match go wrong.
    #[must_use = "dropping it removes the rule"]
    pub fn add(&self, rule: Rule) -> ActiveRule {
        let mut inner = self.state.lock();
        let (sender, hits) = watch::channel(0);
        let id = inner.next_id;
        inner.next_id += 1;
        inner.rules.push(Held { id, rule, hits: sender });
        ActiveRule { id, hits, state: self.state.clone() }
    }

    /// Holds every request with this part of the path until the rule is released or dropped.
    #[must_use = "dropping it removes the rule"]
    pub fn hold(&self, path: &str) -> ActiveRule {
        self.add(Rule::new("", path, Fault::Hold))
    }

    /// Forwards every request with this part of the path only after some time.
    #[must_use = "dropping it removes the rule"]
    pub fn delay(&self, path: &str, delay: Duration) -> ActiveRule {
        self.add(Rule::new("", path, Fault::Delay(delay)))
    }

    /// Requests so far with this method (empty for any) and this part of the path, query excluded.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let matches = |(m, p): &(String, String)| (method.is_empty() || m == method) && p.contains(path);
        self.state.lock().counts.iter().filter(|(request, _)| matches(request)).map(|(_, count)| count).sum()
    }

    /// Requests so far by method and path without query.
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        self.state.lock().counts.clone()
    }

    /// What requests had in the header `traceparent`, if they had it.
    pub fn traceparents(&self) -> Vec<String> {
        self.state.lock().traceparents.clone()
    }

    /// Lists begun so far by path, also as the beginning of a watch; reads of single objects are among them.
    pub fn list_counts(&self) -> BTreeMap<String, u64> {
        self.state.lock().lists.clone()
    }

    /// Breaks all open connections.
    pub async fn cut_connections(&self) {
        self.listener.cut().await;
    }

    /// The API server goes away: connections break, new ones are refused.
    pub async fn stop_accepting(&self) {
        self.listener.close().await;
    }

    /// It is back, at the same address.
    pub async fn accept_again(&self) -> Result<()> {
        self.listener.open().await
    }
}

/// Answers a request, wrongly if a rule says so.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    if let Some(traceparent) = request.headers().get("traceparent") {
        state.lock().traceparents.push(String::from_utf8_lossy(traceparent.as_bytes()).into_owned());
    }
    let (mut limit, mut slow) = (None, None);
    match apply_rule(&state, &method, &path) {
        None => {}
        Some((Fault::Delay(delay), _)) => tokio::time::sleep(delay).await,
        // It changes with every hit and fails when the rule is gone.
        Some((Fault::Hold, mut rule)) => while rule.changed().await.is_ok() {},
        Some((Fault::Status { code, retry_after_seconds }, _)) => return status(code, retry_after_seconds),
        Some((Fault::Redirect(location), _)) => {
            return Ok(Response::builder()
                .status(StatusCode::FOUND)
                .header(header::LOCATION, location)
                .body(full(""))?);
        }
        Some((Fault::Cut { after_bytes }, _)) => limit = Some(after_bytes),
        Some((Fault::Slow { bytes, pause }, _)) => slow = Some((bytes.max(1), pause)),
        Some((Fault::Html, _)) => {
            let page = full("<!doctype html><title>Log in</title>");
            return Ok(Response::builder().header(header::CONTENT_TYPE, "text/html").body(page)?);
        }
        Some((Fault::Garbage, _)) => {
            let body = full("{\"kind\": \"Garb\u{fffd}ge\n<html>");
            return Ok(Response::builder().header(header::CONTENT_TYPE, "application/json").body(body)?);
        }
    }
    let response = forward(&state.upstream, request).await?;
    Ok(match (limit, slow) {
        (Some(limit), _) => response.map(|body| cut(body, limit)),
        (None, Some((bytes, pause))) => response.map(|body| slowly(body, bytes, pause)),
        (None, None) => response,
    })
}

/// Counts the request, and finds what goes wrong with it.
fn apply_rule(state: &State, method: &str, path: &str) -> Option<(Fault, watch::Receiver<u64>)> {
    let mut inner = state.lock();
    let without_query = path.split('?').next().unwrap_or_default();
    *inner.counts.entry((method.into(), without_query.into())).or_default() += 1;
    let is_watch = path.contains("watch=true") || path.contains("watch=1");
    if method == "GET" && (!is_watch || path.contains("sendInitialEvents=true")) {
        *inner.lists.entry(without_query.into()).or_default() += 1;
    }
    let applies = |held: &&Held| {
        held.rule.matches(method, path) && held.rule.times.is_none_or(|times| *held.hits.borrow() < times)
    };
    let held = inner.rules.iter().find(applies)?;
    held.hits.send_modify(|hits| *hits += 1);
    Some((held.rule.fault.clone(), held.hits.subscribe()))
}

async fn forward(upstream: &kube::Client, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let (mut parts, body) = request.into_parts();
    remove_connection_headers(&mut parts.headers);
    // The upstream client brings its own.
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::AUTHORIZATION);
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = body.collect().await?.to_bytes();
    let response = upstream.send(Request::from_parts(parts, Body::from(body))).await?;
    let (mut parts, body) = response.into_parts();
    remove_connection_headers(&mut parts.headers);
    parts.version = http::Version::HTTP_11;
    Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}

/// Headers that are about one connection only.
fn remove_connection_headers(headers: &mut HeaderMap) {
    const ABOUT_CONNECTION: [HeaderName; 4] =
        [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")];
    for name in ABOUT_CONNECTION {
        headers.remove(name);
    }
}

/// A `Status` object, as the API server would send it.
fn status(code: u16, retry_after_seconds: Option<u32>) -> Result<Response<ResponseBody>, BoxError> {
    let code = StatusCode::from_u16(code)?;
    let reason = match code.as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} by the fault proxy"), "reason": reason, "code": code.as_u16(),
        "details": {"retryAfterSeconds": retry_after_seconds.unwrap_or_default()},
    });
    let mut response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after_seconds {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    Ok(response.body(full(status.to_string()))?)
}

fn full(text: impl Into<Bytes>) -> ResponseBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The first `limit` bytes; then an error, on which the connection is dropped.
fn cut(body: ResponseBody, limit: usize) -> ResponseBody {
    let frames = futures::stream::try_unfold((body.into_data_stream(), limit), |(mut data, left)| async move {
        if left == 0 {
            // hyper drops what it has not flushed yet when a body fails.
            tokio::task::yield_now().await;
            return Err(BoxError::from("cut by the fault proxy"));
        }
        let Some(mut bytes) = data.try_next().await? else { return Err(BoxError::from("cut by the fault proxy")) };
        bytes.truncate(left);
        let left = left - bytes.len();
        Ok(Some((http_body::Frame::data(bytes), (data, left))))
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

/// The body in pieces, with a pause before each.
fn slowly(body: ResponseBody, bytes: usize, pause: Duration) -> ResponseBody {
    let start = (body.into_data_stream(), Bytes::new());
    let frames = futures::stream::try_unfold(start, move |(mut data, mut left)| async move {
        while left.is_empty() {
            let Some(more) = data.try_next().await? else { return Ok::<_, BoxError>(None) };
            left = more;
        }
        tokio::time::sleep(pause).await;
        let piece = left.split_to(bytes.min(left.len()));
        Ok(Some((http_body::Frame::data(piece), (data, left))))
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests;
