//! An HTTP CONNECT proxy that records its targets and connects every name to one server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub struct ConnectProxy {
    pub address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl ConnectProxy {
    /// Starts a proxy that connects every name to `server`.
    pub async fn start(server: SocketAddr) -> Result<ConnectProxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let noted = targets.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let noted = noted.clone();
                connections.spawn(async move {
                    let _ = serve(client, server, &noted).await;
                });
            }
        });
        Ok(ConnectProxy { address, targets, task: task.abort_handle() })
    }

    /// The number of requests for this target.
    pub fn count(&self, target: &str) -> usize {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|seen| *seen == target).count()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    noted.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
    let mut server = TcpStream::connect(server).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
