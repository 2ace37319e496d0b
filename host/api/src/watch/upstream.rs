//! One list and watch on the API server, kept up for as long as it is wanted.
//!
//! ```text
//!  resolve ─► list ─► watch ─┬─ ended (time-out, reconnect) ─► watch from the last version
//!     ▲         ▲            ├─ 410, or failing again and again ─► list, compare
//!     └── 404 ──┴────────────┘
//! ```
//!
//! A list comes as the beginning of its watch (`sendInitialEvents`) where the API server can do that,
//! otherwise in pages.
//!
//! Every failure waits with exponential backoff and jitter, so that neither an API server that is
//! away nor a thousand watches at once lead to a storm.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::AsyncBufReadExt;
use kube::api::{ListParams, WatchParams};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout};
use wasmop_core::excerpt::{MAX_NAME_BYTES, name_excerpt};
use wasmop_core::watch::{Cause, Item, Reader, Waiting, WatchRequest};

use super::chance::Chance;
use super::discovery::Discovery;
use super::failure::{Failure, FailureCause};
use super::shared_watch::SharedWatch;
use crate::caller::impersonate;
use crate::client;
use crate::timeouts::{RESPONSE_TIMEOUT, SILENT_WATCH, TRANSFER_TIMEOUT};

/// Objects asked for at once where metadata will do; client-go's and kube's page size.
const METADATA_PAGE: u32 = 500;
/// The same for whole objects. A page is held as text until all its objects are read, and an object may have 1.5 MiB:
/// 500 of them would take 750 MiB.
const OBJECT_PAGE: u32 = 50;
/// How long the API server is to keep a watch open, seconds. kube refuses 295 and more.
const WATCH_SECONDS: u32 = 280;
/// The API server ends a watch after `WATCH_SECONDS`; if not even that arrives, the connection is
/// dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// Longest wish of the API server that is followed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// Failures in a row after which the owner is told about something that may pass by itself.
const FAILURES_TO_REPORT: u32 = 3;
/// Lists in a row that stop in the middle after which the server is taken not to know of streamed lists.
const STALLED_LISTS: u32 = 2;
/// Failures in a row after which a watch is not resumed: the API server may have come back with
/// an older state, or can't serve from that version.
const FAILURES_TO_RELIST: u32 = 5;
/// A line longer than this is not an object; etcd's limit is 1.5 MiB by default.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Kept of the line buffer between events.
const KEPT_LINE_BYTES: usize = 16 << 10;

/// How long to wait for what. Every wait is jittered by a quarter.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamTimings {
    /// After the first failure; then twice as long each time.
    pub first_delay: Duration,
    pub max_delay: Duration,
    /// Between two looks for a CRD that is not there.
    pub missing_delay: Duration,
    /// A watch that ends sooner than this, without having brought anything, did fail.
    pub short_watch: Duration,
    /// A watch that was up this long was none of a series of failures.
    pub good_watch: Duration,
    /// A watch that has had a bookmark is begun again after this time without a line. The API server sends one about
    /// every minute. PINGs do not show that it lives if a load balancer answers them.
    pub bookmark_silence: Duration,
    /// A list that comes as the beginning of a watch is given up after this time without a line.
    pub list_silence: Duration,
}

impl Default for UpstreamTimings {
    fn default() -> Self {
        UpstreamTimings {
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(5),
            missing_delay: Duration::from_secs(1),
            short_watch: Duration::from_secs(1),
            good_watch: Duration::from_secs(10),
            bookmark_silence: Duration::from_secs(90),
            list_silence: RESPONSE_TIMEOUT,
        }
    }
}

