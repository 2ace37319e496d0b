//! A server in a wasmop guest, to which nothing connects. It has the API of actix-server, starts no workers, and runs until
//! it is stopped.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use actix_service::ServiceFactory;
use tokio::sync::{mpsc, oneshot};

/// As in actix-server.
#[derive(Debug, Clone)]
pub enum MpTcp {
    /// As in actix-server.
    Disabled,
    /// As in actix-server.
    TcpFallback,
    /// As in actix-server.
    NoFallback,
}

/// A stream that services take.
#[doc(hidden)]
pub trait FromStream: Sized {}

impl FromStream for TcpStream {}

/// Creates the services of a server.
pub trait ServerServiceFactory<Stream: FromStream>: Send + Clone + 'static {
    /// As in actix-server.
    type Factory: ServiceFactory<Stream, Config = ()>;

    /// As in actix-server.
    fn create(&self) -> Self::Factory;
}

impl<F, T, I> ServerServiceFactory<I> for F
where
    F: Fn() -> T + Send + Clone + 'static,
    T: ServiceFactory<I, Config = ()>,
    I: FromStream,
{
    type Factory = T;

    fn create(&self) -> T {
        self()
    }
}

/// A command of a [`ServerHandle`]: whether the server ends, and whom to tell.
type Command = (bool, oneshot::Sender<()>);

/// The begin of an orderly end, which does not come: the host ends a controller without asking it.
#[derive(Debug, Clone)]
pub struct GracefulShutdownSignal(());

impl GracefulShutdownSignal {
    /// Never completes.
    pub async fn notified(&self) {
        std::future::pending().await
    }
}

/// Builds a server.
#[derive(Debug)]
pub struct ServerBuilder {
    handle: ServerHandle,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Default for ServerBuilder {
    fn default() -> ServerBuilder {
        let (commands, receiver) = mpsc::unbounded_channel();
        ServerBuilder { handle: ServerHandle { commands }, commands: receiver }
    }
}

macro_rules! settings {
    ($($name:ident($($type:ty)?))*) => {$(
        /// Has no effect.
        pub fn $name(self $(, _: $type)?) -> ServerBuilder {
            self
        }
    )*};
}

impl ServerBuilder {
    /// As in actix-server.
    pub fn new() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// As in actix-server.
    pub fn graceful_shutdown_signal(&self) -> GracefulShutdownSignal {
        GracefulShutdownSignal(())
    }

    settings! {
        workers(usize)
        worker_max_blocking_threads(usize)
        backlog(u32)
        mptcp(MpTcp)
        max_concurrent_connections(usize)
        maxconn(usize)
        system_exit()
        disable_signals()
        shutdown_timeout(u64)
    }

    /// The host ends a controller without asking it.
    pub fn shutdown_signal<F>(self, _: F) -> ServerBuilder
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self
    }

    /// Logs that nothing connects.
    pub fn bind<F, U, N>(self, _: N, addresses: U, _: F) -> io::Result<ServerBuilder>
    where
        F: ServerServiceFactory<TcpStream>,
        U: ToSocketAddrs,
        N: AsRef<str>,
    {
        addresses.to_socket_addrs()?.for_each(listening);
        Ok(self)
    }

    /// Has no effect.
    pub fn listen<F, N: AsRef<str>>(self, _: N, _: TcpListener, _: F) -> io::Result<ServerBuilder>
    where
        F: ServerServiceFactory<TcpStream>,
    {
        Ok(self)
    }

    /// Returns the server.
    pub fn run(self) -> Server {
        Server { handle: self.handle, commands: self.commands }
    }
}

/// Logs that nothing connects to an address.
#[doc(hidden)]
pub fn listening(address: SocketAddr) {
    eprintln!("the server on {address} gets no connections: a wasmop guest has no sockets");
}

/// A server without connections, which runs until it is stopped.
#[derive(Debug)]
#[must_use = "a server does nothing unless it is awaited"]
pub struct Server {
    handle: ServerHandle,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Server {
    /// As in actix-server.
    pub fn build() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// As in actix-server.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }
}

impl Future for Server {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some((ends, done)) = ready!(self.commands.poll_recv(context)) else { return Poll::Ready(Ok(())) };
            let _ = done.send(());
            if ends {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Stops a server.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    commands: mpsc::UnboundedSender<Command>,
}

impl ServerHandle {
    fn send(&self, ends: bool) -> impl Future<Output = ()> + use<> {
        let (done, result) = oneshot::channel();
        let _ = self.commands.send((ends, done));
        async move {
            let _ = result.await;
        }
    }

    /// Has no effect.
    pub fn pause(&self) -> impl Future<Output = ()> + use<> {
        self.send(false)
    }

    /// Has no effect.
    pub fn resume(&self) -> impl Future<Output = ()> + use<> {
        self.send(false)
    }

    /// Ends the server.
    pub fn stop(&self, _: bool) -> impl Future<Output = ()> + use<> {
        self.send(true)
    }
}
