//! A TCP proxy that freezes on a test's command: no byte passes, and nothing is closed.
//!
//! A hanging proxy or middlebox behaves like this while its kernel still acknowledges bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A running proxy. Dropping it closes all its connections.
pub struct FreezingProxy {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    /// One flag for every connection so far.
    frozen: Mutex<Vec<Arc<AtomicBool>>>,
    /// Whether new connections are frozen.
    half_open: AtomicBool,
    accepted: AtomicUsize,
}

impl FreezingProxy {
    /// Listens on a free port of loopback, and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Result<FreezingProxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let frozen = Arc::new(AtomicBool::new(shared.half_open.load(Ordering::Relaxed)));
                shared.frozen.lock().unwrap_or_else(PoisonError::into_inner).push(frozen.clone());
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(pump(from_client, to_server, &frozen), pump(from_server, to_client, &frozen));
                });
            }
        });
        Ok(FreezingProxy { address, state, task: task.abort_handle() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Freezes all open connections for good.
    pub fn freeze(&self) {
        let frozen = self.state.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        frozen.iter().for_each(|connection| connection.store(true, Ordering::Relaxed));
    }

    /// Sets whether new connections are frozen from the start.
    pub fn set_half_open(&self, half_open: bool) {
        self.state.half_open.store(half_open, Ordering::Relaxed);
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for FreezingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Copies bytes until the end of the stream, or until the connection is frozen. Then bytes are discarded.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, frozen: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await;
        if frozen.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        match read {
            Ok(count @ 1..) if to.write_all(&bytes[..count]).await.is_ok() => {}
            _ => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}
