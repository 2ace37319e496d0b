//! The guest side of the world `wasmop:controller`: an executor that runs until nothing can run,
//! a service that turns HTTP requests into calls of the host, and a controller driven by the host.
//!
//! Natively, in tests, the host is a recorder (`abi::host`) and the parts that need the ported
//! `kube` or a step are left out.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

pub mod abi;
pub mod calls;
#[cfg(target_family = "wasm")]
pub mod controller;
pub mod event_name;
#[cfg(target_family = "wasm")]
pub mod executor;
pub mod filter;
pub mod headers;
pub mod log;
pub mod mapped;
pub mod panic_help;
pub mod tasks;

#[cfg(target_family = "wasm")]
pub use executor::name;
#[cfg(target_family = "wasm")]
pub use log::init_logging;

/// An error and what caused it, as one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
