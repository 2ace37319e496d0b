//! The simulated API server as a service that a client sends requests to, with the network in between.
//!
//! ```text
//! request ─► pause, cut off ─► down? ─► on its way ─► refused? ─► carried out ─► lost? ─► on its way back
//! ```

mod routes;
mod selection;
mod told;
mod watch_stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use self::routes::Answer;
use self::told::Told;
use crate::cluster::{Cluster, Object, Refusal};
use crate::faults::{Fault, Faults};
use crate::observer::Observer;
use crate::random::Random;

/// What a response consists of.
pub type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// How long a client waits for an answer; `wasmop_api::timeouts::RESPONSE_TIMEOUT`.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(35);
/// Fault percentages while a fault lasts.
const ERROR_PERCENT: u32 = 40;
const LOSS_PERCENT: u32 = 30;

/// What an API server is like, for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Lists come as the beginning of a watch.
    pub streams_lists: bool,
    /// Connections are HTTP/2.
    pub is_http2: bool,
    /// Most objects on a page of a list.
    pub page: usize,
    /// Between bookmarks of a watch.
    pub bookmarks: Duration,
    /// Longest way of a request or an answer while all is well.
    pub latency: Duration,
}

/// Pages of lists that are yet to be asked for: the resource version and the objects of each.
type Pages = BTreeMap<String, (u64, Vec<Arc<Object>>)>;

/// The API server of a run.
pub struct Server {
    /// What it has.
    cluster: Mutex<Cluster>,
    faults: Mutex<Faults>,
    random: Mutex<Random>,
    pages: Mutex<Pages>,
    told: Mutex<Told>,
    traits: Traits,
    begun: Instant,
    /// Something is to be told to watches: a change or a fault.
    changed: Notify,
    observer: Arc<Observer>,
    /// Some writes are acknowledged and not carried out: a planted bug.
    drops_writes: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// A server without objects.
    pub fn new(traits: Traits, random: Random, observer: Arc<Observer>, drops_writes: bool) -> Arc<Server> {
        Arc::new(Server {
            cluster: Mutex::default(),
            faults: Mutex::default(),
            random: Mutex::new(random),
            pages: Mutex::default(),
            told: Mutex::default(),
            traits,
            begun: Instant::now(),
            changed: Notify::new(),
            observer,
            drops_writes,
        })
    }

    /// The time in the world.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What it has.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        lock(&self.cluster)
    }

    /// What is wrong with it.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// Changes objects, and tells watches.
    pub fn change<T>(&self, change: impl FnOnce(&mut Cluster, Duration) -> T) -> T {
        let result = change(&mut self.cluster(), self.now());
        self.changed.notify_waiters();
        result
    }

    /// Restores etcd from its last checkpoint; `bumps`: with revisions that nobody has seen. Whether there was one.
    pub fn restore(&self, bumps: bool) -> bool {
        let restored = self.change(|cluster, now| cluster.restore(bumps, now));
        if restored {
            // A restarted API server serves no further page of a list that began before the restart.
            lock(&self.pages).clear();
        }
        restored
    }

    /// Changes what is wrong, and has watches notice.
    pub fn disturb(&self, disturb: impl FnOnce(&mut Faults, Duration)) {
        disturb(&mut self.faults(), self.now());
        self.changed.notify_waiters();
    }

    /// A client of a host.
    pub fn client(self: &Arc<Server>, host: usize) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(host, request).await }
        });
        kube::Client::new(service, "default")
    }

    /// A host starts.
    pub fn on_start(&self, host: usize) {
        lock(&self.told).forget(host);
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults().has(fault, self.now())
    }

    fn percent(&self, percent: u32) -> bool {
        lock(&self.random).percent(percent)
    }

    fn draw(&self, least: Duration, most: Duration) -> Duration {
        lock(&self.random).duration(least, most)
    }

    /// Waits until a host that is paused goes on.
    pub async fn go_on(&self, host: usize) {
        loop {
            let until = self.faults().paused_until(host);
            let Some(left) = until.checked_sub(self.now()).filter(|left| !left.is_zero()) else { return };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = sleep(left) => {}
            }
        }
    }

    /// The way to the server and back, for one direction.
    async fn travel(&self, host: usize) -> io::Result<()> {
        let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "simulated: no answer within 35 s");
        let cut_off = self.faults().cut_off_until(host).saturating_sub(self.now());
        if cut_off >= CLIENT_TIMEOUT {
            sleep(CLIENT_TIMEOUT).await;
            return Err(timed_out());
        }
        sleep(cut_off).await;
        let time = match self.has(Fault::Slow) {
            true => self.draw(Duration::from_millis(50), Duration::from_secs(60)),
            false => self.draw(Duration::from_millis(1), self.traits.latency),
        };
        sleep(time.min(CLIENT_TIMEOUT)).await;
        if time > CLIENT_TIMEOUT { Err(timed_out()) } else { Ok(()) }
    }

    async fn serve(self: Arc<Server>, host: usize, request: Request<Body>) -> io::Result<Response<ResponseBody>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        self.go_on(host).await;
        self.travel(host).await?;
        if self.has(Fault::Down) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "simulated: connection refused"));
        }
        let is_write = parts.method != Method::GET;
        let refusal = if self.has(Fault::Errors) && self.percent(ERROR_PERCENT) { Some(self.refusal()) } else { None };
        let lost = self.has(Fault::LostAnswers) && self.percent(LOSS_PERCENT);
        let answer = match refusal {
            // A gateway gives up, and what is behind it does not know.
            Some(refusal) if refusal.code == 504 && is_write && self.percent(50) => {
                self.carry_out(host, &parts, &body);
                Answer::Refused(refusal)
            }
            Some(refusal) => Answer::Refused(refusal),
            None => self.carry_out(host, &parts, &body),
        };
        if lost {
            if self.percent(50) {
                sleep(CLIENT_TIMEOUT).await;
            }
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "simulated: the connection was reset"));
        }
        self.travel(host).await?;
        self.go_on(host).await;
        Ok(self.respond(host, answer))
    }

    fn refusal(&self) -> Refusal {
        let all = [(500, "InternalError"), (503, "ServiceUnavailable"), (504, "Timeout"), (429, "TooManyRequests")];
        let (code, reason) = *lock(&self.random).pick(&all);
        Refusal::new(code, reason)
    }

    fn respond(self: &Arc<Server>, host: usize, answer: Answer) -> Response<ResponseBody> {
        let full = |text: String| {
            let bytes = Bytes::from(text);
            // A connection may be cut in the middle of an answer.
            if self.has(Fault::LostAnswers) && self.percent(LOSS_PERCENT / 2) {
                let half = bytes.slice(..bytes.len() / 2);
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "simulated: the connection was cut");
                let frames = [Ok(http_body::Frame::data(half)), Err(cut)];
                return StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
            }
            Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
        };
        let (status, body) = match answer {
            Answer::Text(status, text) => (status, full(text)),
            Answer::Refused(refusal) => (refusal.code, full(status_json(&refusal))),
            Answer::Watch(watch) => (200, watch_stream::body(self.clone(), host, *watch)),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.version_mut() = if self.traits.is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        if status == 429 {
            headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// A refusal as the API server writes it.
pub fn status_json(refusal: &Refusal) -> String {
    let Refusal { code, reason, message } = refusal;
    let details = if *code == 429 { json!({"retryAfterSeconds": 1}) } else { json!({}) };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    })
    .to_string()
}
