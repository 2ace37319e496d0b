//! The span of one request, and the header with which the API server continues its trace.

use std::time::Instant;

use http::HeaderValue;
use opentelemetry::KeyValue;
use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span, SpanBuilder, SpanContext, SpanKind, Status};
use wasmop_core::excerpt::excerpt;
use wasmop_core::reply::Reply;
use wasmop_package::external::{ExternalHost, ExternalTarget};

use super::{Clock, count, text};

/// The server of a request.
pub enum Peer<'a> {
    /// `path` may have a query, which the span leaves out.
    ApiServer { path: &'a str },
    /// The span leaves out the path, since that of a webhook may be a secret.
    External(&'a ExternalTarget),
}

/// A request in flight. If it is dropped before the end of its response, the span is cancelled.
pub struct RequestSpan {
    span: BoxedSpan,
    clock: Clock,
    ended: bool,
}

impl RequestSpan {
    pub(super) fn new(span: BoxedSpan, clock: Clock) -> RequestSpan {
        RequestSpan { span, clock, ended: false }
    }

    /// The `traceparent` header of the request.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        traceparent(self.span.span_context())
    }

    /// Handles a piece of the response.
    pub fn on_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Head { status, .. } => {
                self.span.set_attribute(count("http.response.status_code", u64::from(*status)));
                if *status >= 400 {
                    self.span.set_attribute(KeyValue::new("error.type", status.to_string()));
                    self.span.set_status(Status::error(""));
                }
            }
            Reply::Body(_) => {}
            Reply::End => self.end(),
            Reply::Failed(why) => self.fail("no-response", why),
            Reply::TooLarge => self.fail("response-too-large", "the response exceeds its size limit"),
        }
    }

    fn fail(&mut self, cause: &'static str, why: &str) {
        self.span.set_attribute(KeyValue::new("error.type", cause));
        self.span.set_status(Status::error(excerpt(why)));
        self.end();
    }

    fn end(&mut self) {
        self.ended = true;
        self.span.end_with_timestamp(self.clock.time(Instant::now()));
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if !self.ended {
            self.fail("cancelled", "cancelled");
        }
    }
}

/// A span by the semantic conventions for HTTP clients.
pub(super) fn builder(method: &str, peer: &Peer<'_>, api_server: &http::Uri) -> SpanBuilder {
    let method = known(method);
    let (scheme, host, port) = match peer {
        Peer::ApiServer { .. } => {
            let scheme = api_server.scheme_str().unwrap_or("https");
            let usual_port = if scheme == "http" { 80 } else { 443 };
            let host = api_server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            (scheme, host, api_server.port_u16().unwrap_or(usual_port))
        }
        Peer::External(ExternalTarget { scheme, host, port }) => {
            let host = match host {
                ExternalHost::Name(name) => name.to_string(),
                ExternalHost::Address(address) => address.to_string(),
            };
            (scheme.name(), host, *port)
        }
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.unwrap_or("_OTHER")),
        text("url.scheme", scheme),
        text("server.address", &host),
        count("server.port", u64::from(port)),
    ];
    if let Peer::ApiServer { path } = peer {
        attributes.push(self::path(path));
    }
    SpanBuilder::from_name(method.unwrap_or("HTTP")).with_kind(SpanKind::Client).with_attributes(attributes)
}

/// A known method. Methods that guests make up are left out, since each distinct value costs storage.
fn known(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method)
}

pub(super) fn method(method: &str) -> KeyValue {
    KeyValue::new("http.request.method", known(method).unwrap_or("_OTHER"))
}

/// A path without its query.
pub(super) fn path(path: &str) -> KeyValue {
    text("url.path", path.split(['?', '#']).next().unwrap_or_default())
}

/// W3C Trace Context, version 00; `None` if the trace is not sampled.
pub(super) fn traceparent(context: &SpanContext) -> Option<HeaderValue> {
    if !context.is_valid() || !context.is_sampled() {
        return None;
    }
    let flags = context.trace_flags().to_u8();
    HeaderValue::try_from(format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())).ok()
}
