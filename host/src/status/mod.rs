//! The status of the host for Prometheus, probes, browsers and `wasmop top`.
//!
//! ```text
//! control loop ── counters ──► observed ──► values ──► JSON for the page and `wasmop top`
//!                 (a few bytes  (on request)    └────► metrics ──► OpenMetrics text
//!                 a controller)                            http serves them
//! ```
//!
//! Ten thousand suspended controllers must stay cheap. So the loop answers a question with a copy of plain numbers, and
//! another thread turns the copy into text while it is sent.

pub mod http;
mod metrics;
pub(crate) mod process;
mod question;
pub mod values;

pub(crate) use question::Question;
pub use values::Overview;
