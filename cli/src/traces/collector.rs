//! HTTP requests to an OpenTelemetry collector, with the same client stack as the host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use wasmop_api::external_hosts as external;
use wasmop_api::external_hosts::CertificateDer;

/// The specification's timeout for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for the next batch, which comes after 5 s under load.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest accepted response.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// A collector and its last error.
#[derive(Clone, Debug)]
pub struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The SDK exports on its own thread, outside the runtime.
    runtime: Handle,
    problem: Arc<Mutex<Option<String>>>,
}

impl Collector {
    /// Reads the system's certificates only if `endpoint` uses TLS. `authorities` are trusted in addition.
    pub async fn new(endpoint: &Uri, authorities: &[CertificateDer<'static>]) -> std::io::Result<Collector> {
        let mut trusted = Vec::new();
        if endpoint.scheme_str() == Some("https") {
            trusted = external::system_certificates().await?;
            trusted.extend_from_slice(authorities);
        }
        let tls = external::tls_config(trusted)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Collector { client, runtime: Handle::current(), problem: Arc::default() })
    }

    /// Takes the error of the last request without a response.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let (parts, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        };
        let exchange = self.runtime.spawn(async move { tokio::time::timeout(TIMEOUT, exchange).await });
        let answer = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(format!("no response within {} s", TIMEOUT.as_secs()).into()),
            // The runtime is shutting down.
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &answer {
            let chain = std::iter::successors(Some(&**error as &dyn std::error::Error), |error| error.source());
            let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
        answer
    }
}
