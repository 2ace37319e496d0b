//! The response to a request: forwarded, or wrong if a rule matches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use kube::client::Body;

use super::rule::{Fault, State};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Responds to a request, wrongly if a rule matches.
pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    if let Some(traceparent) = request.headers().get("traceparent") {
        state.lock().traceparents.push(String::from_utf8_lossy(traceparent.as_bytes()).into_owned());
    }
    let (mut limit, mut slow) = (None, None);
    match state.apply_rule(&method, &path) {
        None => {}
        Some((Fault::Delay(delay), _)) => tokio::time::sleep(delay).await,
        // The value changes with every hit. The wait fails once the rule is gone.
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

async fn forward(upstream: &kube::Client, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let (mut parts, body) = request.into_parts();
    remove_connection_headers(&mut parts.headers);
    // The upstream client sets its own headers.
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

/// Removes headers that concern a single connection.
fn remove_connection_headers(headers: &mut HeaderMap) {
    const ABOUT_CONNECTION: [HeaderName; 4] =
        [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")];
    for name in ABOUT_CONNECTION {
        headers.remove(name);
    }
}

/// A `Status` object like that of the API server.
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

pub(super) fn full(text: impl Into<Bytes>) -> ResponseBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The first `limit` bytes, then an error that drops the connection.
fn cut(body: ResponseBody, limit: usize) -> ResponseBody {
    let frames = futures::stream::try_unfold((body.into_data_stream(), limit), |(mut data, left)| async move {
        if left == 0 {
            // hyper discards unflushed bytes when a body fails.
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
