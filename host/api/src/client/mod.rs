//! Turns a cluster's configuration into a client with kubectl's rules for connections, credentials and proxies.
//!
//! ```text
//! request ─► user agent, server's address, impersonation ─► credentials ─► lanes ─► proxy ─► API server
//!                                                               ▲            │
//!                                                               └─── 401 ────┘
//! ```

mod certificate;
mod credentials;
mod exec_plugin;
mod p521;
pub mod proxy;
mod transport;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{AsyncBufRead, TryStreamExt};
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use kube::client::{Body, ConfigExt};
use kube::config::AuthInfo;
use kube::core::Status;
use parking_lot::Mutex;
use tower::{BoxError, Service, ServiceBuilder};

pub use self::credentials::CredentialError;
use self::credentials::{Access, Credentials};
pub(crate) use self::p521::provider as tls_provider;
pub use self::transport::Traffic;
use self::transport::{Lanes, LiveBody, Route};
use crate::caller::HOST_USER_AGENT;
use crate::request_counts::RequestCounts;
use crate::timeouts::RequestLimits;

/// An extension that marks a request whose response may pause for any time: a watch, a followed log.
#[derive(Clone, Copy, Debug)]
pub struct Streaming;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The credentials of the user cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The configuration has invalid certificates, headers or names.
    #[error("{0}")]
    Configuration(BoxError),
}

/// Makes clients that share the credentials of one user.
pub struct Clients {
    config: kube::Config,
    credentials: Credentials,
    limits: RequestLimits,
}

impl Clients {
    /// Reads the credentials, for which it may run a plugin. It does not connect.
    ///
    /// # Errors
    /// A file cannot be read, the plugin fails, or the credentials are malformed.
    pub async fn new(config: &kube::Config) -> Result<Clients, ClientError> {
        let mut config = config.clone();
        if config.cluster_url.scheme() != Some(&Scheme::HTTPS) {
            config.auth_info = without_secrets(&config);
        }
        let credentials = Credentials::load(&config.auth_info).await?;
        Ok(Clients { config, credentials, limits: RequestLimits::default() })
    }

    /// A client with its own connections, whose requests are counted in `counts`. It retries a request only once,
    /// after a 401 and with newer credentials: guests handle 429 and 503 themselves.
    ///
    /// # Errors
    /// The configuration has invalid certificates, headers or names.
    pub fn client(&self, traffic: Traffic, counts: &Arc<RequestCounts>) -> Result<kube::Client, ClientError> {
        let config = &self.config;
        let failed = |error: kube::Error| ClientError::Configuration(error.into());
        let route = Route::new(config, traffic, self.limits).map_err(ClientError::Configuration)?;
        // Legacy authentication providers, which plugins replaced.
        let mut provided = config.clone();
        provided.auth_info = AuthInfo { auth_provider: config.auth_info.auth_provider.clone(), ..AuthInfo::default() };
        let sender =
            Authenticated(Arc::new(Sender { credentials: self.credentials.clone(), route, lanes: Mutex::default() }));
        let service = ServiceBuilder::new()
            .map_request(|mut request: Request<Body>| {
                let headers = request.headers_mut();
                headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(HOST_USER_AGENT));
                request
            })
            .layer(config.base_uri_layer())
            .option_layer(provided.auth_layer().map_err(failed)?)
            .layer(config.extra_headers_layer().map_err(failed)?)
            .map_err(BoxError::from)
            .service(sender);
        let service = counts.before(service);
        Ok(kube::Client::new(service, config.default_namespace.clone()))
    }
}

/// The user for a server without TLS. As client-go does, it sends no credentials, which anyone on the way could read.
fn without_secrets(config: &kube::Config) -> AuthInfo {
    let user = &config.auth_info;
    let has_credentials = user.exec.is_some()
        || user.auth_provider.is_some()
        || user.token.is_some()
        || user.token_file.is_some()
        || user.username.is_some()
        || user.client_certificate.is_some()
        || user.client_certificate_data.is_some();
    if has_credentials {
        tracing::warn!(server = %config.cluster_url, "plain HTTP: the credentials of the kubeconfig are not sent");
    }
    AuthInfo {
        impersonate: user.impersonate.clone(),
        impersonate_uid: user.impersonate_uid.clone(),
        impersonate_groups: user.impersonate_groups.clone(),
        impersonate_user_extra: user.impersonate_user_extra.clone(),
        ..AuthInfo::default()
    }
}

/// Sends requests with the current credentials.
struct Sender {
    credentials: Credentials,
    route: Route,
    /// The lanes for the certificate with this number.
    lanes: Mutex<Option<(u64, Arc<Lanes>)>>,
}

impl Sender {
    async fn send(&self, request: Request<Body>) -> Result<Response<LiveBody>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let has_own = parts.headers.contains_key(AUTHORIZATION);
        let again = body.try_clone().map(|body| (parts.clone(), body));
        let access = self.credentials.current().await?;
        let put = |parts: &mut http::request::Parts, access: &Access| {
            if let Some(value) = access.authorization.as_ref().filter(|_| !has_own) {
                parts.headers.insert(AUTHORIZATION, value.clone());
            }
        };
        put(&mut parts, &access);
        let response = self.lanes(&access).send(Request::from_parts(parts, body)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some((mut parts, body)) = again else { return Ok(response) };
        let Some(newer) = self.credentials.rejected(&access).await else { return Ok(response) };
        put(&mut parts, &newer);
        self.lanes(&newer).send(Request::from_parts(parts, body)).await
    }

    /// The lanes that present the certificate. Connections with an earlier certificate close after their requests.
    fn lanes(&self, access: &Access) -> Arc<Lanes> {
        let mut held = self.lanes.lock();
        match &*held {
            Some((number, lanes)) if *number >= access.certificate_number => lanes.clone(),
            _ => {
                let lanes = Arc::new(self.route.lanes(access.certificate.clone()));
                *held = Some((access.certificate_number, lanes.clone()));
                lanes
            }
        }
    }
}

#[derive(Clone)]
struct Authenticated(Arc<Sender>);

impl Service<Request<Body>> for Authenticated {
    type Response = Response<LiveBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<LiveBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sender = self.0.clone();
        Box::pin(async move { sender.send(request).await })
    }
}

/// Starts a [`Streaming`] response, and returns its HTTP version and body.
///
/// # Errors
/// The errors of `kube::Client::request_stream`.
pub async fn stream(
    client: &kube::Client,
    request: Request<Vec<u8>>,
) -> Result<(Version, impl AsyncBufRead + use<>), kube::Error> {
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(Streaming);
    let response = client.send(request).await?;
    let (parts, body) = response.into_parts();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        let text = body.collect().await?.to_bytes();
        let status = serde_json::from_slice::<Status>(&text).unwrap_or_else(|_| {
            Status::failure(&String::from_utf8_lossy(&text), "Unknown").with_code(parts.status.as_u16())
        });
        return Err(kube::Error::Api(Box::new(status)));
    }
    Ok((parts.version, body.into_data_stream().map_err(std::io::Error::other).into_async_read()))
}

/// A client of kube's own. The process's default TLS provider can be installed once, and kube would install another.
#[cfg(test)]
pub(crate) fn test_client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    let _ = tls_provider().as_ref().clone().install_default();
    kube::Client::try_from(config)
}

#[cfg(test)]
mod tests;
