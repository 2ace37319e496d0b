//! Runs packages of small controllers in WAT under wasmtime.

mod adapters;
mod harness;
mod lines;
mod state;
