//! A connection of a watch as a sequence of lines.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, FutureExt};
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderValue, USER_AGENT};
use tokio::time::timeout;
use wasmop_core::guest_watch::Position;

use super::Key;
use crate::caller::impersonate;
use crate::client;
use crate::error_chain::chain;
use crate::timeouts::{RESPONSE_TIMEOUT, SILENT_WATCH};

/// How long the API server keeps a watch open, in seconds; client-go asks for 300 to 600.
const WATCH_SECONDS: std::ops::Range<u32> = 300..600;
/// Time after the end of a watch's time-out at which the connection counts as dead.
const GRACE: Duration = Duration::from_secs(15);
/// Most bytes of a line. etcd limits objects to 1.5 MiB by default.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Why a watch did not begin.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// The API server refuses it with this `Status`.
    Refused { code: u16, status: Bytes },
    /// It may be tried again: why.
    Unreachable(String),
}

/// An open watch.
pub(super) struct Lines {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The beginning of the next line.
    partial: Vec<u8>,
    /// A connection that is silent for longer is dead.
    patience: Duration,
}

impl Lines {
    /// Sends the request.
    pub async fn open(
        client: &kube::Client,
        key: &Key,
        position: &Position,
        user_agent: Option<&HeaderValue>,
    ) -> Result<Lines, NotOpened> {
        let seconds = rand::random_range(WATCH_SECONDS);
        let mut request = http::Request::new(Vec::new());
        let unreachable = |error: &dyn std::fmt::Display| NotOpened::Unreachable(error.to_string());
        *request.uri_mut() = key.stream.request(position, seconds).parse().map_err(|error| unreachable(&error))?;
        let headers = request.headers_mut();
        let accept = HeaderValue::from_str(&key.stream.accept).map_err(|error| unreachable(&error))?;
        headers.insert(ACCEPT, accept);
        // Compressing each event would cost more than it saves.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(user_agent) = user_agent {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        if let Some(account) = &key.service_account {
            impersonate(account, headers);
        }
        let opened = timeout(RESPONSE_TIMEOUT, client::stream(client, request)).await;
        match opened {
            Err(_) => Err(NotOpened::Unreachable("the API server did not answer in time".into())),
            Ok(Err(kube::Error::Api(status))) => {
                let bytes = serde_json::to_vec(&status).unwrap_or_default();
                Err(NotOpened::Refused { code: status.code, status: bytes.into() })
            }
            Ok(Err(error)) => Err(NotOpened::Unreachable(chain(&error))),
            Ok(Ok((version, stream))) => {
                // HTTP/1.1 cannot distinguish a quiet watch from a dead connection.
                let can_ping = version == http::Version::HTTP_2;
                let patience = if can_ping { Duration::from_secs(seconds.into()) + GRACE } else { SILENT_WATCH };
                Ok(Lines { stream: Box::pin(stream), partial: Vec::new(), patience })
            }
        }
    }

    /// The next line with its newline. `None`: the watch has ended, or its connection is dead. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let left = (MAX_LINE_BYTES.saturating_sub(self.partial.len())) as u64;
            let mut limited = futures::AsyncReadExt::take(&mut self.stream, left);
            // What it has read stays in `partial` if it is cancelled.
            limited.read_until(b'\n', &mut self.partial).await
        };
        timeout(self.patience, read).await.ok()?.ok()?;
        // An event in which the connection was cut comes again with the next one.
        (self.partial.last() == Some(&b'\n')).then(|| std::mem::take(&mut self.partial))
    }

    /// The next line, if it is here already.
    pub fn next_now(&mut self) -> Option<Vec<u8>> {
        self.next().now_or_never()?
    }
}
