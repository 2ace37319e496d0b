//! The testbed of tests and demos: a control plane and `wasmop run` as child processes, and the log of the host.

#![deny(unsafe_code)]

pub mod cargo_variables;
pub mod controlplane;
pub mod host;
pub mod log;
mod process;
