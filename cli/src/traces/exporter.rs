//! Logs when spans cannot be sent, and when sending works again. It logs rarely, since an outage may last days.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::collector::Collector;

/// The time between two warnings of one outage.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// An exporter that logs its failures itself.
#[derive(Debug)]
pub struct LoggingExporter<E> {
    inner: E,
    collector: Collector,
    outage: Mutex<Outage>,
}

/// The current outage, if any.
#[derive(Debug, Default)]
struct Outage {
    /// The time of the last warning.
    warned_at: Option<Instant>,
    /// Spans dropped since it began.
    lost: u64,
}

/// What to log about a batch.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    None,
    /// Sending fails; the number of lost spans.
    Fails(u64),
    /// Sending works again; the number of lost spans.
    Recovered(u64),
}

impl Outage {
    fn on_batch(&mut self, spans: u64, sent: bool, now: Instant) -> Notice {
        if sent {
            let Outage { warned_at, lost } = std::mem::take(self);
            return if warned_at.is_some() { Notice::Recovered(lost) } else { Notice::None };
        }
        self.lost += spans;
        if self.warned_at.is_some_and(|at| now.saturating_duration_since(at) < REPEAT_AFTER) {
            return Notice::None;
        }
        self.warned_at = Some(now);
        Notice::Fails(self.lost)
    }
}

impl<E> LoggingExporter<E> {
    pub fn new(inner: E, collector: Collector) -> LoggingExporter<E> {
        LoggingExporter { inner, collector, outage: Mutex::default() }
    }
}

impl<E: SpanExporter> SpanExporter for LoggingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        let problem = self.collector.problem();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (outage.on_batch(spans, result.is_ok(), Instant::now()), result) {
            (Notice::Fails(lost), Err(error)) => tracing::warn!(
                target: "wasmop",
                error = problem.unwrap_or_else(|| error.to_string()),
                lost,
                help = "check that a collector accepts OTLP over HTTP there; until then, spans are dropped",
                "traces cannot be sent"
            ),
            (Notice::Recovered(lost), _) => tracing::info!(target: "wasmop", lost, "traces are sent again"),
            _ => {}
        }
        // With an error, the SDK would log every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_at_its_start_periodically_and_at_its_end() {
        let start = Instant::now();
        let mut outage = Outage::default();
        for (seconds, spans, sent, notice) in [
            (0, 5, true, Notice::None),
            (5, 3, false, Notice::Fails(3)),
            (10, 4, false, Notice::None),
            (604, 1, false, Notice::None),
            (605, 2, false, Notice::Fails(10)),
            (610, 9, true, Notice::Recovered(10)),
            (615, 9, true, Notice::None),
            (620, 1, false, Notice::Fails(1)),
        ] {
            assert_eq!(outage.on_batch(spans, sent, start + Duration::from_secs(seconds)), notice, "at {seconds} s");
        }
    }
}
