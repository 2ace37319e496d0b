//! A connection with a limit for the time that the client delays a response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Fails to write once the client has delayed one response for too long in total.
pub struct Patient<T> {
    io: T,
    /// The limit of one response.
    patience: Duration,
    /// Time left for the current response.
    left: Duration,
    /// Start and end of the current wait.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<T> Patient<T> {
    pub fn new(io: T, patience: Duration) -> Patient<T> {
        Patient { io, patience, left: patience, waiting: None }
    }

    /// Counts the time that a write takes.
    fn count<R>(&mut self, result: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            return result;
        }
        let left = self.left;
        let (_, until) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the answer")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        // A new request restarts the limit. During a response at most one buffer is read ahead.
        if buffer.filled().len() > before {
            self.left = self.patience;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(result, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.count(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(context);
        self.count(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.count(result, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn stalled_client_times_out() {
        let (server, _client) = duplex(16);
        let error = Patient::new(server, PATIENCE).write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn slow_client_times_out() {
        let (server, mut client) = duplex(1);
        let mut server = Patient::new(server, PATIENCE);
        let slow_reader = async move {
            let mut turns = tokio::time::interval(PATIENCE / 10);
            loop {
                turns.tick().await;
                if client.read_u8().await.is_err() {
                    return;
                }
            }
        };
        let answer = async move { server.write_all(&[0; 1000]).await };
        let (error, ()) = tokio::join!(answer, slow_reader);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn each_request_restarts_the_timeout() {
        let (server, mut client) = duplex(16);
        let mut server = Patient::new(server, PATIENCE);
        server.left = Duration::ZERO;
        client.write_u8(0).await.unwrap();
        server.read_u8().await.unwrap();
        assert_eq!(server.left, PATIENCE);
    }
}
