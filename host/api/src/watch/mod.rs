//! Watches the API server for all controllers: one upstream watch a (kind, scope, selector, identity), of which
//! subscribers get the changes only.
//!
//! ```text
//! subscribe ─► hub ─► upstream task: list, watch, relist ─► index ─► Delivery ─► control loop
//!                     or derive from a parent watch ◄────────┤
//! replay ────► hub ──────── content of the index ────────────┘
//! ```

mod chance;
mod definition;
mod derivation;
mod derived;
mod discovery;
mod failure;
mod flow_control;
mod hub;
mod journal;
mod shared_watch;
mod upstream;

pub use flow_control::Delivery;
pub use hub::WatchHub;
pub use journal::Journals;
pub use shared_watch::Watched;

#[cfg(test)]
mod tests;
