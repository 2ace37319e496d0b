//! A TLS server whose open connections can be frozen, and proxies to it.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::client::tls_provider;

/// The certificate authority of all certificates here.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    server: (String, String),
}

pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Authority { issuer, server: (certificate.pem(), key.serialize_pem()) }
    })
}

impl Authority {
    /// A client's certificate and key.
    pub fn client(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn acceptor(alpn: &[&str], certificate: &[u8], key: &[u8], authority: &[u8]) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), tls_provider().clone());
    let mut config = ServerConfig::builder_with_provider(tls_provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    requests: AtomicUsize,
    authorization: Mutex<Option<String>>,
    /// Of the connections that are open.
    freezers: Mutex<Vec<Arc<AtomicBool>>>,
}

/// The server. Over TLS; `/protocol`, `/presented` (the client's certificate), `/body` (the request's), `/large`,
/// `/silent`, which is never answered, and `/stream`, which begins and goes no further.
pub struct Peer {
    url: Uri,
    authority: Vec<u8>,
    state: Arc<State>,
}

impl Peer {
    pub async fn start(alpn: &[&str]) -> Peer {
        let Authority { issuer, server: (certificate, key) } = authority();
        Self::start_as(alpn, certificate.as_bytes(), key.as_bytes(), issuer.pem().as_bytes()).await
    }

    pub async fn start_as(alpn: &[&str], certificate: &[u8], key: &[u8], authority: &[u8]) -> Peer {
        let acceptor = acceptor(alpn, certificate, key, authority);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let state = Arc::<State>::default();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(acceptor.clone(), tcp, shared.clone()));
            }
        });
        Peer { url, authority: authority.to_vec(), state }
    }

    pub fn config(&self) -> kube::Config {
        let mut config = kube::Config::new(self.url.clone());
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(&self.authority).unwrap().to_vec()]);
        config
    }

    /// From now on nothing passes over the present connections, and none of them is closed.
    pub fn freeze(&self) {
        self.state.freezers.lock().unwrap().iter().for_each(|freezer| freezer.store(true, Ordering::Relaxed));
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Refuses others with 401.
    pub fn expect_authorization(&self, value: &str) {
        *self.state.authorization.lock().unwrap() = Some(value.into());
    }
}

/// A connection between whose ends a proxy may hang. The kernel still acknowledges what arrives.
struct Freezable<T> {
    io: T,
    frozen: Arc<AtomicBool>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Freezable<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.frozen.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        // What has just arrived came too late.
        if self.frozen.load(Ordering::Relaxed) { Poll::Pending } else { polled }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Freezable<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.frozen.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, state: Arc<State>) {
    let frozen = Arc::new(AtomicBool::new(false));
    state.freezers.lock().unwrap().push(frozen.clone());
    let Ok(tls) = acceptor.accept(Freezable { io: tcp, frozen }).await else { return };
    let (_, session) = tls.get_ref();
    let presented = session.peer_certificates().map(|chain| Bytes::copy_from_slice(&chain[0])).unwrap_or_default();
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, presented.clone(), state.clone()));
    if is_h2 {
        // As many as the API server allows.
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.max_concurrent_streams(100).serve_connection(TokioIo::new(tls), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, presented: Bytes, state: Arc<State>) -> Result<Answer, hyper::Error> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let expected = state.authorization.lock().unwrap().clone();
    let given = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if expected.is_some() && given != expected.as_deref() {
        let mut refused = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *refused.status_mut() = http::StatusCode::UNAUTHORIZED;
        return Ok(refused);
    }
    let body = match request.uri().path() {
        "/protocol" => Full::from(format!("{:?}", request.version())).boxed_unsync(),
        "/presented" => {
            Full::new(presented.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()).boxed_unsync()
        }
        "/body" => Full::new(request.into_body().collect().await?.to_bytes()).boxed_unsync(),
        "/silent" => std::future::pending().await,
        "/large" => Full::new(Bytes::from(vec![b'x'; 4 << 20])).boxed_unsync(),
        _ => {
            let begun = futures::stream::iter([Ok(Frame::data(Bytes::from("begun")))]);
            StreamBody::new(begun.chain(futures::stream::pending())).boxed_unsync()
        }
    };
    Ok(Response::new(body))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Http,
    Https,
    Socks5,
}

/// A proxy that notes where it was asked to go.
pub struct Proxy {
    kind: ProxyKind,
    port: u16,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// With a user and a password, it refuses everybody else.
    pub async fn start(kind: ProxyKind, login: Option<(&str, &str)>) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let noted = targets.clone();
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (noted, login) = (noted.clone(), login.clone());
                tokio::spawn(async move {
                    match kind {
                        ProxyKind::Http => connect(tcp, login, noted).await,
                        ProxyKind::Https => {
                            let Authority { issuer, server: (certificate, key) } = authority();
                            let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
                            let acceptor = acceptor(&["http/1.1"], certificate, key, issuer.pem().as_bytes());
                            connect(acceptor.accept(tcp).await.unwrap(), login, noted).await;
                        }
                        ProxyKind::Socks5 => {
                            let _ = socks(tcp, login, noted).await;
                        }
                    }
                });
            }
        });
        Proxy { kind, port, targets }
    }

    pub fn url(&self, login: Option<(&str, &str)>) -> Uri {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Https => "https",
            ProxyKind::Socks5 => "socks5",
        };
        let login = login.map_or(String::new(), |(user, password)| format!("{user}:{}@", password.replace('@', "%40")));
        format!("{scheme}://{login}localhost:{}", self.port).parse().unwrap()
    }

    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn pass<T: AsyncRead + AsyncWrite + Unpin>(mut client: T, target: String, noted: Arc<Mutex<Vec<String>>>) {
    let mut server = TcpStream::connect(&target).await.unwrap();
    noted.lock().unwrap().push(target);
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn connect<T>(mut client: T, login: Option<(String, String)>, noted: Arc<Mutex<Vec<String>>>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    use base64::Engine;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let expected =
        login.map(|(user, password)| base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")));
    if expected.is_some_and(|expected| !head.contains(&format!("Basic {expected}\r\n"))) {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        return;
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    pass(client, target, noted).await;
}

/// RFC 1928 and 1929, as far as a client with a name for the target needs them.
async fn socks(
    mut client: TcpStream,
    login: Option<(String, String)>,
    noted: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    async fn counted(client: &mut TcpStream) -> io::Result<String> {
        let mut text = vec![0; client.read_u8().await?.into()];
        client.read_exact(&mut text).await?;
        String::from_utf8(text).map_err(io::Error::other)
    }
    client.read_u8().await?;
    let methods = counted(&mut client).await?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.as_bytes().contains(&method) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, method]).await?;
    if let Some((user, password)) = login {
        client.read_u8().await?;
        let given = (counted(&mut client).await?, counted(&mut client).await?);
        let is_right = given == (user, password);
        client.write_all(&[1, u8::from(!is_right)]).await?;
        if !is_right {
            return Ok(());
        }
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = counted(&mut client).await?;
    let port = client.read_u16().await?;
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
    pass(client, format!("{host}:{port}"), noted).await;
    Ok(())
}
