//! Serves `/metrics`, `/healthz`, `/readyz`, `/api/controllers` and the page `/` over HTTP/1.1.
//!
//! The server is read-only and has no authentication. It is for loopback, or for networks that only Prometheus can
//! reach. It writes long responses while it sends them, so that a scrape of ten thousand controllers holds kilobytes
//! of text, not megabytes.

mod body;
mod patience;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use wasmop_api::request_counts::RequestCounts;
use wasmop_core::status::observed::Observed;

use self::body::{Body, full, written};
use self::patience::Patient;
use super::metrics::{Format, Page};
use super::values::{ControllerStatus, HostStatus, MemorySample};
use super::{Question, process};

/// The control loop is stuck if it does not answer within this time. Steps run on other threads, so an answer takes
/// microseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most connections. A further one replaces the oldest, so that probes always get through.
const MAX_CONNECTIONS: usize = 64;
/// Most long responses at once. Each holds a thread and a copy of the status. Probes do not count.
const MAX_LONG_ANSWERS: usize = 8;
/// Total time for which a client may delay one response.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection without a complete request closes after this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Seconds between two samples of memory. [`MAX_SAMPLES`] of them are an hour.
const SAMPLE_INTERVAL: f64 = 5.0;
const MAX_SAMPLES: usize = 720;

const PAGE: &str = include_str!("page.html");

/// Why the status server cannot listen. `address` is the one given.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BindError {
    /// The address is malformed.
    #[error("{address:?} is not an address\nhelp: write HOST:PORT, like 127.0.0.1:8080 or :8080 for all interfaces")]
    Address { address: String },
    /// The host has no IP address.
    #[error("the host {address:?} cannot be resolved: {source}\nhelp: write HOST:PORT, like 127.0.0.1:8080")]
    Resolve { address: String, source: io::Error },
    /// The operating system refuses the address.
    #[error(
        "cannot listen on {address}: {source}\nhelp: another process may use that port (another wasmop run, too); choose another one, or :0 for any"
    )]
    Bind { address: String, source: io::Error },
}

