//! Traces of reconciles to an OpenTelemetry collector: the flag and the variables of its SDKs into a tracer for the host.
//!
//! ```text
//! flag, OTEL_* ─ endpoint ─► URL
//! host ─ spans ─► the SDK's queue, bounded ─► exporter: says when it fails ─► collector: HTTP ─► …
//! ```
//!
//! What is not read here the SDK reads itself: sampler, resource, headers, limits, sizes of queue and batches.

mod collector;
mod endpoint;
mod exporter;

use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use wasmop_api::external_hosts::CertificateDer;
use wasmop_host::BoxedTracer;

use self::collector::Collector;
use self::exporter::Telling;

/// Of the service, where nobody says.
const SERVICE_NAME: &str = "wasmop";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest time that the last spans may take at the end, if the host has as much left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Spans are sent until [`Traces::end`].
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// `None` if nobody says where to. `authorities`: certificates that the collector may be known by, besides the
    /// system's.
    pub async fn start(flag: Option<&str>, authorities: &[CertificateDer<'static>]) -> Result<Option<Traces>> {
        let Some(endpoint) = endpoint::endpoint(flag, variable)? else { return Ok(None) };
        let collector = Collector::new(&endpoint, authorities).await.context("preparing for the collector")?;
        let sending = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.to_string())
            .build()
            .context("preparing the export of traces")?;
        let processor = BatchSpanProcessor::builder(Telling::new(sending, collector)).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build();
        tracing::info!(target: "wasmop", endpoint = %endpoint, "sending traces");
        Ok(Some(Traces { provider }))
    }

    /// For the host.
    pub fn tracer(&self) -> BoxedTracer {
        let scope = InstrumentationScope::builder(SERVICE_NAME).with_version(VERSION).build();
        BoxedTracer::new(Box::new(self.provider.tracer_with_scope(scope)))
    }

    /// Sends what there is still, for as long as that.
    pub async fn end(self, within: Duration) {
        let within = within.min(FLUSH_TIMEOUT);
        // It waits for the exporter, which needs the runtime.
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(within)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(target: "wasmop", "the last spans could not be sent before the end");
        }
    }
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the spans are of: as the environment has it, else this program.
fn resource() -> Resource {
    let said = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_said = |key: &str| said.split(',').any(|pair| pair.split('=').next().is_some_and(|it| it.trim() == key));
    let mut builder = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() && !is_said("service.name") {
        builder = builder.with_service_name(SERVICE_NAME);
    }
    if !is_said("service.version") {
        builder = builder.with_attribute(KeyValue::new("service.version", VERSION));
    }
    builder.build()
}
