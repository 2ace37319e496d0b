//! Says when spans can't be sent, and when they can be again: seldom, since a collector may be away for days.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::collector::Collector;

/// Between two lines that say that it still fails.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// An exporter whose failures are told here and nowhere else.
#[derive(Debug)]
pub struct Telling<E> {
    inner: E,
    collector: Collector,
    outage: Mutex<Outage>,
}

/// Since when nothing gets through.
#[derive(Debug, Default)]
struct Outage {
    told_at: Option<Instant>,
    /// Spans that were given up since it began.
    lost: u64,
}

/// What is to be said of a batch.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// So many spans are lost.
    Fails(u64),
    Recovered(u64),
}

impl Outage {
    fn on_batch(&mut self, spans: u64, sent: bool, now: Instant) -> Said {
        if sent {
            let Outage { told_at, lost } = std::mem::take(self);
            return if told_at.is_some() { Said::Recovered(lost) } else { Said::Nothing };
        }
        self.lost += spans;
        if self.told_at.is_some_and(|at| now.saturating_duration_since(at) < REPEAT_AFTER) {
            return Said::Nothing;
        }
        self.told_at = Some(now);
        Said::Fails(self.lost)
    }
}

impl<E> Telling<E> {
    pub fn new(inner: E, collector: Collector) -> Telling<E> {
        Telling { inner, collector, outage: Mutex::default() }
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        let problem = self.collector.problem();
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (outage.on_batch(spans, result.is_ok(), Instant::now()), result) {
            (Said::Fails(lost), Err(error)) => tracing::warn!(
                target: "wasmop",
                error = problem.unwrap_or_else(|| error.to_string()),
                lost,
                help = "see whether a collector takes OTLP over HTTP there; until one does, spans are dropped",
                "traces cannot be sent"
            ),
            (Said::Recovered(lost), _) => tracing::info!(target: "wasmop", lost, "traces are sent again"),
            _ => {}
        }
        // The SDK would say it again for each batch.
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
    fn an_outage_is_told_when_it_begins_now_and_then_and_when_it_ends() {
        let start = Instant::now();
        let mut outage = Outage::default();
        for (seconds, spans, sent, said) in [
            (0, 5, true, Said::Nothing),
            (5, 3, false, Said::Fails(3)),
            (10, 4, false, Said::Nothing),
            (604, 1, false, Said::Nothing),
            (605, 2, false, Said::Fails(10)),
            (610, 9, true, Said::Recovered(10)),
            (615, 9, true, Said::Nothing),
            (620, 1, false, Said::Fails(1)),
        ] {
            assert_eq!(outage.on_batch(spans, sent, start + Duration::from_secs(seconds)), said, "at {seconds} s");
        }
    }
}
