//! In place of traces, in a build without them.

use std::time::Duration;

use anyhow::Result;
use wasmop_api::external_hosts::CertificateDer;
use wasmop_host::BoxedTracer;

use crate::error::failure;

/// There are none.
pub enum Traces {}

impl Traces {
    /// Fails if somebody asks for them on the command line or in the file.
    pub async fn start(flag: Option<&str>, _: &[CertificateDer<'static>]) -> Result<Option<Traces>> {
        match flag {
            None => Ok(None),
            Some(url) => Err(failure(
                format!("--otlp-endpoint: traces cannot be sent to `{url}`, this wasmop was built without them"),
                "build it with the cargo feature `otlp`, which is a default one, or leave out --otlp-endpoint",
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
