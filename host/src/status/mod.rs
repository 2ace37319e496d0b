//! What the host tells about itself: to Prometheus, to probes, to people with a browser or `wasmop top`.
//!
//! ```text
//! host's loop ── counters ──► observed ──► values ──► JSON for the page and `wasmop top`
//!                (a few bytes  (asked for      └────► metrics ──► OpenMetrics text
//!                a controller)  by a message)              http serves them
//! ```
//!
//! Ten thousand suspended controllers must stay cheap, so nothing is kept that can be read off the host's
//! state: the loop answers a question with a copy of plain numbers, and all text is made from that copy on
//! another thread, piece by piece as it is sent.

pub mod http;
pub mod metrics;
pub(crate) mod process;
pub(crate) mod question;
pub mod values;

pub use values::Overview;
