//! Sends traces of reconciles to an OpenTelemetry collector. The flag and OpenTelemetry's variables configure a tracer
//! for the host.
//!
//! ```text
//! flag, OTEL_* ─ endpoint ─► URL
//! host ─ spans ─► the SDK's bounded queue ─► exporter: logs failures ─► collector: HTTP ─► …
//! ```
//!
//! The SDK reads the other variables: sampler, resource, headers, limits, and the sizes of queue and batches.

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
use self::exporter::LoggingExporter;

/// The default service name.
const SERVICE_NAME: &str = "wasmop";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The longest time to send the last spans, if the shutdown has that much left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans until [`Traces::end`].
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// `None` if no endpoint is configured. `authorities` are trusted for the collector in addition to the system's
    /// certificates.
    pub async fn start(flag: Option<&str>, authorities: &[CertificateDer<'static>]) -> Result<Option<Traces>> {
        let Some(endpoint) = endpoint::endpoint(flag, variable)? else { return Ok(None) };
        let collector =
            Collector::new(&endpoint, authorities).await.context("cannot prepare the connection to the collector")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.to_string())
            .build()
            .context("cannot prepare the export of traces")?;
        let processor = BatchSpanProcessor::builder(LoggingExporter::new(exporter, collector)).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build();
        tracing::info!(target: "wasmop", endpoint = %endpoint, "sending traces");
        Ok(Some(Traces { provider }))
    }

    /// The tracer for the host.
    pub fn tracer(&self) -> BoxedTracer {
        let scope = InstrumentationScope::builder(SERVICE_NAME).with_version(VERSION).build();
        BoxedTracer::new(Box::new(self.provider.tracer_with_scope(scope)))
    }

    /// Sends the remaining spans, for at most this long.
    pub async fn end(self, within: Duration) {
        let within = within.min(FLUSH_TIMEOUT);
        // It blocks on the exporter, which needs the runtime.
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(within)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(target: "wasmop", "the last spans could not be sent before the end");
        }
    }
}

/// An environment variable that is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The resource of all spans: from the environment, else this program.
fn resource() -> Resource {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_given =
        |key: &str| attributes.split(',').any(|pair| pair.split('=').next().is_some_and(|it| it.trim() == key));
    let mut builder = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() && !is_given("service.name") {
        builder = builder.with_service_name(SERVICE_NAME);
    }
    if !is_given("service.version") {
        builder = builder.with_attribute(KeyValue::new("service.version", VERSION));
    }
    builder.build()
}
