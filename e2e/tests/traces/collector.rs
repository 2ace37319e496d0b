//! A collector on loopback that accepts OTLP over HTTP and keeps the spans, or one that never responds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as Sent, span::SpanKind};
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::Instant;
use wasmop_e2e::test_cluster::TIMEOUT;
use wasmop_e2e::tls_identity::TlsIdentity;

const POLL: Duration = Duration::from_millis(20);

/// A span as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for a root span.
    pub parent: String,
    pub is_client: bool,
    /// Nanoseconds since the epoch.
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// The names of its events.
    pub events: Vec<String>,
    /// The ids of linked spans.
    pub links: Vec<String>,
    /// The message of an error status.
    pub error: Option<String>,
}

impl Span {
    pub fn is(&self, key: &str, value: &str) -> bool {
        self.attributes.get(key).is_some_and(|it| it == value)
    }

    pub fn is_within(&self, outer: &Span) -> bool {
        outer.start <= self.start && self.start <= self.end && self.end <= outer.end
    }
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    /// The path and the header `x-api-key` of each request.
    requests: Vec<(String, String)>,
}

pub struct Collector {
    pub port: u16,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    pub async fn start() -> Result<Collector> {
        Self::start_as(None, true).await
    }

    /// Starts a collector that serves TLS as `localhost`.
    pub async fn secure(identity: &TlsIdentity) -> Result<Collector> {
        Self::start_as(Some(identity), true).await
    }

    /// Starts a collector that accepts connections and never responds.
    pub async fn hanging() -> Result<Collector> {
        Self::start_as(None, false).await
    }

    async fn start_as(identity: Option<&TlsIdentity>, answers: bool) -> Result<Collector> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let received: Arc<Mutex<Received>> = Arc::default();
        let into = received.clone();
        let acceptor = identity.map(|identity| identity.acceptor.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (into, acceptor) = (into.clone(), acceptor.clone());
                let service = service_fn(move |request| take(into.clone(), request, answers));
                tokio::spawn(async move {
                    let connection = http1::Builder::new();
                    match acceptor {
                        None => drop(connection.serve_connection(TokioIo::new(stream), service).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(connection.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Ok(Collector { port, received })
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    pub fn resource(&self) -> BTreeMap<String, String> {
        self.lock().resource.clone()
    }

    pub fn requests(&self) -> Vec<(String, String)> {
        self.lock().requests.clone()
    }

    /// Waits for a span that `wanted` accepts.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Result<Span> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // The lock is free while `wanted` runs, which may read other spans.
            if let Some(span) = self.spans().into_iter().find(|span| wanted(span)) {
                return Ok(span);
            }
            if Instant::now() > deadline {
                let spans = self.spans();
                let last = spans.iter().rev().take(10).collect::<Vec<_>>();
                bail!("no span of {what} after {TIMEOUT:?}; the last of {}: {last:#?}", spans.len());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The children of a span, ordered by start time.
    pub fn below(&self, root: &Span) -> Vec<Span> {
        let mut spans: Vec<Span> = self.lock().spans.iter().filter(|span| span.parent == root.id).cloned().collect();
        spans.sort_by_key(|span| (span.start, span.end));
        spans
    }
}

async fn take(
    into: Arc<Mutex<Received>>,
    request: Request<Incoming>,
    answers: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (key, content_type) = (header("x-api-key").to_owned(), header("content-type").to_owned());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    into.lock().unwrap_or_else(PoisonError::into_inner).requests.push((path, key));
    if !answers {
        std::future::pending::<()>().await;
    }
    let status = match ExportTraceServiceRequest::decode(body) {
        Ok(sent) if content_type == "application/x-protobuf" => {
            let mut received = into.lock().unwrap_or_else(PoisonError::into_inner);
            for of_resource in sent.resource_spans {
                let resource = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                received.resource = attributes(resource);
                let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
                received.spans.extend(spans.map(span));
            }
            200
        }
        _ => 400,
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

fn span(sent: Sent) -> Span {
    let is_client = sent.kind == SpanKind::Client as i32;
    Span {
        name: sent.name,
        trace: hex(&sent.trace_id),
        id: hex(&sent.span_id),
        parent: hex(&sent.parent_span_id),
        is_client,
        start: sent.start_time_unix_nano,
        end: sent.end_time_unix_nano,
        attributes: attributes(sent.attributes),
        events: sent.events.into_iter().map(|event| event.name).collect(),
        links: sent.links.iter().map(|link| hex(&link.span_id)).collect(),
        error: sent.status.filter(|status| status.code == StatusCode::Error as i32).map(|status| status.message),
    }
}

fn attributes(sent: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    };
    sent.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
