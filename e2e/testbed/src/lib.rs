//! What tests and demos run on: a control plane (`controlplane`) and a `wasmop run` (`host`) as
//! child processes, and what that host logs (`log`), as values to ask questions of.

#![deny(unsafe_code)]

pub mod cargo_variables;
pub mod controlplane;
pub mod host;
pub mod log;
mod process;
