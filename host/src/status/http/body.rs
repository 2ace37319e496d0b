//! A response body that a function writes while the server sends it.

use std::convert::Infallible;
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;

/// The body of all responses.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Bytes of a chunk.
const CHUNK: usize = 16 << 10;
/// Chunks that may wait for a slow reader.
const CHUNKS: usize = 2;

/// A body of known content.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// A body that `write` writes on its own thread, which waits for the client. Writing fails only if the client closes
/// the connection. `room` is dropped when the thread ends.
pub fn written<R: Send + 'static>(room: R, write: impl FnOnce(&mut Writer) -> io::Result<()> + Send + 'static) -> Body {
    let (chunks, received) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut writer = Writer { buffer: BytesMut::with_capacity(CHUNK), chunks };
        if write(&mut writer).and_then(|()| writer.send()).is_err() {
            tracing::trace!("the client closed the connection");
        }
        drop(room);
    });
    let frames = stream::unfold(received, |mut received: mpsc::Receiver<Bytes>| async move {
        Some((Ok(Frame::data(received.recv().await?)), received))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Collects text into chunks.
pub struct Writer {
    buffer: BytesMut,
    chunks: mpsc::Sender<Bytes>,
}

impl Writer {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        if chunk.is_empty() {
            return Ok(());
        }
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
