//! Questions of the status server to the control loop.

use tokio::sync::oneshot;
use wasmop_core::status::observed::Observed;

/// A question to the control loop, with a channel for the answer.
pub enum Question {
    /// Whether the loop answers.
    Alive(oneshot::Sender<()>),
    /// The status of the whole host.
    All(oneshot::Sender<Observed>),
}
