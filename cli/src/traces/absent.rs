//! The stand-in for traces in a build without the feature `otlp`.

use std::time::Duration;

use anyhow::Result;
use wasmop_api::external_hosts::CertificateDer;
use wasmop_host::BoxedTracer;

use crate::error::failure;

/// Never exists.
pub enum Traces {}

impl Traces {
    /// Fails if a flag or the configuration file asks for traces.
    pub async fn start(flag: Option<&str>, _: &[CertificateDer<'static>]) -> Result<Option<Traces>> {
        match flag {
            None => Ok(None),
            Some(url) => Err(failure(
                format!("--otlp-endpoint: traces cannot be sent to `{url}`: this wasmop was built without them"),
                "build it with the default cargo feature `otlp`, or leave out --otlp-endpoint",
            )
            .into()),
        }
    }

    pub fn tracer(&self) -> BoxedTracer {
        match *self {}
    }

    pub async fn end(self, _: Duration) {
        match self {}
    }
}
