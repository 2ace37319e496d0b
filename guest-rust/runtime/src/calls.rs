//! Turns HTTP requests into calls of the host, and the host's events into streaming responses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};

use crate::error_chain::describe;
use crate::{BoxError, abi, headers, tasks};

/// A service that sends requests to the API server through the host. Each request is one call.
#[derive(Clone, Copy, Debug)]
pub struct HostService;

/// Why a call has no response, or an incomplete one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError(String);

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}

/// The status and headers of a response.
struct ResponseHead {
    status: u16,
    headers: HeaderMap,
}

/// An open call and where its events go.
struct OpenCall {
    /// `None` after the head, or a failure in its place, has been delivered.
    head: Option<oneshot::Sender<Result<ResponseHead, CallError>>>,
    body: mpsc::UnboundedSender<Result<Bytes, CallError>>,
}

/// Invariant: a call is in `open` until the host's last event for it or until its [`CallGuard`] is dropped, whichever
/// comes first.
#[derive(Default)]
struct Calls {
    last_id: u64,
    open: HashMap<u64, OpenCall>,
}

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

/// Cancels the call when its response is dropped.
#[derive(Debug)]
struct CallGuard {
    id: u64,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let open = CALLS.with_borrow_mut(|calls| calls.open.remove(&self.id));
        if open.is_some() {
            abi::drop_call(self.id);
        }
    }
}

/// The streaming body of a response.
#[derive(Debug)]
pub struct ResponseBody {
    chunks: mpsc::UnboundedReceiver<Result<Bytes, CallError>>,
    _guard: CallGuard,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let chunk = ready!(self.get_mut().chunks.poll_recv(context));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(BoxError::from)))
    }
}

impl<B> tower_service::Service<Request<B>> for HostService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // `kube::Client` calls its service from a separate task. The call starts when the future is polled, which
        // happens in the task that waits for the response.
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let call = abi::Call {
                target: "",
                method: parts.method.as_str(),
                path,
                headers: &headers::to_lines(&parts.headers),
                body: &body,
            };
            send(&call).await
        })
    }
}

/// Sends a request to an external host and reads the complete response. `target` is a scheme and an authority.
///
/// # Errors
///
/// Fails if a header is not visible ASCII, and if the host has no complete response.
pub async fn fetch(target: &str, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
    let fail = |error: BoxError| CallError(describe(&*error));
    let (parts, body) = request.into_parts();
    let (parts, body) = open(target, &parts, &body).await.map_err(fail)?.into_parts();
    Ok(Response::from_parts(parts, body.collect().await.map_err(fail)?.to_bytes()))
}

/// Sends a request to an external host. `target` is a scheme and an authority, or empty for the API server.
///
/// # Errors
///
/// Fails if a header is not visible ASCII, and if the host has no response.
pub async fn open(target: &str, request: &Parts, body: &[u8]) -> Result<Response<ResponseBody>, BoxError> {
    let headers = match target {
        "" => headers::to_lines(&request.headers),
        _ => headers::all_to_lines(&request.headers)
            .map_err(|name| CallError(format!("the value of the header {name} is not visible ASCII")))?,
    };
    let path = request.uri.to_string();
    send(&abi::Call { target, method: request.method.as_str(), path: &path, headers: &headers, body }).await
}

async fn send(call: &abi::Call<'_>) -> Result<Response<ResponseBody>, BoxError> {
    let (head, mut response) = start(call);
    let head = head.await.unwrap_or_else(|_| Err(CallError("the host ended the call without a response".into())))?;
    *response.status_mut() = StatusCode::from_u16(head.status)?;
    *response.headers_mut() = head.headers;
    Ok(response)
}

fn start(call: &abi::Call<'_>) -> (oneshot::Receiver<Result<ResponseHead, CallError>>, Response<ResponseBody>) {
    let (head_sender, head) = oneshot::channel();
    let (body, chunks) = mpsc::unbounded_channel();
    let id = CALLS.with_borrow_mut(|calls| {
        calls.last_id += 1;
        calls.open.insert(calls.last_id, OpenCall { head: Some(head_sender), body });
        calls.last_id
    });
    abi::call(id, tasks::current(), call);
    (head, Response::new(ResponseBody { chunks, _guard: CallGuard { id } }))
}

/// Handles the host's `head` event.
pub fn on_head(id: u64, status: u32, lines: &[u8]) {
    let status = u16::try_from(status).unwrap_or_default();
    let headers = headers::from_lines(&String::from_utf8_lossy(lines));
    CALLS.with_borrow_mut(|calls| {
        // Sending fails if the receiver was dropped. Then the response is not needed.
        if let Some(sender) = calls.open.get_mut(&id).and_then(|open| open.head.take()) {
            let _ = sender.send(Ok(ResponseHead { status, headers }));
        }
    });
}

