//! Turns a guest's call into a request to the API server, and the response into pieces that the guest gets as events.
//!
//! * A unary response of up to 64 KiB is one batch, so the guest resumes once for it.
//! * A stream (a watch, a followed log) passes on what has arrived as soon as a read would block.
//! * A credit bounds the bytes that the guest has not taken yet. When the credit is used up, the host stops reading
//!   from the connection, and TCP makes the API server wait.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::Semaphore;
use wasmop_core::election::Fence;
use wasmop_core::permissions::is_stream;
use wasmop_core::reply::{CHUNK_BYTES, Reply};

use crate::caller::Caller;
use crate::client::Streaming;
use crate::connections::Connection;
use crate::election::boot_clock;
use crate::error_chain::chain;

/// Response headers that the guest gets.
const RESPONSE_HEADERS: [HeaderName; 4] = [CONTENT_TYPE, RETRY_AFTER, WARNING, HeaderName::from_static("audit-id")];

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request of a guest that has passed the permission check.
#[derive(Clone, Debug, Default)]
pub struct ApiCall {
    /// An HTTP method, in upper case.
    pub method: String,
    /// Absolute path with query.
    pub path: String,
    /// Lines `name: value\n`. Only `accept` and `content-type` are sent.
    pub headers: String,
    /// The request's body, which may be empty.
    pub body: Bytes,
    /// The host's trace, so that the API server can continue it. External hosts do not get it.
    pub traceparent: Option<HeaderValue>,
}

/// Limits of one response.
pub struct Allowance {
    /// Bytes that may wait undelivered. Each byte of a `Reply::Body` and of the headers of a `Reply::Head` takes a
    /// permit; the receiver adds them back on delivery. Closing the semaphore ends the call.
    pub credit: Arc<Semaphore>,
    /// Released while the response waits for credit; `None` for a stream.
    pub connection: Option<Connection>,
    /// Size limit of a body that is not a stream.
    pub max_bytes: u64,
}

/// Makes the call as `caller` and passes the response to `send` in batches; each batch is worth one resume.
/// Dropping the future cancels the call.
pub async fn execute(
    client: &kube::Client,
    caller: Caller,
    call: ApiCall,
    allowance: Allowance,
    mut send: impl FnMut(Vec<Reply>),
) {
    let stream = is_stream(&call.method, &call.path);
    let mut request = match request(caller, call) {
        Ok(request) => request,
        Err(problem) => return send(vec![Reply::Failed(problem)]),
    };
    if stream {
        request.extensions_mut().insert(Streaming);
    }
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) => return send(vec![Reply::Failed(chain(&error))]),
    };
    let headers = response.headers();
    let names = RESPONSE_HEADERS;
    let passed = names.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let headers = header_lines(passed);
    deliver(response, headers, stream, allowance, send).await;
}

/// Passes a response with these header lines to `send`, as [`execute`] does.
pub async fn deliver<B>(
    response: http::Response<B>,
    headers: String,
    stream: bool,
    allowance: Allowance,
    mut send: impl FnMut(Vec<Reply>),
) where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error,
{
    let (parts, mut body) = response.into_parts();
    let mut left = if stream { u64::MAX } else { allowance.max_bytes };
    if body.size_hint().lower() > left {
        return send(vec![Reply::TooLarge]);
    }
    if headers.len() > CHUNK_BYTES {
        return send(vec![Reply::Failed(format!("the headers of the response have more than {CHUNK_BYTES} bytes"))]);
    }
    let unpaid = headers.len();
    let head = Reply::Head { status: parts.status.as_u16(), headers };
    let mut out = Outbox { pending: vec![head], unpaid, buffer: BytesMut::new(), allowance };
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                if stream && out.flush(&mut send).await.is_none() {
                    return;
                }
                body.frame().await
            }
        };
        match frame {
            Some(Ok(frame)) => {
                // Guests get no trailers.
                let Ok(data) = frame.into_data() else { continue };
                match left.checked_sub(data.len() as u64) {
                    Some(rest) => left = rest,
                    None => return send(vec![Reply::TooLarge]),
                }
                if out.push(data, &mut send).await.is_none() {
                    return;
                }
            }
            Some(Err(error)) => {
                if stream {
                    // Complete watch events that have arrived stay useful to the guest.
                    let _ = out.flush(&mut send).await;
                }
                return send(vec![Reply::Failed(format!("the response was cut: {}", chain(&error)))]);
            }
            None => {
                if out.take_buffer().await.is_none() {
                    return;
                }
                out.pending.push(Reply::End);
                return send(out.pending);
            }
        }
    }
}

