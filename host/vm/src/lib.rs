//! Turns packages and events into steps of instances, each of which can be undone, suspended and resumed.
//!
//! ```text
//! step_runner      a batch of events to an instance, and its roll-back    step_scheduler  threads that run them
//! instance         an instance of either tier: full, soft                 describe   a dry run for `wasmop build`
//! guest, wasi      one step in wasmtime, and what it may ask the host for  step_input, thread_clock, log_limit
//! engine           wasmtime, for all guests                               compiled_package, compiled_code_file
//! memory           linear memories (the only unsafe memory code), memory_pool  used again
//! page_map         what the kernel says of that memory                    address_space  how much there may be
//! ```

#![deny(unsafe_code)]

pub mod address_space;
mod compiled_code_file;
pub mod compiled_package;
pub mod package_description;
pub mod engine;
pub mod guest;
pub mod instance;
mod log_limit;
pub mod memory;
pub mod memory_pool;
pub mod page_map;
pub mod step_input;
pub mod step_runner;
pub mod step_scheduler;
pub mod thread_clock;
pub mod wasi;
