//! The proxy's socket: accepts connections, and can break them or close.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::response::answer;
use super::rule::State;

pub(super) struct Listener {
    state: Arc<State>,
    address: SocketAddr,
    /// `None` while the socket is closed.
    accepting: Mutex<Option<Accepting>>,
}

/// A task that accepts connections. Its end closes the socket and all connections.
struct Accepting {
    /// A message breaks all connections. The socket stays open.
    cut: tokio::sync::mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    pub async fn start(state: Arc<State>) -> Result<Self> {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.context("listening on loopback")?;
        let address = socket.local_addr()?;
        let accepting = Mutex::new(Some(accept(state.clone(), socket)));
        Ok(Listener { state, address, accepting })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn cut(&self) {
        if let Some(accepting) = &*self.accepting.lock().await {
            let (done, is_done) = oneshot::channel();
            if accepting.cut.send(done).is_ok() {
                let _ = is_done.await;
            }
        }
    }

    pub async fn close(&self) {
        if let Some(mut accepting) = self.accepting.lock().await.take() {
            accepting.task.abort();
            // The socket is closed once the task has ended.
            let _ = (&mut accepting.task).await;
        }
    }

    pub async fn open(&self) -> Result<()> {
        let mut accepting = self.accepting.lock().await;
        if accepting.is_none() {
            let socket = TcpListener::bind(self.address).await.context("listening at the same address again")?;
            *accepting = Some(accept(self.state.clone(), socket));
        }
        Ok(())
    }
}

fn accept(state: Arc<State>, socket: TcpListener) -> Accepting {
    let (cut, mut cuts) = tokio::sync::mpsc::unbounded_channel::<oneshot::Sender<()>>();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    // Small responses must not wait for an acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let state = state.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(state.clone(), request));
                        // An error is a disconnect of the client or an injected fault.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                Some(done) = cuts.recv() => {
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Accepting { cut, task }
}
