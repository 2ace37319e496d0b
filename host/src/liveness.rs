//! How long a silent peer counts as alive, in one place.
//!
//! A connection can die without a word: a node vanishes, a firewall forgets the flow, a proxy hangs while its
//! kernel still acknowledges every byte. TCP alone notices the first two. These limits find all three within
//! 45 s, which is what client-go takes (30 s without a byte, then 15 s for the answer to a ping).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// From the name lookup to the end of the TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of a response, and between two pieces of a response that is not a stream. Admission webhooks
/// may take 30 s; with [`CONNECT_TIMEOUT`] it makes 45 s.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(35);
/// An HTTP/2 connection without a frame for this long gets a PING.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// The PING must be answered within this time.
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// A watch over HTTP/1.1, which has no PING, is asked for again after this time without a byte.
pub const SILENT_WATCH: Duration = Duration::from_secs(30);
/// TCP probes: time without a segment before the first, and between two.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is dead.
pub const PROBES: u32 = 2;
/// Sent bytes must be acknowledged within this time.
pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The limits of requests to the API server; shorter ones are for tests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    pub response: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits { response: RESPONSE_TIMEOUT, ping_interval: PING_INTERVAL, ping_timeout: PING_TIMEOUT }
    }
}

/// Ends a read from a peer that has been silent for too long. The time between a result and the next poll does not
/// count.
#[derive(Debug)]
pub struct ReadDeadline {
    limit: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl ReadDeadline {
    pub fn new(limit: Duration) -> ReadDeadline {
        ReadDeadline { limit, silence: None }
    }

    /// Passes on the outcome of a poll for data.
    ///
    /// # Errors
    /// `TimedOut` if there is none and the peer has been silent for longer than the limit.
    pub fn check<T>(&mut self, polled: Poll<T>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(data) => {
                self.silence = None;
                Poll::Ready(Ok(data))
            }
            Poll::Pending => {
                let limit = self.limit;
                let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
                silence.as_mut().poll(context).map(|()| Err(timed_out("nothing more", limit)))
            }
        }
    }
}

/// `no answer within 35 s`
pub fn timed_out(what: &str, after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", after.as_secs()))
}
