//! Watches the API server for all packages: one upstream watch a (kind, scope, selector, identity) however
//! many controllers want it, and only what changed comes out.
//!
//! ```text
//! subscribe ─► hub ─► upstream task: list, watch, relist ─► index ─► Delivery ─► host's loop
//!                     or follow a parent watch ◄── following ──┤                      │
//! replay ────► hub ──────── the index's content ──────────────┘                      │
//!                                             passage, keys_for ► work queues ◄──────┘
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
