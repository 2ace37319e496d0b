//! Sockets in a wasmop guest, which has none. A listener exists and never accepts, so that the health and metrics servers
//! of an operator start. The host has probes and metrics of its own. Connections and datagrams fail.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};
use crate::net::ToSocketAddrs;
use crate::net::addr::to_socket_addrs;

/// There are no values of this type, hence no connections.
#[derive(Debug, Clone, Copy)]
enum Never {}

fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{what}: a wasmop guest has no sockets")))
}

async fn first<A: ToSocketAddrs>(address: A) -> io::Result<SocketAddr> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    to_socket_addrs(address).await?.next().ok_or_else(none)
}

/// A listener that never accepts.
#[derive(Debug)]
pub struct TcpListener {
    address: SocketAddr,
}

impl TcpListener {
    /// Logs that nothing is going to connect, and returns a listener.
    pub async fn bind<A: ToSocketAddrs>(address: A) -> io::Result<TcpListener> {
        Ok(TcpListener::at(first(address).await?))
    }

    fn at(address: SocketAddr) -> TcpListener {
        std::eprintln!("the server on {address} gets no connections: a wasmop guest has no sockets");
        TcpListener { address }
    }

    /// Never completes.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        pending().await
    }

    /// Never ready.
    pub fn poll_accept(&self, _: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        Poll::Pending
    }

    /// The standard library has no listeners either.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.local_addr().map(TcpListener::at)
    }

    /// Fails.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        unsupported("a listener")
    }

    /// Returns the address of `bind`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Returns the usual value.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(64)
    }

    /// Has no effect.
    pub fn set_ttl(&self, _: u32) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that can listen.
#[derive(Debug)]
pub struct TcpSocket {
    address: std::cell::Cell<Option<SocketAddr>>,
}

// SAFETY: the target has no threads.
unsafe impl Sync for TcpSocket {}

macro_rules! without_effect {
    ($($name:ident: $type:ty),* $(,)?) => {$(
        /// Has no effect.
        pub fn $name(&self, _: $type) -> io::Result<()> {
            Ok(())
        }
    )*};
}

impl TcpSocket {
    fn new() -> TcpSocket {
        TcpSocket { address: std::cell::Cell::new(None) }
    }

    /// A socket for IPv4.
    pub fn new_v4() -> io::Result<TcpSocket> {
        Ok(TcpSocket::new())
    }

    /// A socket for IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        Ok(TcpSocket::new())
    }

    without_effect! {
        set_keepalive: bool,
        set_reuseaddr: bool,
        set_reuseport: bool,
        set_send_buffer_size: u32,
        set_recv_buffer_size: u32,
        set_linger: Option<Duration>,
        set_nodelay: bool,
    }

    /// Keeps the address for `listen`.
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        self.address.set(Some(address));
        Ok(())
    }

    /// Returns the address of `bind`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.get().map_or_else(|| unsupported("a socket without an address"), Ok)
    }

    /// Fails.
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        unsupported(&format!("cannot connect to {address}"))
    }

    /// Returns a listener that never accepts.
    pub fn listen(self, _: u32) -> io::Result<TcpListener> {
        self.local_addr().map(TcpListener::at)
    }
}

/// A connection. None exists.
#[derive(Debug)]
pub struct TcpStream {
    never: Never,
}

impl TcpStream {
    /// Fails.
    pub async fn connect<A: ToSocketAddrs>(address: A) -> io::Result<TcpStream> {
        let address = first(address).await?;
        unsupported(&format!("cannot connect to {address}"))
    }

    /// Fails.
    pub fn from_std(_: std::net::TcpStream) -> io::Result<TcpStream> {
        unsupported("a connection")
    }

    /// As in tokio.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        match self.never {}
    }

    /// As in tokio.
    pub fn split<'a>(&'a mut self) -> (tcp::ReadHalf<'a>, tcp::WriteHalf<'a>) {
        match self.never {}
    }

    /// As in tokio.
    pub fn into_split(self) -> (tcp::OwnedReadHalf, tcp::OwnedWriteHalf) {
        match self.never {}
    }

    /// As in tokio.
    pub async fn peek(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.never {}
    }
}

/// The methods of connections and of their halves that take `&self`.
macro_rules! methods {
    ($($name:ident($($argument:ty),*) -> $result:ty),* $(,)?) => {$(
        /// As in tokio.
        pub fn $name(&self $(, _: $argument)*) -> io::Result<$result> {
            match self.never {}
        }
    )*};
}