pub(super) struct Upstream {
    timings: UpstreamTimings,
    chance: Chance,
    client: kube::Client,
    discovery: Arc<Discovery>,
    request: WatchRequest,
    shared: Arc<SharedWatch>,
    reader: Reader,
    /// The resource version to watch from; `None`: list first.
    position: Option<String>,
    /// The API server serves lists as the beginning of a watch, as far as any watch of this host knows.
    streaming: Arc<AtomicBool>,
    /// Not for this resource: it is served by another server.
    pages_only: bool,
    /// Lists in a row that began as a watch and did not end.
    stalled_lists: u32,
    /// An object without name or version was told of.
    has_skipped: bool,
    /// An answer of discovery older than this has turned out to be wrong.
    discovered_after: Option<Instant>,
    /// In a row. Kept apart because a list that works says nothing about the watch after it.
    list_failures: u32,
    watch_failures: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta<'a> {
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(default, rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    metadata: ListMeta<'a>,
    /// Go writes an empty list as `null`.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark<'a> {
    #[serde(borrow)]
    metadata: ListMeta<'a>,
}

fn reader(request: &WatchRequest) -> Reader {
    Reader::new(request.full_objects.then(|| (request.api_version(), request.kind.clone())))
}

impl Upstream {
    pub fn new(
        (timings, chance): (UpstreamTimings, Chance),
        client: kube::Client,
        discovery: Arc<Discovery>,
        request: WatchRequest,
        shared: Arc<SharedWatch>,
        streaming: Arc<AtomicBool>,
    ) -> Self {
        let reader = reader(&request);
        Upstream {
            timings,
            chance,
            client,
            discovery,
            request,
            shared,
            reader,
            position: None,
            streaming,
            pages_only: false,
            stalled_lists: 0,
            has_skipped: false,
            discovered_after: None,
            list_failures: 0,
            watch_failures: 0,
        }
    }

