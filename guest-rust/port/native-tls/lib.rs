//! TLS in a wasmop guest, which leaves it to the host. A stream tells the guest's HTTP proxy that it is for TLS, and is
//! then as it was; see `wasmop.rs` of the ported tokio. There are no servers.

use std::io::{self, Read, Write};
use std::{error, fmt};

/// See `wasmop.rs` of the ported tokio.
const TLS: &[u8] = b"\0wasmop tls\n";

/// As in native-tls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something about TLS does not work.
pub struct Error(io::Error);

impl Error {
    fn unsupported(what: &str) -> Error {
        Error(io::Error::new(io::ErrorKind::Unsupported, format!("{what}: a wasmop guest speaks no TLS")))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A certificate and its key, which are not used.
#[derive(Clone)]
pub struct Identity(());

impl Identity {
    /// Reads nothing.
    pub fn from_pkcs12(_: &[u8], _: &str) -> Result<Identity> {
        Ok(Identity(()))
    }

    /// Reads nothing.
    pub fn from_pkcs8(_: &[u8], _: &[u8]) -> Result<Identity> {
        Ok(Identity(()))
    }
}

/// A certificate, which is not used: `external-ca-file` of the host names those that it trusts in addition.
#[derive(Clone)]
pub struct Certificate(Vec<u8>);

impl Certificate {
    /// Keeps the text.
    pub fn from_der(der: &[u8]) -> Result<Certificate> {
        Ok(Certificate(der.to_vec()))
    }

    /// Keeps the text.
    pub fn from_pem(pem: &[u8]) -> Result<Certificate> {
        Ok(Certificate(pem.to_vec()))
    }

    /// Keeps the text.
    pub fn stack_from_pem(pem: &[u8]) -> Result<Vec<Certificate>> {
        Ok(vec![Certificate(pem.to_vec())])
    }

    /// Returns the text.
    pub fn to_der(&self) -> Result<Vec<u8>> {
        Ok(self.0.clone())
    }
}

/// As in native-tls.
#[derive(Debug, Copy, Clone)]
#[non_exhaustive]
pub enum Protocol {
    /// As in native-tls.
    Sslv3,
    /// As in native-tls.
    Tlsv10,
    /// As in native-tls.
    Tlsv11,
    /// As in native-tls.
    Tlsv12,
    /// As in native-tls.
    Tlsv13,
}

/// A handshake in progress.
pub struct MidHandshakeTlsStream<S> {
    stream: S,
    written: usize,
}

impl<S> MidHandshakeTlsStream<S> {
    /// As in native-tls.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// As in native-tls.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Read + Write> MidHandshakeTlsStream<S> {
    /// As in native-tls.
    pub fn handshake(mut self) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        while self.written < TLS.len() {
            match self.stream.write(&TLS[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(HandshakeError::WouldBlock(self));
                }
                Err(error) => return Err(HandshakeError::Failure(Error(error))),
            }
        }
        Ok(TlsStream { stream: self.stream })
    }
}

impl<S> fmt::Debug for MidHandshakeTlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MidHandshakeTlsStream")
    }
}

/// As in native-tls.
#[derive(Debug)]
pub enum HandshakeError<S> {
    /// As in native-tls.
    Failure(Error),
    /// As in native-tls.
    WouldBlock(MidHandshakeTlsStream<S>),
}

impl<S> fmt::Display for HandshakeError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Failure(error) => error.fmt(f),
            HandshakeError::WouldBlock(_) => f.write_str("the handshake process was interrupted"),
        }
    }
}

impl<S> error::Error for HandshakeError<S> {}

impl<S> From<Error> for HandshakeError<S> {
    fn from(error: Error) -> HandshakeError<S> {
        HandshakeError::Failure(error)
    }
}

/// Settings of a connector, which have no effect.
#[derive(Default)]
pub struct TlsConnectorBuilder(());

macro_rules! settings {
    ($($name:ident($type:ty))*) => {$(
        /// Has no effect.
        pub fn $name(&mut self, _: $type) -> &mut Self {
            self
        }
    )*};
}

impl TlsConnectorBuilder {
    settings! {
        identity(Identity)
        min_protocol_version(Option<Protocol>)
        max_protocol_version(Option<Protocol>)
        add_root_certificate(Certificate)
        disable_built_in_roots(bool)
        danger_accept_invalid_certs(bool)
        use_sni(bool)
        danger_accept_invalid_hostnames(bool)
        request_alpns(&[&str])
    }

    /// As in native-tls.
    pub fn build(&self) -> Result<TlsConnector> {
        Ok(TlsConnector(()))
    }
}

/// Begins streams for TLS.
#[derive(Clone, Debug)]
pub struct TlsConnector(());

impl TlsConnector {
    /// As in native-tls.
    pub fn new() -> Result<TlsConnector> {
        Ok(TlsConnector(()))
    }

    /// As in native-tls.
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder::default()
    }

    /// Tells the guest's proxy that the stream is for TLS.
    pub fn connect<S: Read + Write>(&self, _: &str, stream: S) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        MidHandshakeTlsStream { stream, written: 0 }.handshake()
    }
}

/// Settings of an acceptor, which have no effect.
pub struct TlsAcceptorBuilder(());

impl TlsAcceptorBuilder {
    settings! {
        min_protocol_version(Option<Protocol>)
        max_protocol_version(Option<Protocol>)
        accept_alpn(&[&str])
    }

    /// As in native-tls.
    pub fn build(&self) -> Result<TlsAcceptor> {
        Ok(TlsAcceptor(()))
    }
}

/// Accepts nothing.
#[derive(Clone)]
pub struct TlsAcceptor(());

impl TlsAcceptor {
    /// As in native-tls.
    pub fn new(_: Identity) -> Result<TlsAcceptor> {
        Ok(TlsAcceptor(()))
    }

    /// As in native-tls.
    pub fn builder(_: Identity) -> TlsAcceptorBuilder {
        TlsAcceptorBuilder(())
    }

    /// Fails.
    pub fn accept<S: Read + Write>(&self, _: S) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        Err(Error::unsupported("a server").into())
    }
}

/// A stream whose TLS is the host's.
#[derive(Debug)]
pub struct TlsStream<S> {
    stream: S,
}

impl<S> TlsStream<S> {
    /// As in native-tls.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// As in native-tls.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// As in native-tls.
    pub fn buffered_read_size(&self) -> Result<usize> {
        Ok(0)
    }

    /// The host has it.
    pub fn peer_certificate(&self) -> Result<Option<Certificate>> {
        Ok(None)
    }

    /// The host has it.
    pub fn tls_server_end_point(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// The guest's proxy speaks HTTP/1.1.
    pub fn negotiated_alpn(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// As in native-tls.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.read(to)
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
