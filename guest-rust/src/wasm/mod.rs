//! The guest side of the world `wasmop:controller`.
//!
//! Each module imports only modules below it:
//!
//! ```text
//! executor                            runs one step; the guest's exports
//! controller                          the builder and its stream of results
//! dispatcher                          turns the host's events into reconciles and mappings
//! registry   mapped_keys              registered controllers   what objects were mapped to last
//! calls      log                      HTTP requests            tracing events
//! tasks      headers   log_filter     reconciles in progress
//! abi        error_chain  event_name  panic_help
//! ```
//!
//! In native tests `abi` records the calls that a host would receive. The modules that need the ported `kube` or a
//! step are not compiled there.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

pub mod abi;
pub mod calls;
#[cfg(target_family = "wasm")]
pub mod controller;
#[cfg(target_family = "wasm")]
pub mod dispatcher;
pub mod error_chain;
pub mod event_name;
#[cfg(target_family = "wasm")]
pub mod executor;
pub mod headers;
pub mod log;
pub mod log_filter;
pub mod mapped_keys;
pub mod panic_help;
#[cfg(target_family = "wasm")]
pub mod registry;
pub mod tasks;

#[cfg(target_family = "wasm")]
pub use executor::name;
#[cfg(target_family = "wasm")]
pub use log::init_logging;
