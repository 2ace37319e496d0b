//! The guest side of the world `wasmop:controller`.
//!
//! The crate `wasmop-runtime` runs steps and makes calls. The modules here turn its events into reconciles. Each module
//! imports only modules below it:
//!
//! ```text
//! program                             what the runtime runs: the user's `main`, and the handlers of events
//! controller                          the builder and its stream of results
//! dispatcher                          turns the host's events into reconciles and mappings
//! registry   mapped_keys              registered controllers   what objects were mapped to last
//! log                                 tracing events
//! log_filter
//! ```
//!
//! In native tests `abi` records the calls that a host would receive. The modules that need the ported `kube` or a
//! step are not compiled there.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

#[cfg(target_family = "wasm")]
pub mod controller;
#[cfg(target_family = "wasm")]
pub mod dispatcher;
pub mod log;
pub mod log_filter;
pub mod mapped_keys;
#[cfg(target_family = "wasm")]
pub mod program;
#[cfg(target_family = "wasm")]
pub mod registry;

pub use wasmop_runtime::{abi, error_chain};

#[cfg(target_family = "wasm")]
pub use log::init_logging;
#[cfg(target_family = "wasm")]
pub use wasmop_runtime::{name, tasks};
