//! The guest side of a wasmop host, for programs in Rust.
//!
//! A host calls the guest's export `step`. A step delivers events to tasks, runs the tasks until none can make progress,
//! and returns. This crate has the executor, the calls to the API server and to external hosts, and the ABI. Programs do
//! not use it directly: the crate `wasmop` builds on it, and `wasmop build` adds it to programs that do not know wasmop.
//!
//! Each module imports only modules below it:
//!
//! ```text
//! unmodified                          the `main` of a program that does not know wasmop
//! executor   connections              runs one step; the guest's export. The other side of a program's sockets
//! dispatcher                          reconciles and mappings of one controller
//! registry   mapped_keys              registered controllers   what objects were mapped to last
//! calls      registration             HTTP requests            the JSON for `register`
//! tasks      headers                  reconciles in progress
//! abi        error_chain  event_name  panic_help
//! ```
//!
//! In native tests `abi` records the calls that a host would receive.
#![warn(missing_docs)]

pub mod abi;
pub mod calls;
#[cfg(all(target_family = "wasm", feature = "unmodified"))]
mod connections;
pub mod dispatcher;
pub mod error_chain;
pub mod event_name;
#[cfg(target_family = "wasm")]
pub mod executor;
mod headers;
mod mapped_keys;
#[cfg(target_family = "wasm")]
pub mod needs_guest_driven;
#[cfg(any(target_family = "wasm", test))]
mod panic_help;
pub mod registration;
pub mod registry;
pub mod tasks;
#[cfg(all(target_family = "wasm", feature = "unmodified"))]
mod unmodified;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[cfg(target_family = "wasm")]
pub use executor::name;