    /// Goes on until it is aborted; returns only if the request itself is wrong.
    pub async fn run(mut self) {
        if let Err(failure) = validate(&self.request) {
            return self.wait_for(&failure);
        }
        loop {
            let shared = self.shared.clone();
            // In the order of the branches, not in a random one: a run can be repeated.
            let ended = tokio::select! {
                biased;
                ended = self.serve() => Some(ended),
                () = shared.widened() => None,
            };
            let Some(ended) = ended else {
                self.begin_whole();
                continue;
            };
            let Err(mut failure) = ended else { continue };
            if failure.cause == FailureCause::Because(Cause::Missing) {
                // In place of "404 page not found".
                failure.message = super::discovery::missing(&self.request).message;
                if let Some(reason) = self.discovery.reason(&self.request).await {
                    failure.explain(reason);
                }
            }
            if failure.cause == FailureCause::Because(Cause::Invalid) {
                return self.wait_for(&failure);
            }
            let delay = self.on_failure(&failure);
            tracing::debug!(
                resource = self.resource(),
                error = failure.message,
                delay_ms = delay.as_millis(),
                "watch failed"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Lists again, and watches, with whole objects.
    fn begin_whole(&mut self) {
        self.request.full_objects = true;
        self.reader = reader(&self.request);
        self.position = None;
        self.shared.begin_whole();
    }

    /// Follows a parent watch if there is one to follow, otherwise asks the API server until there is.
    async fn serve(&mut self) -> Result<(), Failure> {
        let path = self.resolve().await?;
        let shared = self.shared.clone();
        if self.request.further && self.is_cluster_scoped() {
            shared.finish_list();
            shared.synced();
            std::future::pending::<()>().await;
        }
        if let Some(attachment) = shared.attach() {
            attachment.ended().await;
            drop(attachment);
            self.position = shared.state().position.map(|position| position.to_string());
            return Ok(());
        }
        tokio::select! {
            biased;
            ended = self.list_or_watch(&path) => ended,
            () = shared.parent_ready() => Ok(()),
        }
    }

    async fn list_or_watch(&mut self, path: &str) -> Result<(), Failure> {
        let lists = self.position.is_none();
        if lists && (self.pages_only || !self.streaming.load(Ordering::Relaxed)) {
            let position = self.list(path).await?;
            self.listed(position);
            return Ok(());
        }
        let begun = Instant::now();
        let ended = self.watch(path).await;
        if begun.elapsed() >= self.timings.good_watch {
            self.watch_failures = 0;
        }
        let brought = ended?;
        if lists && self.position.is_none() && (self.pages_only || !self.streaming.load(Ordering::Relaxed)) {
            // It was refused: in pages, then.
            return Ok(());
        }
        if !brought && begun.elapsed() < self.timings.short_watch {
            return Err(Failure::new(Cause::Unreachable, "the API server ends watches as soon as they begin"));
        }
        Ok(())
    }

    /// Notes a failure and tells how long to wait.
    fn on_failure(&mut self, failure: &Failure) -> Duration {
        let counter = if self.position.is_none() { &mut self.list_failures } else { &mut self.watch_failures };
        *counter = counter.saturating_add(1);
        if self.watch_failures > 0 && self.watch_failures.is_multiple_of(FAILURES_TO_RELIST) {
            self.position = None;
        }
        let failures = self.list_failures.saturating_add(self.watch_failures);
        let mut delay =
            self.timings.first_delay.saturating_mul(1 << (failures - 1).min(10)).min(self.timings.max_delay);
        match failure.cause {
            FailureCause::Expired => self.position = None,
            FailureCause::Because(Cause::Missing) => {
                self.position = None;
                self.discovered_after = Some(Instant::now());
                self.shared.state().resolved = None;
                delay = self.timings.missing_delay;
            }
            _ => {}
        }
        let lasts =
            matches!(failure.cause, FailureCause::Because(Cause::Missing | Cause::Unauthorized | Cause::Forbidden));
        if lasts || failures >= FAILURES_TO_REPORT {
            self.wait_for(failure);
        }
        delay.mul_f64(self.chance.within(0.75..1.25)).max(failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }

    fn wait_for(&self, failure: &Failure) {
        let (resource, cause, message) = (self.resource(), failure.reported_cause(), failure.message.clone());
        let service_account = self.request.service_account.clone();
        self.shared.wait_for(Waiting { resource, cause, message, service_account });
    }

    fn waits_for(&self, cause: impl FnOnce(Cause) -> bool) -> bool {
        self.shared.state().waiting.as_ref().is_some_and(|waiting| cause(waiting.cause))
    }

    /// `websites.demo.wasmop.dev/v1`
    fn resource(&self) -> String {
        self.request.resource()
    }

    fn impersonate(&self, request: &mut http::Request<Vec<u8>>) {
        if let Some(account) = &self.request.service_account {
            impersonate(account, request.headers_mut());
        }
    }

    /// The path of the collection.
    async fn resolve(&mut self) -> Result<String, Failure> {
        let known = self.shared.state().resolved.clone();
        let plural = match known {
            Some(resolved) => resolved.plural,
            None => match self.discovery.resolve(&self.request, self.discovered_after).await {
                Ok(resolved) => {
                    let plural = resolved.plural.clone();
                    self.shared.state().resolved = Some(resolved);
                    plural
                }
                // An identity that must not use discovery may still watch what it was granted.
                Err(failure)
                    if failure.cause == FailureCause::Because(Cause::Forbidden) && !self.request.plural.is_empty() =>
                {
                    self.request.plural.clone()
                }
                Err(failure) => return Err(failure),
            },
        };
        let prefix = if self.request.group.is_empty() { "/api" } else { "/apis" };
        let version = self.request.api_version();
        // A limit to a namespace concerns kinds that have namespaces.
        Ok(match self.request.namespace.as_ref().filter(|_| !self.is_cluster_scoped()) {
            Some(namespace) => format!("{prefix}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{version}/{plural}"),
        })
    }

    /// Whether the kind has no namespaces, as far as is known.
    fn is_cluster_scoped(&self) -> bool {
        self.shared.state().resolved.as_ref().is_some_and(|resolved| !resolved.namespaced)
    }

    /// Lists all there is; the version to watch from.
    async fn list(&mut self, path: &str) -> Result<String, Failure> {
        let requests = kube::core::Request::new(path);
        let mut params = ListParams {
            label_selector: selector(&self.request.label_selector),
            field_selector: selector(&self.request.field_selector),
            limit: Some(if self.request.full_objects { OBJECT_PAGE } else { METADATA_PAGE }),
            ..ListParams::default()
        };
        let shared = self.shared.clone();
        shared.begin_list();
        shared.state().lists += 1;
        loop {
            let request =
                if self.request.full_objects { requests.list(&params) } else { requests.list_metadata(&params) };
            let mut request = request.map_err(|error| Failure::new(Cause::Invalid, error.to_string()))?;
            self.impersonate(&mut request);
            let page = timeout(TRANSFER_TIMEOUT, self.client.request_text(request)).await;
            let page = page.map_err(|_| Failure::timed_out("answer a list"))??;
            let Page { metadata, items } = serde_json::from_str(&page).map_err(Failure::garbled)?;
            for item in items.unwrap_or_default() {
                let _turn = self.turn(&shared).await;
                if let Some(Item { seen, labels, .. }) = self.read(item) {
                    self.shared.apply(seen, labels);
                }
            }
            params.continue_token = metadata.continue_token.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                if metadata.resource_version.is_empty() {
                    return Err(Failure::garbled("the list has no resourceVersion"));
                }
                self.shared.finish_list();
                return Ok(metadata.resource_version.into_owned());
            }
        }
    }

    /// Waits until the next whole object may be sent to the host's loop. A watch of metadata never waits.
    async fn turn<'a>(&self, shared: &'a SharedWatch) -> Option<MutexGuard<'a, ()>> {
        match self.request.full_objects {
            true => Some(shared.flow.turn().await),
            false => None,
        }
    }

    /// The list is complete, and the index is as it was at `position`.
    fn listed(&mut self, position: String) {
        self.shared.set_position(position.parse().ok());
        self.position = Some(position);
        self.list_failures = 0;
        self.stalled_lists = 0;
        self.shared.synced();
    }

    /// Reads an object. `None`: it has no name or no version, as those of some aggregated APIs. It must not stop the
    /// watch of the others.
    fn read<'a>(&mut self, object: &'a RawValue) -> Option<Item<'a>> {
        match self.reader.read(object.get()) {
            Ok(item) => Some(item),
            Err(error) => {
                if !std::mem::replace(&mut self.has_skipped, true) {
                    let error = error.to_string();
                    tracing::warn!(
                        resource = self.resource(),
                        error = name_excerpt(&error),
                        "skipping an object without a name or resource version"
                    );
                }
                None
            }
        }
    }

