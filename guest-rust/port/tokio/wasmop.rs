//! What tokio needs of a wasmop guest, in which nothing may block: a place for the body of `main`, help for code that
//! blocks nevertheless, and names for addresses. The crate `wasmop-runtime` and other ports use this module; it is not for
//! programs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::{ExitCode, Termination};

use crate::io::{AsyncRead, AsyncWrite};

/// The body of `main`.
type Main = Pin<Box<dyn Future<Output = ExitCode>>>;

/// Sleeps in a step, before it is certain that the program sleeps in a loop. A step that ends sleeps a few times.
const MAX_SLEEPS: u32 = 1000;

std::thread_local! {
    static MAIN: RefCell<Option<Main>> = const { RefCell::new(None) };
    /// Sleeps since the beginning of the step. The clock does not advance in it.
    static SLEEPS: Cell<u32> = const { Cell::new(0) };
    /// The names that were resolved. A name's address is its index in [`NAMES_BEGIN`].
    static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The first address of names. The whole block is reserved, so nothing else has such an address.
const NAMES_BEGIN: u32 = 0xf000_0000;

/// What a client writes before its requests if it would begin with a TLS handshake. The host does the handshake.
pub const TLS: &[u8] = b"\0wasmop tls\n";

/// The client's side of a connection.
pub trait Connection: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Connection for T {}

unsafe extern "Rust" {
    /// `wasmop-runtime` has it. A symbol, so that a program that opens no connections does not contain it.
    safe fn wasmop_connect(host: &str, port: u16) -> Box<dyn Connection>;
}

/// Opens a connection to the HTTP proxy in `wasmop-runtime`.
pub(crate) fn connect(address: SocketAddr) -> Box<dyn Connection> {
    wasmop_connect(&host(address.ip()), address.port())
}

/// Returns an address for a host, by which [`connect`] knows its name.
pub fn resolve(host: &str, port: u16) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let host = host.trim_matches(['[', ']']);
    let address = if host.eq_ignore_ascii_case("localhost") {
        Ipv4Addr::LOCALHOST.into()
    } else {
        host.parse().unwrap_or_else(|_| address_of(host))
    };
    Ok(vec![SocketAddr::new(address, port)].into_iter())
}

/// Returns addresses for `host:port`.
pub fn resolve_with_port(text: &str) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "invalid socket address"))?;
    resolve(host, port)
}

fn address_of(name: &str) -> IpAddr {
    NAMES.with_borrow_mut(|names| {
        let known = names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        Ipv4Addr::from(NAMES_BEGIN + index as u32).into()
    })
}

/// The name that has this address, or the address itself.
fn host(address: IpAddr) -> String {
    let name = match address {
        IpAddr::V4(address) => u32::from(address)
            .checked_sub(NAMES_BEGIN)
            .and_then(|index| NAMES.with_borrow(|names| names.get(index as usize).cloned())),
        IpAddr::V6(_) => None,
    };
    name.unwrap_or_else(|| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    })
}

/// Keeps the body of `main` for the executor. `#[tokio::main]` expands to a call of this function.
pub fn main<F>(body: F)
where
    F: Future + 'static,
    F::Output: Termination,
{
    MAIN.set(Some(Box::pin(async move { body.await.report() })));
}

/// Returns the body of `main`, once.
pub fn take_main() -> Option<Main> {
    MAIN.take()
}

/// Begins a step.
pub fn begin_step() {
    SLEEPS.set(0);
}

/// Counts a sleep of the thread.
pub(crate) fn on_sleep() {
    SLEEPS.set(SLEEPS.get() + 1);
    if SLEEPS.get() > MAX_SLEEPS {
        cannot_block();
    }
}

/// Panics, because the thread would wait for ever.
pub(crate) fn cannot_block() -> ! {
    panic!("Runtime::block_on cannot wait in a wasmop guest")
}
