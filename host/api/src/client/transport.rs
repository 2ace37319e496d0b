//! Connections to the API server: the proxy, how requests share connections, and how dead connections are detected.
//!
//! The client prefers HTTP/2, since only HTTP/2 has PINGs. A connection carries at most [`MAX_STREAMS`] requests;
//! further ones use another *lane*, a separate pool. The flow control window of a connection holds the windows of all
//! its streams, so that a response which nobody reads never blocks the others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use parking_lot::Mutex;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::CertifiedKey;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use super::certificate::Presented;
use super::{Streaming, p521, proxy};
use crate::timeouts::{
    ACKNOWLEDGE_TIMEOUT, CONNECT_TIMEOUT, PROBE_INTERVAL, PROBES, ReadDeadline, RequestLimits, timed_out,
};

/// Most requests that share a connection. Servers allow 100 and more.
const MAX_STREAMS: usize = 64;
/// Bytes that a server may send of one response before the client reads them.
const STREAM_WINDOW: u32 = 256 << 10;
/// Time after which an idle connection closes. kube's own client keeps each connection of a burst for 90 s, at some
/// 40 KB each.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most TLS sessions kept for resumption.
const SESSIONS: usize = 16;
/// Default port of a SOCKS proxy.
const SOCKS_PORT: u16 = 1080;

/// The purpose of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Everything except elections.
    General,
    /// Lease renewals, over HTTP/1.1. There a timed-out request closes its connection, so that the next attempt does
    /// not wait on a dead connection until a PING fails.
    Election,
}

impl Traffic {
    /// Most idle HTTP/1.1 connections.
    fn max_idle(self) -> usize {
        match self {
            Traffic::General => 8,
            // Each dead connection costs a renewal one of its three attempts.
            Traffic::Election => 1,
        }
    }
}

type Http = BoxCloneSyncService<Request<Body>, Response<Incoming>, hyper_util::client::legacy::Error>;

/// The configuration of connections, except for the client certificate.
pub struct Route {
    traffic: Traffic,
    limits: RequestLimits,
    tls: ClientConfig,
    server_name: Option<ServerName<'static>>,
    proxy: Option<Uri>,
}

impl Route {
    /// A route through `config.proxy_url`, if it is set.
    ///
    /// # Errors
    /// The certificate authority or the server's name is invalid.
    pub fn new(config: &kube::Config, traffic: Traffic, limits: RequestLimits) -> Result<Route, BoxError> {
        // kube uses the process's default provider, which can be installed once.
        let _ = p521::provider().as_ref().clone().install_default();
        let mut anonymous = config.clone();
        anonymous.auth_info = Default::default();
        let tls = anonymous.rustls_client_config()?;
        let server_name = config.tls_server_name.as_ref().map(|name| name.clone().try_into());
        Ok(Route { traffic, limits, tls, server_name: server_name.transpose()?, proxy: config.proxy_url.clone() })
    }

    /// Lanes that present this certificate. It opens no connection.
    pub fn lanes(&self, certificate: Option<Arc<CertifiedKey>>) -> Lanes {
        let mut tls = self.tls.clone();
        tls.client_auth_cert_resolver = Arc::new(Presented(certificate));
        // A resumed session keeps its certificate, so sessions are not shared between certificates.
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        let lane = match &self.proxy {
            None => self.lane(tls, tcp()),
            Some(proxy) => match proxy.scheme_str() {
                Some("socks5") => {
                    let socks = SocksV5::new(with_port(proxy, SOCKS_PORT), tcp());
                    match proxy::user_and_password(proxy) {
                        Some((user, password)) => self.lane(tls, socks.with_auth(user, password)),
                        None => self.lane(tls, socks),
                    }
                }
                Some("https") => {
                    let to_proxy = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
                    let to_proxy = to_proxy.enable_http1().wrap_connector(tcp());
                    self.lane(tls, with_basic_auth(Tunnel::new(proxy.clone(), to_proxy), proxy))
                }
                _ => self.lane(tls, with_basic_auth(Tunnel::new(proxy.clone(), tcp()), proxy)),
            },
        };
        Lanes { limits: self.limits, new_lane: lane, lanes: Mutex::default(), speaks_http2: AtomicBool::new(false) }
    }

    /// Makes pools of connections over `connector`.
    fn lane<C>(&self, tls: ClientConfig, connector: C) -> NewLane
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Connection + Read + Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError>,
    {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match &self.server_name {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => builder,
        };
        let https: HttpsConnector<C> = match self.traffic {
            Traffic::General => builder.enable_all_versions().wrap_connector(connector),
            Traffic::Election => builder.enable_http1().wrap_connector(connector),
        };
        let mut https = TimeoutConnector::new(https);
        https.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let (max_idle, limits) = (self.traffic.max_idle(), self.limits);
        Box::new(move || {
            let client: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(max_idle)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .http2_keep_alive_interval(limits.ping_interval)
                .http2_keep_alive_timeout(limits.ping_timeout)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS as u32)
                .build(https.clone());
            BoxCloneSyncService::new(client)
        })
    }
}