    /// Watches until the API server ends it, and lists before if there is no position; whether anything
    /// came. Without a position afterwards, it was not all.
    async fn watch(&mut self, path: &str) -> Result<bool, Failure> {
        // Watches that began together shall not end together.
        let seconds = WATCH_SECONDS - self.chance.within(0..WATCH_SECONDS / 5);
        let params = WatchParams {
            label_selector: selector(&self.request.label_selector),
            field_selector: selector(&self.request.field_selector),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: self.position.is_none(),
        };
        if self.position.is_none() {
            self.shared.begin_list();
        }
        let requests = kube::core::Request::new(path);
        let from = self.position.clone().unwrap_or_default();
        let request = if self.request.full_objects {
            requests.watch(&params, &from)
        } else {
            requests.watch_metadata(&params, &from)
        };
        let mut request = request.map_err(|error| Failure::new(Cause::Invalid, error.to_string()))?;
        // One compressed piece an event is more work than it saves.
        self.impersonate(&mut request);
        request.headers_mut().insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        let stream = timeout(RESPONSE_TIMEOUT, client::stream(&self.client, request)).await;
        let (version, stream) = match stream.map_err(|_| Failure::timed_out("begin a watch"))? {
            Err(kube::Error::Api(status)) if self.position.is_none() && matches!(status.code, 400 | 422) => {
                tracing::debug!(resource = self.resource(), error = status.message, "lists are not streamed");
                self.streaming.store(false, Ordering::Relaxed);
                return Ok(false);
            }
            stream => stream?,
        };
        if self.position.is_none() {
            self.shared.state().lists += 1;
        }
        let mut stream = pin!(stream);
        // What the API server does wrong inside a watch is over only when something came through.
        if self.position.is_some() && self.waits_for(|cause| cause != Cause::Server) {
            self.shared.synced();
        }
        // HTTP/1.1 cannot tell a quiet watch from a dead connection, so a quiet one is asked for again.
        let can_ping = version == http::Version::HTTP_2;
        let patience = if can_ping { Duration::from_secs(seconds.into()) + WATCH_GRACE } else { SILENT_WATCH };
        let shared = self.shared.clone();
        let mut line = Vec::new();
        let (mut brought, mut has_bookmarks) = (false, false);
        loop {
            line.clear();
            line.shrink_to(KEPT_LINE_BYTES);
            let mut limited = futures::AsyncReadExt::take(&mut stream, MAX_LINE_BYTES as u64);
            let patience = match (&self.position, has_bookmarks) {
                (None, _) => self.timings.list_silence,
                (Some(_), true) => patience.min(self.timings.bookmark_silence),
                (Some(_), false) => patience,
            };
            let read = match timeout(patience, limited.read_until(b'\n', &mut line)).await {
                Err(_) if self.position.is_none() => return self.on_stalled_list(brought),
                Err(_) if has_bookmarks || !can_ping => return Ok(brought),
                read => read.map_err(|_| Failure::timed_out("end a watch"))?,
            };
            read.map_err(|error| Failure::new(Cause::Unreachable, format!("the watch was cut: {error}")))?;
            if line.last() != Some(&b'\n') {
                // The end, perhaps in the middle of an event, which comes again with the next watch.
                return Ok(brought);
            }
            let turn = self.turn(&shared).await;
            has_bookmarks |= self.on_line(&line)?;
            drop(turn);
            brought = true;
            self.watch_failures = 0;
            if self.position.is_some() && self.waits_for(|_| true) {
                self.shared.synced();
            }
        }
    }

