//! The testbed of tests and demos: a control plane and `wasmop run` as child processes, and the log of the host.

// Tests are its only users.
#![allow(missing_docs)]

pub mod cargo_variables;
pub mod controlplane;
pub mod host;
pub mod log;
mod process;
