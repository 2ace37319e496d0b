//! Packages made of small controllers in WAT, run under wasmtime.

mod adapters;
mod harness;
mod lines;
mod state;
