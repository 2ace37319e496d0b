//! The list and watch protocol: lists in pages or as the start of a watch, and watch events.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::AsyncBufReadExt;
use kube::api::{ListParams, WatchParams};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::MutexGuard;
use tokio::time::timeout;
use wasmop_core::excerpt::name_excerpt;
use wasmop_core::watch::{Item, WaitReason};

use super::Upstream;
use crate::caller::impersonate;
use crate::client;
use crate::timeouts::{RESPONSE_TIMEOUT, SILENT_WATCH, TRANSFER_TIMEOUT};
use crate::watch::failure::Failure;
use crate::watch::shared_watch::SharedWatch;

/// Objects in a page of metadata; client-go's and kube's page size.
const METADATA_PAGE: u32 = 500;
/// Whole objects in a page. The host holds a page as text until it has read all objects. An object may have 1.5 MiB,
/// so that 500 of them would take 750 MiB.
const OBJECT_PAGE: u32 = 50;
/// Longest time the API server keeps a watch open, seconds. kube refuses 295 and more.
const WATCH_SECONDS: u32 = 280;
/// Time after the end of a watch's time-out at which the connection counts as dead.
const WATCH_GRACE: Duration = Duration::from_secs(15);
/// Streamed lists in a row that stall before the upstream switches to pages.
const STALLED_LISTS: u32 = 2;
/// Most bytes of a line of a watch. etcd limits objects to 1.5 MiB by default.
const MAX_LINE_BYTES: usize = 64 << 20;
/// Bytes of the line buffer that are kept between events.
const KEPT_LINE_BYTES: usize = 16 << 10;

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

impl Upstream {
    fn impersonate(&self, request: &mut http::Request<Vec<u8>>) {
        if let Some(account) = &self.request.service_account {
            impersonate(account, request.headers_mut());
        }
    }

    /// Lists all objects in pages, and returns the version to watch from.
    pub(super) async fn list(&mut self, path: &str) -> Result<String, Failure> {
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
            let mut request = request.map_err(|error| Failure::new(WaitReason::Invalid, error.to_string()))?;
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

    /// Waits until the next whole object may be sent to the control loop. A watch of metadata never waits.
    async fn turn<'a>(&self, shared: &'a SharedWatch) -> Option<MutexGuard<'a, ()>> {
        match self.request.full_objects {
            true => Some(shared.flow.turn().await),
            false => None,
        }
    }

    /// Completes a list, after which the index is current at `position`.
    pub(super) fn listed(&mut self, position: String) {
        self.shared.set_position(position.parse().ok());
        self.position = Some(position);
        self.retry.listed();
        self.stalled_lists = 0;
        self.shared.synced();
    }

    /// Reads an object. `None`: it has no name or version, as with some aggregated APIs; it must not stop the watch.
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

    /// Watches until the API server ends the watch; without a position it lists first. Returns whether an event came.
    /// If there is no position afterwards, the list is incomplete.
    pub(super) async fn watch(&mut self, path: &str) -> Result<bool, Failure> {
        // Jitter keeps watches that start together from ending together.
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
        let mut request = request.map_err(|error| Failure::new(WaitReason::Invalid, error.to_string()))?;
        // Compressing each event would cost more than it saves.
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
        // An error within a watch is over only after an event arrives.
        if self.position.is_some() && self.waits_for(|cause| cause != WaitReason::Server) {
            self.shared.synced();
        }
        // HTTP/1.1 cannot distinguish a quiet watch from a dead connection, so a quiet watch restarts.
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
            read.map_err(|error| Failure::new(WaitReason::Unreachable, format!("the watch was cut: {error}")))?;
            if line.last() != Some(&b'\n') {
                // The watch ended, perhaps within an event, which the next watch repeats.
                return Ok(brought);
            }
            let turn = self.turn(&shared).await;
            has_bookmarks |= self.on_line(&line)?;
            drop(turn);
            brought = true;
            self.retry.watched();
            if self.position.is_some() && self.waits_for(|_| true) {
                self.shared.synced();
            }
        }
    }

    /// Handles a streamed list that stalls. A frozen connection stalls once; a server without support for streamed
    /// lists stalls every time, perhaps after sending objects.
    fn on_stalled_list(&mut self, brought: bool) -> Result<bool, Failure> {
        self.stalled_lists += 1;
        if brought && self.stalled_lists < STALLED_LISTS {
            return Err(Failure::timed_out("go on with a list"));
        }
        self.pages_only = true;
        Ok(brought)
    }

    /// Handles a watch event. Returns whether it is a regular bookmark.
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
        // Before the end of a list there is no position to continue from.
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
