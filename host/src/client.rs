//! A cluster's configuration to a client that keeps few connections.
//!
//! kube's own client keeps every connection it ever opened at once for 90 s. A burst of a thousand
//! controllers then holds a thousand connections of some 40 KB each while all of them are suspended.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use tower::{BoxError, ServiceBuilder};

use crate::identity::HOST_USER_AGENT;
use crate::status::requests::RequestCounts;

/// Idle connections kept for the next request.
const IDLE_CONNECTIONS: usize = 8;
/// ... and for how long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Fails if the certificates, keys or headers of the configuration can't be used. Requests are not
/// retried here: a guest is to see 429 and 503 and decide for itself.
/// `counts` gets every request.
pub fn new(config: &kube::Config, counts: &Arc<RequestCounts>) -> Result<kube::Client, kube::Error> {
    let mut connector = TimeoutConnector::new(config.rustls_https_connector()?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector);
    let service = ServiceBuilder::new()
        .map_request(|mut request: http::Request<Body>| {
            let headers = request.headers_mut();
            headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(HOST_USER_AGENT));
            request
        })
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let service = counts.before(service);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}