/// TCP connections with keep-alive probes.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PROBE_INTERVAL));
    tcp.set_keepalive_interval(Some(PROBE_INTERVAL));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    tcp
}

fn with_port(proxy: &Uri, port: u16) -> Uri {
    if proxy.port().is_some() {
        return proxy.clone();
    }
    let mut parts = proxy.clone().into_parts();
    parts.authority = parts.authority.and_then(|authority| format!("{authority}:{port}").parse().ok());
    Uri::from_parts(parts).unwrap_or_else(|_| proxy.clone())
}

fn with_basic_auth<C>(tunnel: Tunnel<C>, proxy: &Uri) -> Tunnel<C> {
    use base64::Engine;
    let Some((user, password)) = proxy::user_and_password(proxy) else { return tunnel };
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    match HeaderValue::try_from(format!("Basic {pair}")) {
        Ok(value) => tunnel.with_auth(value),
        Err(_) => tunnel,
    }
}

type NewLane = Box<dyn Fn() -> Http + Send + Sync>;

/// All connections that present one client certificate.
pub struct Lanes {
    limits: RequestLimits,
    new_lane: NewLane,
    lanes: Mutex<Vec<Lane>>,
    /// Whether the last response came over HTTP/2.
    speaks_http2: AtomicBool,
}

struct Lane {
    http: Http,
    /// Requests under way.
    streams: Arc<AtomicUsize>,
}

impl Lanes {
    /// Sends a request within the limits. A [`Streaming`] response over HTTP/2 may pause for any time, since PINGs
    /// detect a dead connection.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<LiveBody>, BoxError> {
        let is_streaming = request.extensions().get::<Streaming>().is_some();
        let (http, stream) = self.lane();
        let RequestLimits { response: limit, write, transfer, silent_stream, .. } = self.limits;
        let is_long_write = !request.method().is_safe() && self.speaks_http2.load(Ordering::Relaxed);
        let to_head = if is_long_write { write } else { limit };
        let answer = tokio::time::timeout(to_head, http.oneshot(request)).await;
        let response = answer.map_err(|_| timed_out("no answer", to_head))??;
        let is_http2 = response.version() >= Version::HTTP_2;
        self.speaks_http2.store(is_http2, Ordering::Relaxed);
        let deadline = match (is_streaming, is_http2) {
            (false, _) => Some(ReadDeadline::new(limit, transfer)),
            (true, false) => Some(ReadDeadline::new(silent_stream, Duration::MAX)),
            (true, true) => None,
        };
        Ok(response.map(|body| LiveBody { body, deadline, _stream: stream }))
    }

    /// A lane with room for one more stream.
    fn lane(&self) -> (Http, Stream) {
        let mut lanes = self.lanes.lock();
        let has_room = |lane: &&Lane| lane.streams.load(Ordering::Relaxed) < MAX_STREAMS;
        if let Some(lane) = lanes.iter().find(has_room) {
            let found = (lane.http.clone(), Stream::new(&lane.streams));
            // Drops the lanes of an earlier burst.
            while lanes.len() > 1 && lanes.last().is_some_and(|lane| lane.streams.load(Ordering::Relaxed) == 0) {
                lanes.pop();
            }
            return found;
        }
        let lane = Lane { http: (self.new_lane)(), streams: Arc::default() };
        let found = (lane.http.clone(), Stream::new(&lane.streams));
        lanes.push(lane);
        found
    }
}

/// A request's share of a lane.
struct Stream(Arc<AtomicUsize>);

impl Stream {
    fn new(streams: &Arc<AtomicUsize>) -> Stream {
        streams.fetch_add(1, Ordering::Relaxed);
        Stream(streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response, which fails if the server falls silent.
pub struct LiveBody {
    body: Incoming,
    /// `None` for a stream over HTTP/2, which may pause for any time.
    deadline: Option<ReadDeadline>,
    _stream: Stream,
}

impl HttpBody for LiveBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let polled = match &mut this.deadline {
            Some(deadline) => std::task::ready!(deadline.check(polled, context)),
            None => Ok(std::task::ready!(polled)),
        };
        Poll::Ready(match polled {
            Ok(frame) => frame.map(|frame| frame.map_err(io::Error::other)),
            Err(silent) => Some(Err(silent)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
