//! A host as the whole process of a test or a benchmark: it logs to stdout and runs until SIGTERM.

use std::future::Future;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use wasmop_host::Options;

/// Runs a host that logs JSON lines, as `wasmop run --log-format json` does on stderr.
pub fn run(options: impl Future<Output = Result<Options>>) -> Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stdout)
        .with_max_level(tracing::Level::INFO)
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let asked_to_end = async move {
            terminate.recv().await;
        };
        Ok(wasmop_host::run(options.await?, asked_to_end).await?)
    })
}
