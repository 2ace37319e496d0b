//! Sockets in a wasmop guest, which has none. A listener exists and never accepts, so that the health and metrics servers
//! of an operator start. The host has probes and metrics of its own. The other side of a connection is in the guest too:
//! it reads HTTP requests and makes calls of the host. Datagrams fail.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use super::readiness::{Interest, Ready};
use crate::io::{AsyncRead, AsyncWrite, ReadBuf};
use crate::net::ToSocketAddrs;
use crate::net::addr::to_socket_addrs;
use crate::wasmop::{self, Connection};

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

    /// The standard library does not know the address of such a listener.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener::at(listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))))
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

    /// Connects to the guest's own HTTP proxy.
    pub async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        Ok(TcpStream::to(address))
    }

    /// Programs prepare sockets with the crate socket2, whose sockets have no effect in a guest.
    pub fn from_std_stream(_: std::net::TcpStream) -> TcpSocket {
        TcpSocket::new()
    }

    /// Returns a listener that never accepts.
    pub fn listen(self, _: u32) -> io::Result<TcpListener> {
        self.local_addr().map(TcpListener::at)
    }
}

/// A connection to the guest's own HTTP proxy.
pub struct TcpStream {
    io: Shared,
}

/// A connection and its halves.
#[derive(Clone)]
struct Shared {
    connection: Arc<Mutex<Box<dyn Connection>>>,
    peer: SocketAddr,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Connection>> {
        self.connection.lock().expect("the target has no threads")
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connection to {}", self.peer)
    }
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.io.fmt(f)
    }
}

impl TcpStream {
    /// Connects to the guest's own HTTP proxy, which makes the requests through the host.
    pub async fn connect<A: ToSocketAddrs>(address: A) -> io::Result<TcpStream> {
        Ok(TcpStream::to(first(address).await?))
    }

    fn to(peer: SocketAddr) -> TcpStream {
        TcpStream { io: Shared { connection: Arc::new(Mutex::new(wasmop::connect(peer))), peer } }
    }

    /// The standard library has no connections.
    pub fn from_std(_: std::net::TcpStream) -> io::Result<TcpStream> {
        unsupported("a connection")
    }

    /// Fails.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        unsupported("a connection")
    }

    /// As in tokio.
    pub fn split<'a>(&'a mut self) -> (tcp::ReadHalf<'a>, tcp::WriteHalf<'a>) {
        (tcp::ReadHalf::new(&self.io), tcp::WriteHalf::new(&self.io))
    }

    /// As in tokio.
    pub fn into_split(self) -> (tcp::OwnedReadHalf, tcp::OwnedWriteHalf) {
        (tcp::OwnedReadHalf { io: self.io.clone() }, tcp::OwnedWriteHalf { io: self.io })
    }

    /// Returns the usual value.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(64)
    }

    /// Returns the usual value.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Returns the usual value.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// There is none.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    without_effect! {
        set_nodelay: bool,
        set_linger: Option<Duration>,
        set_ttl: u32,
    }
}

/// The methods of a connection and of its halves that take `&self`.
macro_rules! of_both {
    () => {
        /// An address of this guest.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }

        /// Returns the address of `connect`.
        pub fn peer_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.io.peer)
        }

        /// Completes at once: there is no other sign than the result of reading or writing.
        pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
            Ok(interest.into())
        }
    };
}

macro_rules! of_readers {
    () => {
        /// Fails.
        pub async fn peek(&self, _: &mut [u8]) -> io::Result<usize> {
            unsupported("peek")
        }

        /// Completes at once.
        pub async fn readable(&self) -> io::Result<()> {
            Ok(())
        }

        /// Reads if something is there.
        pub fn try_read(&self, to: &mut [u8]) -> io::Result<usize> {
            let mut buffer = ReadBuf::new(to);
            let mut connection = self.io.lock();
            match Pin::new(&mut **connection).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut buffer)
            {
                Poll::Ready(result) => result.map(|()| buffer.filled().len()),
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    };
}

macro_rules! of_writers {
    () => {
        /// Completes at once.
        pub async fn writable(&self) -> io::Result<()> {
            Ok(())
        }

        /// Writes if there is space.
        pub fn try_write(&self, from: &[u8]) -> io::Result<usize> {
            let mut connection = self.io.lock();
            match Pin::new(&mut **connection).poll_write(&mut Context::from_waker(std::task::Waker::noop()), from) {
                Poll::Ready(result) => result,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    };
}

impl TcpStream {
    of_both!();
    of_readers!();
    of_writers!();
}

macro_rules! reads {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl$(<$lifetime>)? AsyncRead for $name$(<$lifetime>)? {
            fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut **self.io.lock()).poll_read(context, to)
            }
        }
    )*};
}

macro_rules! writes {
    ($($name:ident $(<$lifetime:lifetime>)?),*) => {$(
        impl$(<$lifetime>)? AsyncWrite for $name$(<$lifetime>)? {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut **self.io.lock()).poll_write(context, from)
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut **self.io.lock()).poll_flush(context)
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut **self.io.lock()).poll_shutdown(context)
            }
        }
    )*};
}

reads!(TcpStream);
writes!(TcpStream);

/// The halves of connections.
pub mod tcp {
    use super::*;

    macro_rules! borrowed {
        ($($name:ident)*) => {$(
            /// As in tokio.
            #[derive(Debug)]
            pub struct $name<'a> {
                io: &'a Shared,
            }

            impl<'a> $name<'a> {
                pub(super) fn new(io: &'a Shared) -> $name<'a> {
                    $name { io }
                }

                of_both!();
            }
        )*};
    }

    borrowed!(ReadHalf WriteHalf);

    impl ReadHalf<'_> {
        of_readers!();
    }

    impl WriteHalf<'_> {
        of_writers!();
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct OwnedReadHalf {
        pub(super) io: Shared,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct OwnedWriteHalf {
        pub(super) io: Shared,
    }

    /// As in tokio.
    #[derive(Debug)]
    pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

    impl std::fmt::Display for ReuniteError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("tried to reunite halves of different connections")
        }
    }

    impl std::error::Error for ReuniteError {}

    impl OwnedReadHalf {
        /// As in tokio.
        pub fn reunite(self, other: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
            if !Arc::ptr_eq(&self.io.connection, &other.io.connection) {
                return Err(ReuniteError(self, other));
            }
            Ok(TcpStream { io: self.io })
        }

        of_both!();
        of_readers!();
    }

    impl OwnedWriteHalf {
        /// As in tokio.
        pub fn reunite(self, other: OwnedReadHalf) -> Result<TcpStream, ReuniteError> {
            other.reunite(self)
        }

        /// Has no effect: nothing is lost without it.
        pub fn forget(self) {}

        of_both!();
        of_writers!();
    }

    reads!(ReadHalf<'a>, OwnedReadHalf);
    writes!(WriteHalf<'a>, OwnedWriteHalf);
}

/// There are no values of this type, hence no sockets for datagrams.
#[derive(Debug, Clone, Copy)]
enum Never {}

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

/// Gives names addresses by which `connect` knows them.
pub async fn lookup_host<T: ToSocketAddrs>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>> {
    to_socket_addrs(host).await
}
