//! What the status server asks of the host's loop.

use tokio::sync::oneshot;
use wasmop_core::status::observed::Observed;

/// Asked of the host's loop by a message; it never waits for whoever asks.
pub enum Question {
    /// Whether it answers at all.
    Alive(oneshot::Sender<()>),
    All(oneshot::Sender<Observed>),
}