/// Handles the host's `body` event.
pub fn on_body(id: u64, chunk: Vec<u8>) {
    CALLS.with_borrow(|calls| {
        if let Some(open) = calls.open.get(&id) {
            let _ = open.body.send(Ok(chunk.into()));
        }
    });
}

/// Handles the host's `end` event.
pub fn on_end(id: u64) {
    // Dropping the sender ends the body.
    drop(CALLS.with_borrow_mut(|calls| calls.open.remove(&id)));
}

/// Handles the host's `failed` event.
pub fn on_failed(id: u64, why: &[u8]) {
    let Some(mut open) = CALLS.with_borrow_mut(|calls| calls.open.remove(&id)) else { return };
    let failed = CallError(String::from_utf8_lossy(why).into_owned());
    match open.head.take() {
        Some(head) => {
            let _ = head.send(Err(failed));
        }
        None => {
            let _ = open.body.send(Err(failed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::Empty;
    use tower_service::Service;

    fn get() -> BoxFuture<'static, Result<Response<ResponseBody>, BoxError>> {
        let request = Request::get("/api/v1/pods?watch=true").header("accept", "a/b").body(Empty::<Bytes>::new());
        HostService.call(request.expect("a request"))
    }

    fn frame(body: &mut ResponseBody) -> Option<Option<Result<Bytes, String>>> {
        let frame = body.frame().now_or_never()?;
        Some(frame.map(|frame| frame.map(|frame| frame.into_data().expect("data")).map_err(|error| error.to_string())))
    }

    #[test]
    fn a_response_body_streams_as_its_events_arrive() {
        let mut call = get();
        assert!(abi::recorded().is_empty(), "a call starts only when its future is polled");
        assert!((&mut call).now_or_never().is_none());
        assert_eq!(abi::recorded(), [r#"call 1 task 0 GET /api/v1/pods?watch=true "accept: a/b\n" "#]);

        on_head(1, 200, b"content-type: application/json\n");
        let response = call.now_or_never().expect("a head").expect("no failure");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        let mut body = response.into_body();
        assert!(frame(&mut body).is_none());
        on_body(1, b"one".to_vec());
        on_body(1, b"two".to_vec());
        assert_eq!(frame(&mut body), Some(Some(Ok("one".into()))));
        on_end(1);
        assert_eq!(frame(&mut body), Some(Some(Ok("two".into()))));
        assert_eq!(frame(&mut body), Some(None));
        drop(body);
        assert!(abi::recorded().is_empty(), "a completed call needs no drop-call");
    }

    #[test]
    fn dropping_a_response_drops_the_call() {
        let mut waiting_for_head = get();
        assert!((&mut waiting_for_head).now_or_never().is_none());
        drop(waiting_for_head);
        let mut reading_body = get();
        assert!((&mut reading_body).now_or_never().is_none());
        on_head(2, 200, b"");
        drop(reading_body.now_or_never());
        let calls = abi::recorded();
        assert_eq!([&calls[1], &calls[3]], ["drop-call 1", "drop-call 2"]);
        // Events that the host sent before it received the drop-call.
        on_head(1, 200, b"");
        on_body(2, b"late".to_vec());
        on_end(2);
        on_failed(1, b"late");
        assert!(abi::recorded().is_empty());
    }

    #[test]
    fn a_failure_is_an_error_of_the_request_or_of_the_response_body() {
        let mut call = get();
        assert!((&mut call).now_or_never().is_none());
        on_failed(1, b"host restarted");
        let error = call.now_or_never().expect("ready").expect_err("failed");
        assert_eq!(error.to_string(), "host restarted");

        let mut call = get();
        assert!((&mut call).now_or_never().is_none());
        on_head(2, 200, b"");
        on_body(2, b"half".to_vec());
        on_failed(2, b"reset");
        let mut body = call.now_or_never().expect("ready").expect("a head").into_body();
        assert_eq!(frame(&mut body), Some(Some(Ok("half".into()))));
        assert_eq!(frame(&mut body), Some(Some(Err("reset".into()))));
        assert_eq!(frame(&mut body), Some(None));
    }

    #[test]
    fn a_call_names_its_task() {
        let mut call = Box::pin(tasks::within(9, get()));
        assert!((&mut call).now_or_never().is_none());
        assert!(abi::recorded().iter().any(|line| line.starts_with("call 1 task 9 GET")));
    }
}
