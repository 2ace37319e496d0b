//! Reads the watches that guest-driven packages open, so that the host can keep them up in their place.
//!
//! A watch has to end and start again for many reasons that do not concern the guest: time-outs, reconnects, restarts
//! of the API server. The host hides them, so that they do not resume an idle guest. Guests with equal watches share one.
//! [`GuestWatch`] says which watches are equal and where one begins. [`Progress`] decides which events the guest gets.

mod line;
mod progress;
mod request;

/// How many watches guests have at the moment, without those that still list or catch up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestWatchCounts {
    /// Connections to the API server.
    pub connections: usize,
    /// Watches of guests that they serve.
    pub watches: usize,
}

pub use progress::{Progress, Verdict};
pub use request::{GuestWatch, Position, Stream};
