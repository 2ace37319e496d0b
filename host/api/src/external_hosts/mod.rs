//! Requests of controllers to hosts other than the API server.
//!
//! Each request uses a new connection, so that the host checks the resolved address every time. It uses no proxy,
//! follows no redirect, and sends none of the host's credentials, cookies or client certificates.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmop_core::permissions::external::{Contact, Reach};
use wasmop_core::reply::Reply;
use wasmop_package::external::{ExternalHost, ExternalTarget, Scheme};

use crate::api_requests::{Allowance, ApiCall, header_lines};
use crate::client::tls_provider;
use crate::error_chain::chain;
use crate::request_counts::RequestCounts;
use crate::timeouts::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, ReadDeadline, TRANSFER_TIMEOUT, timed_out};

/// Most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Hop-by-hop headers, which guests neither set nor get.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
/// Headers that the host sets itself, or does not support.
const OWN: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::USER_AGENT, header::EXPECT];

/// Makes requests to external hosts.
pub struct External {
    /// Host and port in the API server's URL.
    api_server: (String, u16),
    /// Trusted certificates in addition to the system's.
    authorities: Vec<CertificateDer<'static>>,
    /// Initialised by the first request, which reads the system's certificates.
    tls: OnceCell<TlsConnector>,
    counts: Arc<RequestCounts>,
}

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the certificates in {path}: {problem}\nhelp: name a file with PEM certificates in external-ca-file"
)]
pub struct AuthoritiesError {
    path: String,
    problem: String,
}

/// Reads a file of PEM certificates.
///
/// # Errors
/// The file cannot be read, has no certificate, or has a malformed one.
pub fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let fail = |problem: String| AuthoritiesError { path: path.display().to_string(), problem };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| fail(error.to_string()))?;
    if certificates.is_empty() {
        return Err(fail("the file has no certificate".into()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| fail(error.to_string()))?;
    }
    Ok(certificates)
}

impl External {
    /// `api_server`: its URL, to whose addresses guests must not connect. `counts` counts every request.
    pub fn new(api_server: &Uri, authorities: Vec<CertificateDer<'static>>, counts: Arc<RequestCounts>) -> External {
        let host = api_server.host().unwrap_or_default().trim_matches(['[', ']']);
        let usual_port = if api_server.scheme_str() == Some("http") { 80 } else { 443 };
        External {
            api_server: (host.into(), api_server.port_u16().unwrap_or(usual_port)),
            authorities,
            tls: OnceCell::new(),
            counts,
        }
    }

    /// Makes the call and passes the response to `send`, as [`crate::api_requests::execute`] does.
    pub async fn execute(
        &self,
        contact: Contact,
        user_agent: HeaderValue,
        call: ApiCall,
        allowance: Allowance,
        mut send: impl FnMut(Vec<Reply>),
    ) {
        let request = match request(&contact.target, user_agent, call) {
            Ok(request) => request,
            Err(problem) => return send(vec![Reply::Failed(format!("wasmop: {problem}"))]),
        };
        let method = request.method().clone();
        let answer = self.send(&contact, request).await;
        self.counts.count(&method, answer.as_ref().ok().map(Response::status));
        match answer {
            Ok(response) => {
                let passed = response.headers().iter().filter(|(name, _)| !HOP_BY_HOP.contains(name));
                let headers = header_lines(passed);
                crate::api_requests::deliver(response, headers, false, allowance, send).await;
            }
            Err(error) => send(vec![Reply::Failed(format!("wasmop: {}: {}", contact.target, chain(&error)))]),
        }
    }

    async fn send(&self, contact: &Contact, request: Request<Full<Bytes>>) -> io::Result<Response<Driven>> {
        let connection = timeout(CONNECT_TIMEOUT, self.connect(contact));
        let io = connection.await.map_err(|_| timed_out("no connection", CONNECT_TIMEOUT))??;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(io::Error::other)?;
        let mut connection = Some(Box::pin(connection));
        let mut response = std::pin::pin!(sender.send_request(request));
        let both = std::future::poll_fn(|context| {
            drive(&mut connection, context);
            response.as_mut().poll(context)
        });
        let response = timeout(RESPONSE_TIMEOUT, both).await.map_err(|_| timed_out("no answer", RESPONSE_TIMEOUT))?;
        let response = response.map_err(io::Error::other)?;
        Ok(response.map(|body| Driven {
            connection,
            body,
            deadline: ReadDeadline::new(RESPONSE_TIMEOUT, TRANSFER_TIMEOUT),
        }))
    }

