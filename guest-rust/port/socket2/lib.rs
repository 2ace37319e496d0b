//! Sockets in a wasmop guest, which has none. A program prepares a socket with options before it listens or connects;
//! here it keeps its address, and options have no effect. Listening and connecting are up to tokio.
//!
//! Build scripts may depend on the same copy. They compile, and have no sockets either.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

/// A descriptor that is never open: closing it and calls on it fail without an effect.
const CLOSED: RawFd = i32::MAX - 1;

fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{what}: a wasmop guest has no sockets")))
}

macro_rules! numbers {
    ($type:ident: $($name:ident = $number:literal),*) => {
        #[doc = "As in socket2."]
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub struct $type(i32);

        impl $type {
            $(#[doc = "As in socket2."] pub const $name: $type = $type($number);)*
        }

        impl From<i32> for $type {
            fn from(number: i32) -> $type {
                $type(number)
            }
        }

        impl From<$type> for i32 {
            fn from(number: $type) -> i32 {
                number.0
            }
        }
    };
}

numbers!(Domain: UNIX = 1, IPV4 = 2, IPV6 = 10, PACKET = 17, VSOCK = 40);
numbers!(Type: STREAM = 1, DGRAM = 2, RAW = 3, SEQPACKET = 5);
numbers!(Protocol: ICMPV4 = 1, TCP = 6, UDP = 17, ICMPV6 = 58, SCTP = 132, MPTCP = 262);

impl Domain {
    /// As in socket2.
    pub const fn for_address(address: SocketAddr) -> Domain {
        match address {
            SocketAddr::V4(_) => Domain::IPV4,
            SocketAddr::V6(_) => Domain::IPV6,
        }
    }
}

impl Type {
    /// As in socket2.
    pub const fn nonblocking(self) -> Type {
        self
    }

    /// As in socket2.
    pub const fn cloexec(self) -> Type {
        self
    }
}

/// The address of a socket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SockAddr(SocketAddr);

impl SockAddr {
    /// Fails.
    pub fn unix<P: AsRef<std::path::Path>>(_: P) -> io::Result<SockAddr> {
        unsupported("an address in the file system")
    }

    /// As in socket2.
    pub fn as_socket(&self) -> Option<SocketAddr> {
        Some(self.0)
    }

    /// As in socket2.
    pub fn as_socket_ipv4(&self) -> Option<SocketAddrV4> {
        match self.0 {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        }
    }

    /// As in socket2.
    pub fn as_socket_ipv6(&self) -> Option<SocketAddrV6> {
        match self.0 {
            SocketAddr::V4(_) => None,
            SocketAddr::V6(address) => Some(address),
        }
    }

    /// As in socket2.
    pub fn domain(&self) -> Domain {
        Domain::for_address(self.0)
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> SockAddr {
        SockAddr(address)
    }
}

impl From<SocketAddrV4> for SockAddr {
    fn from(address: SocketAddrV4) -> SockAddr {
        SockAddr(address.into())
    }
}

impl From<SocketAddrV6> for SockAddr {
    fn from(address: SocketAddrV6) -> SockAddr {
        SockAddr(address.into())
    }
}

/// Times of keepalive probes, which have no effect.
#[derive(Clone, Debug, Default)]
pub struct TcpKeepalive(());

impl TcpKeepalive {
    /// As in socket2.
    pub const fn new() -> TcpKeepalive {
        TcpKeepalive(())
    }

    /// Has no effect.
    pub const fn with_time(self, _: Duration) -> TcpKeepalive {
        self
    }

    /// Has no effect.
    pub const fn with_interval(self, _: Duration) -> TcpKeepalive {
        self
    }

    /// Has no effect.
    pub const fn with_retries(self, _: u32) -> TcpKeepalive {
        self
    }
}

/// A socket without connections.
#[derive(Debug)]
pub struct Socket {
    domain: Domain,
    address: Mutex<Option<SocketAddr>>,
}

macro_rules! options {
    ($($set:ident $get:ident: $type:ty = $value:expr),* $(,)?) => {$(
        #[doc = "Has no effect."]
        pub fn $set(&self, _: $type) -> io::Result<()> {
            Ok(())
        }

        #[doc = "Returns a usual value."]
        pub fn $get(&self) -> io::Result<$type> {
            Ok($value)
        }
    )*};
}

macro_rules! settings {
    ($($set:ident($($type:ty),*)),* $(,)?) => {$(
        #[doc = "Has no effect."]
        pub fn $set(&self $(, _: $type)*) -> io::Result<()> {
            Ok(())
        }
    )*};
}

impl Socket {
    /// Returns a socket without an address.
    pub fn new(domain: Domain, _: Type, _: Option<Protocol>) -> io::Result<Socket> {
        Ok(Socket { domain, address: Mutex::new(None) })
    }

    /// Returns a socket without an address.
    pub fn new_raw(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
        Socket::new(domain, kind, protocol)
    }

    /// Keeps the address.
    pub fn bind(&self, address: &SockAddr) -> io::Result<()> {
        *self.address.lock().expect("the target has no threads") = Some(address.0);
        Ok(())
    }

    /// Returns the address of `bind`.
    pub fn local_addr(&self) -> io::Result<SockAddr> {
        let any = match self.domain {
            Domain::IPV6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let address = *self.address.lock().expect("the target has no threads");
        Ok(SockAddr(address.unwrap_or(SocketAddr::new(any, 0))))
    }

    /// Returns the usual type.
    pub fn r#type(&self) -> io::Result<Type> {
        Ok(Type::STREAM)
    }

    /// There is none.
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Fails.
    pub fn peek_sender(&self) -> io::Result<SockAddr> {
        unsupported("peek_sender")
    }

    /// Fails.
    pub fn peer_addr(&self) -> io::Result<SockAddr> {
        unsupported("the address of a peer")
    }

    /// Fails.
    pub fn connect(&self, address: &SockAddr) -> io::Result<()> {
        unsupported(&format!("cannot connect to {}", address.0))
    }

    /// Fails.
    pub fn connect_timeout(&self, address: &SockAddr, _: Duration) -> io::Result<()> {
        self.connect(address)
    }

    /// Has no effect: nothing connects.
    pub fn listen(&self, _: i32) -> io::Result<()> {
        Ok(())
    }

    /// Fails.
    pub fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        unsupported("accept")
    }

    /// Returns a socket with the same address.
    pub fn try_clone(&self) -> io::Result<Socket> {
        Ok(Socket {
            domain: self.domain,
            address: Mutex::new(*self.address.lock().expect("the target has no threads")),
        })
    }

    /// There is none.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Has no effect.
    pub fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        Ok(())
    }

    /// Fails.
    pub fn recv(&self, _: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        unsupported("recv")
    }

    /// Fails.
    pub fn recv_from(&self, _: &mut [MaybeUninit<u8>]) -> io::Result<(usize, SockAddr)> {
        unsupported("recv_from")
    }

    /// Fails.
    pub fn send(&self, _: &[u8]) -> io::Result<usize> {
        unsupported("send")
    }

    /// Fails.
    pub fn send_to(&self, _: &[u8], _: &SockAddr) -> io::Result<usize> {
        unsupported("send_to")
    }

    /// Fails.
    pub fn send_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        unsupported("send_vectored")
    }

    options! {
        set_nonblocking nonblocking: bool = true,
        set_keepalive keepalive: bool = false,
        set_linger linger: Option<Duration> = None,
        set_nodelay nodelay: bool = true,
        set_tcp_nodelay tcp_nodelay: bool = true,
        set_reuse_address reuse_address: bool = true,
        set_reuse_port reuse_port: bool = true,
        set_broadcast broadcast: bool = false,
        set_only_v6 only_v6: bool = false,
        set_recv_buffer_size recv_buffer_size: usize = 65536,
        set_send_buffer_size send_buffer_size: usize = 65536,
        set_read_timeout read_timeout: Option<Duration> = None,
        set_write_timeout write_timeout: Option<Duration> = None,
        set_ttl ttl: u32 = 64,
        set_ttl_v4 ttl_v4: u32 = 64,
        set_tos tos: u32 = 0,
        set_tos_v4 tos_v4: u32 = 0,
        set_tclass_v6 tclass_v6: u32 = 0,
        set_tcp_quickack tcp_quickack: bool = false,
        set_unicast_hops_v6 unicast_hops_v6: u32 = 64,
        set_tcp_user_timeout tcp_user_timeout: Option<Duration> = None,
        set_multicast_loop_v4 multicast_loop_v4: bool = false,
        set_multicast_loop_v6 multicast_loop_v6: bool = false,
        set_multicast_ttl_v4 multicast_ttl_v4: u32 = 1,
        set_multicast_hops_v6 multicast_hops_v6: u32 = 1,
    }

    settings! {
        set_tcp_keepalive(&TcpKeepalive),
        set_cloexec(bool),
        set_quickack(bool),
        bind_device(Option<&[u8]>),
        join_multicast_v4(&Ipv4Addr, &Ipv4Addr),
        join_multicast_v6(&Ipv6Addr, u32),
        leave_multicast_v4(&Ipv4Addr, &Ipv4Addr),
        leave_multicast_v6(&Ipv6Addr, u32),
        set_multicast_if_v4(&Ipv4Addr),
        set_multicast_if_v6(u32),
    }
}

