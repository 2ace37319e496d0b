//! One list and watch on the API server, which restarts until nobody needs it.
//!
//! ```text
//!  resolve ─► list ─► watch ─┬─ ended (time-out, reconnect) ─► watch from the last version
//!     ▲         ▲            ├─ 410, or repeated failures ───► list, compare
//!     └── 404 ──┴────────────┘
//!
//!  list_watch     the protocol              retry  backoff and relists
//!  request_check  names that are safe in a path
//! ```
//!
//! A list comes as the start of its watch (`sendInitialEvents`) where the API server supports it, otherwise in pages.
//!
//! Every failure waits with exponential backoff and jitter, so that neither an outage of the API server nor a thousand
//! watches at once cause a storm of requests.

mod list_watch;
mod request_check;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wasmop_core::watch::{Reader, WaitReason, Waiting, WatchRequest};

use self::request_check::check;
use self::retry::Retry;
pub(super) use self::retry::UpstreamTimings;
use super::chance::Chance;
use super::discovery::Discovery;
use super::failure::{Failure, FailureCause};
use super::shared_watch::SharedWatch;

/// The task that lists and watches for a [`SharedWatch`].
pub(super) struct Upstream {
    timings: UpstreamTimings,
    retry: Retry,
    chance: Chance,
    client: kube::Client,
    discovery: Arc<Discovery>,
    request: WatchRequest,
    shared: Arc<SharedWatch>,
    reader: Reader,
    /// The resource version to watch from; `None`: list first.
    position: Option<String>,
    /// Whether the API server supports streamed lists, as far as any watch of this host knows.
    streaming: Arc<AtomicBool>,
    /// List this resource in pages only: another server serves it.
    pages_only: bool,
    /// Streamed lists in a row that stalled.
    stalled_lists: u32,
    /// The warning about skipped objects was logged.
    has_skipped: bool,
    /// Discovery answers older than this are wrong.
    discovered_after: Option<Instant>,
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
            retry: Retry::new(timings),
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
        }
    }

    /// Runs until it is aborted. It returns only if the request is invalid.
    pub async fn run(mut self) {
        if let Err(failure) = check(&self.request) {
            return self.wait_for(&failure);
        }
        loop {
            let shared = self.shared.clone();
            // Polling in a fixed order makes runs repeatable.
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
            if failure.cause == FailureCause::Because(WaitReason::Missing) {
                // Replaces "404 page not found".
                failure.message = super::discovery::missing(&self.request).message;
                if let Some(reason) = self.discovery.reason(&self.request).await {
                    failure.explain(reason);
                }
            }
            if failure.cause == FailureCause::Because(WaitReason::Invalid) {
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

    /// Switches the list and watch to whole objects.
    fn begin_whole(&mut self) {
        self.request.full_objects = true;
        self.reader = reader(&self.request);
        self.position = None;
        self.shared.begin_whole();
    }

    /// Attaches to a parent watch if one is ready; otherwise lists and watches until one is.
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
            self.retry.watched();
        }
        let brought = ended?;
        if lists && self.position.is_none() && (self.pages_only || !self.streaming.load(Ordering::Relaxed)) {
            // The API server refused a streamed list, so the next list comes in pages.
            return Ok(());
        }
        if !brought && begun.elapsed() < self.timings.short_watch {
            return Err(Failure::new(WaitReason::Unreachable, "the API server ends watches as soon as they begin"));
        }
        Ok(())
    }

    /// Handles a failure, and returns how long to wait.
    fn on_failure(&mut self, failure: &Failure) -> Duration {
        let next = self.retry.failed(failure, self.position.is_none());
        if next.relist {
            self.position = None;
        }
        if next.rediscover {
            self.discovered_after = Some(Instant::now());
            self.shared.state().resolved = None;
        }
        if next.report {
            self.wait_for(failure);
        }
        next.delay.mul_f64(self.chance.within(0.75..1.25)).max(next.at_least)
    }

    fn wait_for(&self, failure: &Failure) {
        let (resource, cause, message) = (self.resource(), failure.reported_cause(), failure.message.clone());
        let service_account = self.request.service_account.clone();
        self.shared.wait_for(Waiting { resource, cause, message, service_account });
    }

    fn waits_for(&self, cause: impl FnOnce(WaitReason) -> bool) -> bool {
        self.shared.state().waiting.as_ref().is_some_and(|waiting| cause(waiting.cause))
    }

    /// `websites.demo.wasmop.dev/v1`
    fn resource(&self) -> String {
        self.request.resource()
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
                // An identity without access to discovery may still watch granted resources.
                Err(failure)
                    if failure.cause == FailureCause::Because(WaitReason::Forbidden)
                        && !self.request.plural.is_empty() =>
                {
                    self.request.plural.clone()
                }
                Err(failure) => return Err(failure),
            },
        };
        let prefix = if self.request.group.is_empty() { "/api" } else { "/apis" };
        let version = self.request.api_version();
        // A limit to a namespace applies only to kinds that have namespaces.
        Ok(match self.request.namespace.as_ref().filter(|_| !self.is_cluster_scoped()) {
            Some(namespace) => format!("{prefix}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{version}/{plural}"),
        })
    }

    /// Whether the kind is known to have no namespaces.
    fn is_cluster_scoped(&self) -> bool {
        self.shared.state().resolved.as_ref().is_some_and(|resolved| !resolved.namespaced)
    }
}
