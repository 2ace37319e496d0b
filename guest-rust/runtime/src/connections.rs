//! The HTTP proxy behind a program's connections. HTTP clients write requests to what they take for a socket. This module
//! reads them, makes a call of the host for each, and writes the response.
//!
//! A client that would speak TLS writes [`tokio::wasmop::TLS`] instead, because the host speaks TLS for controllers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::wasmop::{Connection, TLS};

use crate::BoxError;
use crate::calls::{self, ResponseBody};
use crate::error_chain::describe;

/// Bytes in each direction before a writer waits.
const BUFFER: usize = 64 << 10;

/// Headers that the host sets, or that are about the connection.
const NOT_FORWARDED: [HeaderName; 12] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    USER_AGENT,
];

/// The host in the configuration of a kube client.
const API_SERVER: &str = "wasmop.cluster";

/// The beginning of HTTP/2, which a client of gRPC sends without asking.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// The beginning of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

#[unsafe(no_mangle)]
extern "Rust" fn wasmop_connect(host: &str, port: u16) -> Box<dyn Connection> {
    let (client, proxy) = tokio::io::duplex(BUFFER);
    let authority = format!("{host}:{port}");
    tokio::spawn(async move {
        if let Err(error) = serve(proxy, &authority).await {
            eprintln!("the connection to {authority} has failed: {}", describe(&*error));
        }
    });
    Box::new(client)
}

/// Serves a client until it closes the connection.
async fn serve(mut connection: DuplexStream, authority: &str) -> Result<(), BoxError> {
    let mut begin = vec![0; TLS.len().max(HTTP2.len())];
    let mut length = 0;
    // A request is longer.
    while length < begin.len() {
        match connection.read(&mut begin[length..]).await? {
            0 => return Ok(()),
            more => length += more,
        }
        if begin[0] == HANDSHAKE {
            return Err("the program speaks TLS by itself, and a controller's TLS is the host's".into());
        }
    }
    if begin.starts_with(HTTP2) {
        return Err("the program speaks HTTP/2 (gRPC), and a controller's requests are HTTP/1.1".into());
    }
    let scheme = if begin.starts_with(TLS) {
        begin.drain(..TLS.len());
        "https"
    } else {
        "http"
    };
    // Clients of the API server that keep their HTTP stack connect to it by this name.
    let is_api_server = authority.rsplit_once(':').is_some_and(|(host, _)| host == API_SERVER);
    let target = if is_api_server { String::new() } else { format!("{scheme}://{authority}") };
    let connection = Io { begin, connection };
    let service = service_fn(|request| answer(&target, request));
    // A failed call closes the connection, as a server does that is out of reach. `answer` has logged it.
    let _ = http1::Builder::new().serve_connection(connection, service).await;
    Ok(())
}

async fn answer(target: &str, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let method = request.method().clone();
    let result = forward(target, request).await;
    if let Err(error) = &result {
        eprintln!("{method} {target} has failed: {}", describe(&**error));
    }
    result
}

async fn forward(target: &str, request: Request<Incoming>) -> Result<Response<ResponseBody>, BoxError> {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err("a controller has no proxies, the host connects for it".into());
    }
    for name in NOT_FORWARDED {
        parts.headers.remove(name);
    }
    let body = body.collect().await?.to_bytes();
    let mut response = calls::open(target, &parts, &body).await?;
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(response)
}

/// A connection some of which has been read.
struct Io {
    begin: Vec<u8>,
    connection: DuplexStream,
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<Result<(), io::Error>> {
        let this = self.get_mut();
        if !this.begin.is_empty() {
            let length = this.begin.len().min(to.remaining());
            to.put_slice(&this.begin[..length]);
            this.begin.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 4096];
        let limit = bytes.len().min(to.remaining());
        let mut buffer = ReadBuf::new(&mut bytes[..limit]);
        ready!(Pin::new(&mut this.connection).poll_read(context, &mut buffer))?;
        to.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, from)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(context)
    }
}
