//! The timeouts of all connections and requests.
//!
//! A connection can die silently: a node vanishes, a firewall drops the flow, or a proxy hangs while its kernel still
//! acknowledges every byte. TCP alone detects the first two. These timeouts detect all three within 45 s, as
//! client-go does (30 s without a byte, then 15 s for the reply to a PING).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// From the name lookup to the end of the TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of a response, and between two pieces of a response that is not a stream. Admission webhooks may
/// take 30 s; together with [`CONNECT_TIMEOUT`] it is 45 s.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(35);
/// Until the head of the response to a write over HTTP/2, where PINGs detect a dead connection. The API server
/// times a write out after 60 s.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(65);
/// For a whole response that is not a stream; only time spent waiting for the peer counts. A list of 30 MB over
/// 1 Mbit/s takes 4 min.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(300);
/// An HTTP/2 connection without a frame for this long gets a PING.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time within which the peer must reply to a PING.
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// A watch over HTTP/1.1, which has no PING, is restarted after this time without a byte.
pub const SILENT_WATCH: Duration = Duration::from_secs(30);
/// A guest's stream over HTTP/1.1 ends after this time without a byte. A watch gets a bookmark about every minute.
pub const SILENT_STREAM: Duration = Duration::from_secs(300);
/// Time without a segment before the first TCP probe, and between two probes.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered TCP probes after which the connection is dead.
pub const PROBES: u32 = 2;
/// Time within which the peer's kernel must acknowledge sent bytes.
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeouts of requests to the API server. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// See [`RESPONSE_TIMEOUT`].
    pub response: Duration,
    /// See [`WRITE_TIMEOUT`].
    pub write: Duration,
    /// See [`TRANSFER_TIMEOUT`].
    pub transfer: Duration,
    /// See [`SILENT_STREAM`].
    pub silent_stream: Duration,
    /// See [`PING_INTERVAL`].
    pub ping_interval: Duration,
    /// See [`PING_TIMEOUT`].
    pub ping_timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            response: RESPONSE_TIMEOUT,
            write: WRITE_TIMEOUT,
            transfer: TRANSFER_TIMEOUT,
            silent_stream: SILENT_STREAM,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
        }
    }
}

/// Ends a read when the peer is silent for too long, or takes too long in total. Time between a result and the next
/// poll does not count.
#[derive(Debug)]
pub struct ReadDeadline {
    /// Longest silence.
    limit: Duration,
    /// Longest wait for the peer in total.
    total: Duration,
    /// Waited so far, without the current silence.
    waited: Duration,
    silence: Option<Silence>,
}

/// The reader waits for the peer.
#[derive(Debug)]
struct Silence {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl ReadDeadline {
    /// `limit`: longest single silence. `total`: longest sum of all silences.
    pub fn new(limit: Duration, total: Duration) -> ReadDeadline {
        ReadDeadline { limit, total, waited: Duration::ZERO, silence: None }
    }

    /// Passes on the result of a poll for data.
    ///
    /// # Errors
    /// `TimedOut` if the poll is pending and the peer has been silent, or has taken in total, too long.
    pub fn check<T>(&mut self, polled: Poll<T>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(data) => {
                if let Some(silence) = self.silence.take() {
                    self.waited = self.waited.saturating_add(silence.since.elapsed());
                }
                Poll::Ready(Ok(data))
            }
            Poll::Pending => {
                let left = self.total.saturating_sub(self.waited);
                let (what, limit) = match left < self.limit {
                    true => ("the response did not end", self.total),
                    false => ("nothing more", self.limit),
                };
                let new = || Silence { since: Instant::now(), end: Box::pin(sleep(left.min(self.limit))) };
                let silence = self.silence.get_or_insert_with(new);
                silence.end.as_mut().poll(context).map(|()| Err(timed_out(what, limit)))
            }
        }
    }
}

/// An error like `no answer within 35 s`.
pub fn timed_out(what: &str, after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", after.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Reads from a peer that sends `sends` times, each after `pause`, and then falls silent. The reader is `busy` after
    /// each read. Returns the number of reads, and the final error.
    async fn read(mut deadline: ReadDeadline, sends: usize, pause: Duration, busy: Duration) -> (usize, String) {
        for reads in 0.. {
            let mut next = Box::pin(sleep(if reads < sends { pause } else { NEVER }));
            let read = std::future::poll_fn(|context| {
                let polled = next.as_mut().poll(context);
                deadline.check(polled, context)
            });
            if let Err(error) = read.await {
                return (reads, error.to_string());
            }
            sleep(busy).await;
        }
        unreachable!("the deadline ends it");
    }

    #[tokio::test]
    async fn silence_ends_a_read() {
        let (reads, error) = read(ReadDeadline::new(ms(1000), NEVER), 3, ms(1), ms(0)).await;
        assert_eq!((reads, &*error), (3, "nothing more within 1 s"));
    }

    #[tokio::test]
    async fn slow_peer_is_cut_off() {
        let (reads, error) = read(ReadDeadline::new(NEVER, ms(1000)), usize::MAX, ms(10), ms(0)).await;
        assert!(reads > 0 && reads <= 100, "{reads}");
        assert_eq!(error, "the response did not end within 1 s");
    }

    #[tokio::test]
    async fn time_of_the_reader_does_not_count() {
        let (reads, _) = read(ReadDeadline::new(NEVER, ms(2000)), 30, ms(1), ms(100)).await;
        assert_eq!(reads, 30);
    }
}