    /// A list that began as a watch goes no further. A server that does not know of such lists never ends one, whether
    /// it sends objects before or not; a connection that froze does so once.
    fn on_stalled_list(&mut self, brought: bool) -> Result<bool, Failure> {
        self.stalled_lists += 1;
        if brought && self.stalled_lists < STALLED_LISTS {
            return Err(Failure::timed_out("go on with a list"));
        }
        self.pages_only = true;
        Ok(brought)
    }

    /// Whether it is a bookmark that comes now and then.
    fn on_line(&mut self, line: &[u8]) -> Result<bool, Failure> {
        let text = std::str::from_utf8(line).map_err(Failure::garbled)?;
        let Line { kind, object } = serde_json::from_str(text).map_err(Failure::garbled)?;
        let version = match kind.as_ref() {
            "ADDED" | "MODIFIED" => {
                let Some(Item { seen, version, labels }) = self.read(object) else { return Ok(false) };
                self.shared.apply(seen, labels);
                version
            }
            "DELETED" => {
                let Some(Item { seen, version, .. }) = self.read(object) else { return Ok(false) };
                self.shared.delete(seen);
                version
            }
            "BOOKMARK" => {
                let Bookmark { metadata } = serde_json::from_str(object.get()).map_err(Failure::garbled)?;
                let ends_list = metadata.annotations.and_then(|a| a.initial_events_end).is_some_and(|it| it == "true");
                if self.position.is_none() && ends_list {
                    self.shared.finish_list();
                    self.listed(metadata.resource_version.into_owned());
                    return Ok(false);
                }
                metadata.resource_version
            }
            "ERROR" => return Err(serde_json::from_str::<Status>(object.get()).map_err(Failure::garbled)?.into()),
            _ => return Err(Failure::garbled(format_args!("unknown watch event {kind:?}"))),
        };
        // Before the end of a list there is nothing to go on from.
        if !version.is_empty() && self.position.is_some() {
            self.shared.set_position(version.parse().ok());
            self.position = Some(version.into_owned());
        }
        Ok(kind == "BOOKMARK")
    }
}

fn selector(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// What stands in a path comes from a guest, so it must not be able to change the path's meaning.
fn validate(request: &WatchRequest) -> Result<(), Failure> {
    let is_name = |text: &str| {
        let is_label_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        text.len() <= MAX_NAME_BYTES
            && text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_label_byte))
    };
    let optional = |text: &str| text.is_empty() || is_name(text);
    let required = |text: &str| !text.is_empty() && is_name(text);
    let problem = if !optional(&request.group) {
        format!("{:?} is not an API group", name_excerpt(&request.group))
    } else if !required(&request.version) {
        format!("{:?} is not an API version", name_excerpt(&request.version))
    } else if !optional(&request.plural) || (request.plural.is_empty() && request.kind.is_empty()) {
        format!("{:?} is not a resource's plural name", name_excerpt(&request.plural))
    } else if request.kind.len() > MAX_NAME_BYTES {
        format!("{:?} is not a kind", name_excerpt(&request.kind))
    } else if !request.namespace.as_deref().is_none_or(required) {
        format!("{:?} is not a namespace", name_excerpt(request.namespace.as_deref().unwrap_or_default()))
    } else {
        return Ok(());
    };
    Err(Failure::new(Cause::Invalid, problem))
}
