//! Flow control between upstream watches and the control loop, which bounds the bytes of whole objects in flight.
//!
//! ```text
//! upstream: turn() ─► read, apply ─► send: charge ─► channel ─► control loop drops the delivery: discharge
//!             ▲                                                                              │
//!             └────────────── waits while more than MAX_IN_FLIGHT_BYTES are in flight ◄──────┘
//! ```
//!
//! Only upstreams wait. The control loop, which empties the channel, sends replays without a turn. They count, and so
//! delay upstreams but never the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, MutexGuard, Notify};
use wasmop_core::watch::WatchEvent;

/// Upstreams wait while more than this is in flight. It holds several objects of etcd's maximum size (1.5 MiB), so
/// that reading and reconciling overlap.
pub(super) const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;

/// The flow control of a host. Invariant: `bytes` is the sum of all [`Charge`]s. The charge whose drop brings it to
/// the limit or below notifies `fell`.
#[derive(Debug, Default)]
pub(super) struct FlowControl {
    bytes: AtomicUsize,
    /// Held by the one upstream that may add an object, so that not all continue at once.
    turn: Mutex<()>,
    fell: Notify,
}

/// The bytes of an event's whole objects, in flight until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    /// `None` for events without whole objects, as most are.
    flow: Option<Arc<FlowControl>>,
    bytes: usize,
}

/// An event on its way to the control loop. Its whole objects count as in flight until the delivery is dropped.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: WatchEvent,
    _charge: Charge,
}

impl Delivery {
    pub(super) fn new(event: WatchEvent, charge: Charge) -> Delivery {
        Delivery { event, _charge: charge }
    }
}

impl FlowControl {
    /// Bytes of whole objects in flight.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Waits until one more object of any size may be sent. Upstreams take turns in the order of their calls, until they
    /// drop the guard. Cancel safe.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        while self.bytes() > MAX_IN_FLIGHT_BYTES {
            // A permit of an earlier fall only costs another check.
            self.fell.notified().await;
        }
        turn
    }

    /// Counts bytes as in flight, without waiting.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        if bytes == 0 {
            return Charge { flow: None, bytes };
        }
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Charge { flow: Some(self.clone()), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(flow) = &self.flow else { return };
        let before = flow.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before > MAX_IN_FLIGHT_BYTES && before - self.bytes <= MAX_IN_FLIGHT_BYTES {
            flow.fell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn turn_waits_above_the_limit_and_comes_when_charges_are_dropped() {
        let flow = Arc::new(FlowControl::default());
        assert!(flow.turn().now_or_never().is_some());
        // An object larger than the limit may pass.
        let large = flow.charge(2 * MAX_IN_FLIGHT_BYTES);
        let small = flow.charge(1);
        assert!(flow.charge(0).flow.is_none());
        let mut turn = Box::pin(flow.turn());
        assert!(turn.as_mut().now_or_never().is_none());
        drop(small);
        assert!(turn.as_mut().now_or_never().is_none());
        drop(large);
        assert!(turn.now_or_never().is_some());
        assert_eq!(flow.bytes(), 0);
        let _full = flow.charge(MAX_IN_FLIGHT_BYTES);
        assert!(flow.turn().now_or_never().is_some(), "the limit itself is not above it");
    }

    #[test]
    fn one_upstream_has_the_turn_and_a_cancelled_one_blocks_no_other() {
        let flow = Arc::new(FlowControl::default());
        let first = flow.turn().now_or_never().unwrap();
        let mut second = Box::pin(flow.turn());
        assert!(second.as_mut().now_or_never().is_none());
        // The first one's charge delays the second.
        let charge = flow.charge(MAX_IN_FLIGHT_BYTES + 1);
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = Box::pin(flow.turn());
        assert!(third.as_mut().now_or_never().is_none());
        // The second watch ends after it was notified.
        drop(charge);
        drop(second);
        assert!(third.now_or_never().is_some());
    }
}