/// Runs a call while the fence holds. It checks the fence before the call can send or pass on anything; bytes on
/// their way are not recalled.
pub async fn fenced(fence: Option<Arc<Fence>>, call: impl Future<Output = ()>) {
    fenced_by(boot_clock::now, fence, call).await;
}

/// As [`fenced`], by another clock than the machine's.
pub async fn fenced_by(clock: impl Fn() -> Duration, fence: Option<Arc<Fence>>, call: impl Future<Output = ()>) {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|context| match &fence {
        Some(fence) if !fence.holds(clock()) => Poll::Ready(()),
        _ => call.as_mut().poll(context),
    })
    .await;
}

/// Replies that were read but not passed on yet.
struct Outbox {
    pending: Vec<Reply>,
    /// Bytes of `pending` for which no credit has been taken.
    unpaid: usize,
    buffer: BytesMut,
    allowance: Allowance,
}

impl Outbox {
    /// Adds data, and passes on each full chunk. `None`: the call was cancelled.
    async fn push(&mut self, mut data: Bytes, send: &mut impl FnMut(Vec<Reply>)) -> Option<()> {
        while self.buffer.len() + data.len() > CHUNK_BYTES {
            let piece = data.split_to(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&piece);
            self.flush(send).await?;
        }
        self.buffer.extend_from_slice(&data);
        Some(())
    }

    /// Passes on everything that is pending.
    async fn flush(&mut self, send: &mut impl FnMut(Vec<Reply>)) -> Option<()> {
        self.take_buffer().await?;
        if !self.pending.is_empty() {
            send(std::mem::take(&mut self.pending));
        }
        Some(())
    }

    /// Turns the buffer into a reply once there is credit for the buffer and the pending headers.
    async fn take_buffer(&mut self) -> Option<()> {
        let bytes = self.buffer.split().freeze();
        // Two chunks at most, so it fits.
        let permits = u32::try_from(bytes.len() + std::mem::take(&mut self.unpaid)).unwrap_or(u32::MAX);
        if permits > 0 {
            let credit = self.allowance.credit.acquire_many(permits);
            let taken = match &mut self.allowance.connection {
                Some(connection) => connection.leave_for(credit).await,
                None => credit.await,
            };
            taken.ok()?.forget();
        }
        if !bytes.is_empty() {
            self.pending.push(Reply::Body(bytes));
        }
        Some(())
    }
}

fn request(caller: Caller, call: ApiCall) -> Result<http::Request<Body>, String> {
    let method =
        http::Method::from_bytes(call.method.as_bytes()).map_err(|_| format!("{:?} is not a method", call.method))?;
    // The client prepends the API server's address.
    let uri: http::Uri = call.path.parse().map_err(|error| format!("{:?} is not a path: {error}", call.path))?;
    if uri.authority().is_some() || !call.path.starts_with('/') || call.path.starts_with("//") {
        return Err(format!("{:?} is not a path", call.path));
    }
    let mut request = http::Request::new(Body::from(call.body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for line in call.headers.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = match name.trim() {
            name if name.eq_ignore_ascii_case("accept") => ACCEPT,
            name if name.eq_ignore_ascii_case("content-type") => CONTENT_TYPE,
            _ => continue,
        };
        let value =
            HeaderValue::from_str(value.trim()).map_err(|_| format!("the value of the header {name} is malformed"))?;
        request.headers_mut().insert(name, value);
    }
    caller.put(request.headers_mut());
    if let Some(traceparent) = call.traceparent {
        request.headers_mut().insert(TRACEPARENT, traceparent);
    }
    Ok(request)
}

/// Lines `name: value\n`.
pub(crate) fn header_lines<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> String {
    let mut lines = String::new();
    for (name, value) in headers {
        lines.push_str(name.as_str());
        lines.push_str(": ");
        lines.push_str(&String::from_utf8_lossy(value.as_bytes()));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