    /// Connects to the first address that is allowed and reachable.
    async fn connect(&self, contact: &Contact) -> io::Result<Box<dyn Io>> {
        let Contact { target, reach } = contact;
        let addresses = match &target.host {
            ExternalHost::Address(address) => vec![SocketAddr::new(*address, target.port)],
            ExternalHost::Name(name) => tokio::net::lookup_host((&**name, target.port)).await?.collect(),
        };
        // If the API server's addresses are unknown, no address can be allowed.
        let api_server: Vec<SocketAddr> = match reach {
            Reach::Named => Vec::new(),
            Reach::Public { .. } => {
                let (host, port) = &self.api_server;
                tokio::net::lookup_host((host.as_str(), *port)).await?.collect()
            }
        };
        let mut error = None;
        for address in addresses {
            if !reach.allows(address, &api_server) {
                error.get_or_insert_with(|| refused(address));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return self.secure(target, stream).await,
                Err(failed) => error = Some(failed),
            }
        }
        Err(error.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
    }

    async fn secure(&self, target: &ExternalTarget, stream: TcpStream) -> io::Result<Box<dyn Io>> {
        stream.set_nodelay(true)?;
        if target.scheme == Scheme::Http {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.get_or_try_init(|| connector(self.authorities.clone())).await?;
        let name = match &target.host {
            ExternalHost::Address(address) => ServerName::from(*address),
            ExternalHost::Name(name) => ServerName::try_from(String::from(&**name)).map_err(io::Error::other)?,
        };
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

fn refused(address: SocketAddr) -> io::Error {
    let ip = address.ip();
    let problem = format!(
        "it leads to {ip}, which is not public, or is the API server; the owner of the host can allow the address with private-addresses"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, problem)
}

async fn connector(authorities: Vec<CertificateDer<'static>>) -> io::Result<TlsConnector> {
    let mut config = tls_config(system_certificates().await?.into_iter().chain(authorities))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificate authorities that the system trusts.
///
/// # Errors
/// The runtime shuts down.
pub async fn system_certificates() -> io::Result<Vec<CertificateDer<'static>>> {
    let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::other)?;
    for error in &system.errors {
        tracing::warn!(%error, "cannot read some of the system's certificates");
    }
    Ok(system.certs)
}

/// A TLS configuration that trusts these authorities, except for unparsable ones.
///
/// # Errors
/// The TLS provider supports no protocol version.
pub fn tls_config(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    Ok(ClientConfig::builder_with_provider(tls_provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, `None` once it is closed.
type Connection = Option<Pin<Box<http1::Connection<TokioIo<Box<dyn Io>>, Full<Bytes>>>>>;

/// Polls the connection. The request or response reports its errors.
fn drive(connection: &mut Connection, context: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|open| open.as_mut().poll(context).is_ready()) {
        *connection = None;
    }
}

/// The body of a response, which drives its connection. Dropping it closes the connection, so that a cancelled
/// request leaves nothing behind.
struct Driven {
    connection: Connection,
    body: Incoming,
    deadline: ReadDeadline,
}

impl Body for Driven {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        drive(&mut this.connection, context);
        let polled = Pin::new(&mut this.body).poll_frame(context);
        Poll::Ready(match std::task::ready!(this.deadline.check(polled, context)) {
            Ok(frame) => frame.map(|frame| frame.map_err(io::Error::other)),
            Err(silent) => Some(Err(silent)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Builds the request to send.
fn request(target: &ExternalTarget, user_agent: HeaderValue, call: ApiCall) -> Result<Request<Full<Bytes>>, String> {
    let method = match call.method.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Method::from_bytes(call.method.as_bytes()),
        _ => return Err(format!("{:?} is not one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", call.method)),
    };
    let is_path = call.path.starts_with('/') && !call.path.contains('#');
    let path: Option<http::uri::PathAndQuery> = call.path.parse().ok().filter(|_| is_path);
    let path = path.ok_or_else(|| format!("{:?} is not a path", call.path))?;
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = method.map_err(|error| error.to_string())?;
    *request.uri_mut() = Uri::from(path);
    let headers = request.headers_mut();
    for line in call.headers.split('\n').filter(|line| !line.is_empty()) {
        let malformed = || "a header is malformed".to_owned();
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let name: HeaderName = name.parse().map_err(|_| malformed())?;
        if HOP_BY_HOP.contains(&name) || OWN.contains(&name) {
            continue;
        }
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| malformed())?);
    }
    headers
        .insert(header::HOST, target.authority().parse().map_err(|_| "the host is not valid in a header".to_owned())?);
    headers.insert(header::USER_AGENT, user_agent);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

#[cfg(test)]
mod tests;
