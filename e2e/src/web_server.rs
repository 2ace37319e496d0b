//! A host on loopback that records its requests, with TLS by the test's own authority or without.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::tls_identity::TlsIdentity;

/// A delay longer than the idle time before a guest is suspended.
pub const SLOW: Duration = Duration::from_millis(900);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    pub path: String,
    pub user_agent: String,
    pub authorization: String,
}

pub struct Server {
    pub port: u16,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// A GET gets `hello`, and a POST gets its own body.
    ///
    /// A path with `slow` gets its response after [`SLOW`], a path with `redirect` a redirect to `elsewhere`.
    pub async fn start(identity: Option<&TlsIdentity>, elsewhere: String) -> Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let log = received.clone();
        let acceptor = identity.map(|identity| identity.acceptor.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, elsewhere, acceptor) = (log.clone(), elsewhere.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, log, elsewhere).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, log, elsewhere).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Server { port, received })
    }

    /// Requests to this path.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().filter(|request| request.path == path).cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    log: Arc<Mutex<Vec<Received>>>,
    elsewhere: String,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        let (log, elsewhere) = (log.clone(), elsewhere.clone());
        async move {
            let text = |name| {
                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let received = Received {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                user_agent: text(USER_AGENT),
                authorization: text(AUTHORIZATION),
            };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());
            let sent = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            if received.path.contains("slow") {
                tokio::time::sleep(SLOW).await;
            }
            let mut response = Response::new(Full::new(match received.method {
                Method::GET => Bytes::from_static(b"hello"),
                _ => sent,
            }));
            if received.path.contains("redirect")
                && let Ok(location) = elsewhere.parse()
            {
                *response.status_mut() = http::StatusCode::FOUND;
                response.headers_mut().insert(LOCATION, location);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