impl Read for Socket {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unsupported("read")
    }
}

impl Write for Socket {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unsupported("write")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! conversions {
    ($($type:ty),*) => {$(
        impl From<Socket> for $type {
            fn from(_: Socket) -> $type {
                // SAFETY: nothing else owns a descriptor that is never open.
                unsafe { <$type>::from_raw_fd(CLOSED) }
            }
        }

        impl From<$type> for Socket {
            fn from(_: $type) -> Socket {
                Socket { domain: Domain::IPV4, address: Mutex::new(None) }
            }
        }
    )*};
}

conversions!(net::TcpStream, net::TcpListener, net::UdpSocket, OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: a descriptor that is never open is not closed.
        unsafe { BorrowedFd::borrow_raw(CLOSED) }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        CLOSED
    }
}

impl IntoRawFd for Socket {
    fn into_raw_fd(self) -> RawFd {
        CLOSED
    }
}

impl FromRawFd for Socket {
    unsafe fn from_raw_fd(_: RawFd) -> Socket {
        Socket { domain: Domain::IPV4, address: Mutex::new(None) }
    }
}

/// Options of a socket of another type.
#[derive(Debug)]
pub struct SockRef<'s> {
    socket: Socket,
    _socket: std::marker::PhantomData<&'s Socket>,
}

impl<'s, S> From<&'s S> for SockRef<'s> {
    fn from(_: &'s S) -> SockRef<'s> {
        SockRef {
            socket: Socket { domain: Domain::IPV4, address: Mutex::new(None) },
            _socket: std::marker::PhantomData,
        }
    }
}

impl Deref for SockRef<'_> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}
