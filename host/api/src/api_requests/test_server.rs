//! A tiny HTTP/1.1 server on loopback for tests, which sends exactly the bytes that a test gives it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub method: String,
    pub path: String,
    /// Lines in lower case.
    pub headers: String,
    pub body: String,
}

/// A step of an answer; after the last one the server closes the connection.
#[derive(Clone)]
pub(crate) enum Part {
    Send(Vec<u8>),
    Wait(Arc<Notify>),
}

pub(crate) struct TestServer {
    pub uri: http::Uri,
    received: Arc<Mutex<Vec<Received>>>,
}

impl TestServer {
    pub async fn start(answer: impl Fn(&Received) -> Vec<Part> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let log = received.clone();
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let request = read(&mut stream).await;
                    log.lock().unwrap().push(request.clone());
                    for part in answer(&request) {
                        match part {
                            Part::Send(bytes) => {
                                if stream.write_all(&bytes).await.is_err() {
                                    return;
                                }
                            }
                            Part::Wait(notify) => notify.notified().await,
                        }
                    }
                });
            }
        });
        TestServer { uri, received }
    }

    pub fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(self.uri.clone());
        config.default_retry = false;
        crate::client::test_client(config).unwrap()
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// A complete answer.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<Part> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    vec![Part::Send(bytes)]
}

/// The beginning of an answer in chunks.
pub(crate) fn chunked() -> Part {
    Part::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            .to_vec(),
    )
}

pub(crate) fn chunk(data: &str) -> Part {
    Part::Send(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}

pub(crate) fn last_chunk() -> Part {
    Part::Send(b"0\r\n\r\n".to_vec())
}

async fn read(stream: &mut TcpStream) -> Received {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return Received::default();
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let (first, headers) = text.split_once("\r\n").unwrap();
    let headers = headers.to_lowercase();
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let mut words = first.split(' ');
    Received {
        method: words.next().unwrap_or_default().into(),
        path: words.next().unwrap_or_default().into(),
        headers,
        body: String::from_utf8_lossy(&bytes[head..]).into_owned(),
    }
}
