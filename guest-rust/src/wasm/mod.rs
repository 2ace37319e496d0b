//! The guest side of the world `wasmop:controller`.
//!
//! The crate `wasmop-runtime` runs steps, makes calls, and turns the host's events into reconciles. The modules here give
//! it the user's functions. Each module imports only modules below it:
//!
//! ```text
//! program                             what the runtime runs: the user's `main`
//! controller                          the builder and its stream of results
//! reconciler                          the user's reconciler, error policy and mappers
//! log                                 tracing events
//! log_filter
//! ```
//!
//! In native tests `abi` records the calls that a host would receive. The modules that need the ported `kube` or a
//! step are not compiled there.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

#[cfg(target_family = "wasm")]
pub mod controller;
pub mod log;
pub mod log_filter;
#[cfg(target_family = "wasm")]
pub mod program;
#[cfg(target_family = "wasm")]
pub mod reconciler;

pub use wasmop_runtime::{abi, error_chain};

#[cfg(target_family = "wasm")]
pub use log::init_logging;
#[cfg(target_family = "wasm")]
pub use wasmop_runtime::name;