/// Listens on `HOST:PORT`; without a host on all interfaces, as controller-runtime does.
///
/// # Errors
/// The address is malformed, cannot be resolved, or is in use.
pub fn bind(address: &str) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::Bind { address: address.into(), source };
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.parse::<u16>().is_err()) {
        return Err(BindError::Address { address: address.into() });
    }
    let resolved: Vec<SocketAddr> = match address.strip_prefix(':') {
        // IPv6 and IPv4 if there is IPv6, otherwise IPv4.
        Some(port) => {
            let port = port.parse().unwrap_or_default();
            vec![(std::net::Ipv6Addr::UNSPECIFIED, port).into(), (std::net::Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => {
            let resolved = address.to_socket_addrs();
            resolved.map_err(|source| BindError::Resolve { address: address.into(), source })?.collect()
        }
    };
    let listener = TcpListener::bind(&resolved[..]).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Sends a question to the control loop; `false` if it has ended.
type Ask = Box<dyn Fn(Question) -> bool + Send + Sync>;

/// The server's view of a host.
pub struct Source {
    /// Sends a question to the control loop.
    pub ask: Ask,
    /// Whether all packages are installed and the loop runs.
    pub started: Arc<AtomicBool>,
    /// Counts of requests to the API server.
    pub requests: Arc<RequestCounts>,
    /// Counts of requests to external hosts.
    pub external_requests: Arc<RequestCounts>,
}

/// The running server. Dropping it closes the listener and all connections.
pub struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the server on a listener of [`bind`].
///
/// # Errors
/// The listener cannot be used.
///
/// # Panics
/// It must be called within a tokio runtime.
pub fn serve(listener: TcpListener, source: Source) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tracing::info!(%address, "serving metrics, probes and the page");
    let state = Arc::new(State::new(source, DEADLINE));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        // Open connections, oldest first.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // With too many open files, for example, an immediate retry would fail.
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            open.retain(|connection| !connection.is_finished());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let state = state.clone();
            let connection = connections.spawn(async move {
                let service = service_fn(move |request| {
                    let state = state.clone();
                    async move { Ok::<_, Infallible>(state.answer(&request).await) }
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // An error means that the client closed the connection.
                let _ = http.serve_connection(TokioIo::new(Patient::new(stream, PATIENCE)), service).await;
            });
            open.push_back(connection);
        }
    });
    Ok(Server(task.abort_handle()))
}

struct State {
    source: Source,
    /// Time limit for an answer of the control loop.
    deadline: Duration,
    memory: Mutex<VecDeque<MemorySample>>,
    /// A permit for each long answer.
    long_answers: Arc<Semaphore>,
}

impl State {
    fn new(source: Source, deadline: Duration) -> State {
        let long_answers = Arc::new(Semaphore::new(MAX_LONG_ANSWERS));
        State { source, deadline, memory: Mutex::default(), long_answers }
    }

    /// A permit for a long response, held until it is written.
    fn begin_long_answer(&self) -> Result<OwnedSemaphorePermit, Box<Response<Body>>> {
        self.long_answers.clone().try_acquire_owned().map_err(|_| {
            let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, "too many responses in progress\n");
            busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            Box::new(busy)
        })
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this page is read-only\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/" => {
                let mut page = typed("text/html; charset=utf-8", full(PAGE));
                // Keeps text from controllers, such as errors, from becoming script.
                let policy =
                    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";
                page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
                page
            }
            "/metrics" => self.metrics(request.headers().get(header::ACCEPT)).await,
            "/api/controllers" => self.controllers().await,
            "/healthz" => self.healthz().await,
            "/readyz" => self.readyz(request.uri().query()).await,
            _ => text(StatusCode::NOT_FOUND, "not found: try /, /metrics, /healthz, /readyz or /api/controllers\n"),
        }
    }

    /// Asks the control loop, and waits for its answer.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Box<Response<Body>>> {
        let (tx, rx) = oneshot::channel();
        let unavailable = |why: &'static str| Box::new(text(StatusCode::SERVICE_UNAVAILABLE, why));
        if !self.source.started.load(Ordering::Acquire) {
            return Err(unavailable("the host is starting: packages are being installed\n"));
        }
        if !(self.source.ask)(question(tx)) {
            return Err(unavailable("the host is ending\n"));
        }
        match tokio::time::timeout(self.deadline, rx).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(unavailable("the host is ending\n")),
            Err(_) => Err(unavailable("the host's loop does not answer\n")),
        }
    }

    /// The status for a long response, and a permit.
    async fn observe(&self) -> Result<(Arc<Observed>, OwnedSemaphorePermit), Box<Response<Body>>> {
        let room = self.begin_long_answer()?;
        let observed = self.ask(Question::All).await?;
        let resident_bytes = observed.controllers.iter().map(|c| c.resident_bytes).sum();
        let now = process::wall_seconds();
        let mut memory = self.memory.lock();
        if memory.back().is_none_or(|last| now - last.timestamp_seconds >= SAMPLE_INTERVAL) {
            if memory.len() >= MAX_SAMPLES {
                memory.pop_front();
            }
            let process_bytes = process::read().resident_memory_bytes;
            memory.push_back(MemorySample { timestamp_seconds: now, process_bytes, resident_bytes });
        }
        Ok((Arc::new(observed), room))
    }

    async fn metrics(&self, accept: Option<&HeaderValue>) -> Response<Body> {
        let (observed, room) = match self.observe().await {
            Ok(observed) => observed,
            Err(response) => return *response,
        };
        let format = Format::of(accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default());
        let Source { requests, external_requests, .. } = &self.source;
        let (requests, external_requests) = (requests.clone(), external_requests.clone());
        let page = Page { observed, requests, external_requests, process: process::read() };
        let write = move |out: &mut body::Writer| page.write(format, out).map_err(io::Error::other);
        typed(format.content_type(), written(room, write))
    }

    async fn controllers(&self) -> Response<Body> {
        let (observed, room) = match self.observe().await {
            Ok(observed) => observed,
            Err(response) => return *response,
        };
        let memory = self.memory.lock().clone();
        let wall = process::wall_seconds();
        let host = HostStatus::new(&observed, wall, process::read(), memory);
        let write = move |out: &mut body::Writer| {
            use serde::ser::{SerializeStruct, Serializer};
            let mut json = serde_json::Serializer::new(out);
            let mut overview = (&mut json).serialize_struct("Overview", 2)?;
            overview.serialize_field("host", &host)?;
            overview.serialize_field("controllers", &Controllers { observed, wall })?;
            Ok(overview.end()?)
        };
        typed("application/json", written(room, write))
    }

    async fn healthz(&self) -> Response<Body> {
        // Compiling packages may take minutes, and a killed host would compile them again.
        if !self.source.started.load(Ordering::Acquire) {
            return text(StatusCode::OK, "ok: starting\n");
        }
        match self.ask(Question::Alive).await {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(response) => *response,
        }
    }

    async fn readyz(&self, query: Option<&str>) -> Response<Body> {
        let observed = match self.ask(Question::All).await {
            Ok(observed) => observed,
            Err(response) => return *response,
        };
        let reasons = observed.not_ready();
        let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let is_verbose = query.is_some_and(|query| query.split('&').any(|part| part.starts_with("verbose")));
        match (is_verbose, reasons.is_empty()) {
            (true, _) => text(status, observed.readiness()),
            (false, true) => text(status, "ok\n"),
            (false, false) => text(status, reasons.join("\n") + "\n"),
        }
    }
}

/// Serialises controllers one by one, so that the text is never in memory as a whole.
struct Controllers {
    observed: Arc<Observed>,
    wall: f64,
}

impl serde::Serialize for Controllers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Controllers { observed, wall } = self;
        serializer.collect_seq(observed.controllers.iter().map(|c| ControllerStatus::new(c, observed, *wall)))
    }
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = typed("text/plain; charset=utf-8", full(text));
    *response.status_mut() = status;
    response
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