macro_rules! async_methods {
    ($($name:ident($($argument:ty),*) -> $result:ty),* $(,)?) => {$(
        /// As in tokio.
        pub async fn $name(&self $(, _: $argument)*) -> io::Result<$result> {
            match self.never {}
        }
    )*};
}

impl TcpStream {
    methods! {
        local_addr() -> SocketAddr,
        peer_addr() -> SocketAddr,
        take_error() -> Option<io::Error>,
        nodelay() -> bool,
        set_nodelay(bool) -> (),
        linger() -> Option<Duration>,
        set_linger(Option<Duration>) -> (),
        ttl() -> u32,
        set_ttl(u32) -> (),
        try_read(&mut [u8]) -> usize,
        try_read_vectored(&mut [io::IoSliceMut<'_>]) -> usize,
        try_write(&[u8]) -> usize,
        try_write_vectored(&[io::IoSlice<'_>]) -> usize,
    }

    async_methods! {
        readable() -> (),
        writable() -> (),
    }
}

macro_rules! reads {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl$(<$lifetime>)? AsyncRead for $name$(<$lifetime>)? {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.never {}
            }
        }
    )*};
}

macro_rules! writes {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl$(<$lifetime>)? AsyncWrite for $name$(<$lifetime>)? {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                match self.never {}
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.never {}
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.never {}
            }
        }
    )*};
}

reads!(TcpStream);
writes!(TcpStream);

/// The halves of connections.
pub mod tcp {
    use super::*;

    /// As in tokio.
    #[derive(Debug)]
    pub struct ReadHalf<'a> {
        never: Never,
        _stream: std::marker::PhantomData<&'a TcpStream>,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct WriteHalf<'a> {
        never: Never,
        _stream: std::marker::PhantomData<&'a TcpStream>,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct OwnedReadHalf {
        never: Never,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct OwnedWriteHalf {
        never: Never,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

    impl OwnedReadHalf {
        /// As in tokio.
        pub fn reunite(self, _: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
            match self.never {}
        }

        methods! {
            local_addr() -> SocketAddr,
            peer_addr() -> SocketAddr,
            try_read(&mut [u8]) -> usize,
        }

        async_methods! {
            readable() -> (),
        }
    }

    impl OwnedWriteHalf {
        /// As in tokio.
        pub fn reunite(self, _: OwnedReadHalf) -> Result<TcpStream, ReuniteError> {
            match self.never {}
        }

        methods! {
            local_addr() -> SocketAddr,
            peer_addr() -> SocketAddr,
            try_write(&[u8]) -> usize,
        }

        async_methods! {
            writable() -> (),
        }
    }

    reads!(ReadHalf<'a>, OwnedReadHalf);
    writes!(WriteHalf<'a>, OwnedWriteHalf);
}

/// A socket for datagrams. None exists.
#[derive(Debug)]
pub struct UdpSocket {
    never: Never,
}

impl UdpSocket {
    /// Fails.
    pub async fn bind<A: ToSocketAddrs>(address: A) -> io::Result<UdpSocket> {
        let address = first(address).await?;
        unsupported(&format!("cannot receive datagrams on {address}"))
    }

    /// Fails.
    pub fn from_std(_: std::net::UdpSocket) -> io::Result<UdpSocket> {
        unsupported("a socket for datagrams")
    }

    /// As in tokio.
    pub async fn connect<A: ToSocketAddrs>(&self, _: A) -> io::Result<()> {
        match self.never {}
    }

    /// As in tokio.
    pub async fn send_to<A: ToSocketAddrs>(&self, _: &[u8], _: A) -> io::Result<usize> {
        match self.never {}
    }

    methods! {
        local_addr() -> SocketAddr,
        peer_addr() -> SocketAddr,
        set_broadcast(bool) -> (),
        try_send(&[u8]) -> usize,
        try_recv(&mut [u8]) -> usize,
    }

    async_methods! {
        readable() -> (),
        writable() -> (),
        send(&[u8]) -> usize,
        recv(&mut [u8]) -> usize,
        recv_from(&mut [u8]) -> (usize, SocketAddr),
    }
}

/// Parses addresses. Names have none.
pub async fn lookup_host<T: ToSocketAddrs>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>> {
    to_socket_addrs(host).await
}
