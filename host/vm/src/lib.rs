//! Runs instances of packages: compiles them, steps them, rolls back failed steps, suspends and resumes.
//!
//! ```text
//!  step_scheduler   worker threads, one step for each core
//!        │ runs
//!  step_runner      a batch of events; roll-back and blame when a step fails
//!        │
//!  instance ─────── full: snapshots, step log       soft: suspends within the process
//!        │
//!        ├─ compiled_package ── compiled_code_file  code and base image of a package
//!        │        ▲
//!        │  package_description                     the dry run of `wasmop build`
//!        │
//!  guest            one instance in wasmtime
//!        │
//!  engine ───────── epoch_ticker                    settings; interrupts long steps
//!        ├─ step_context ── world, step_input       host functions: input in, actions out
//!        ├─ wasi_linker ─── wasi, log_limit         WASI for the soft tier
//!        ├─ memory_pool                             memories for the next resumes
//!        └─ memory_creator ─ memory ── page_map     linear memory, dirty pages
//!
//!  address_space, thread_clock                      what the process may use and has used
//! ```
//!
//! Unsafe code: `memory`, `memory_creator`, `page_map`, and loading compiled code in `compiled_code_file`.

pub mod address_space;
mod compiled_code_file;
pub mod compiled_package;
pub mod engine;
mod epoch_ticker;
mod guest;
pub mod instance;
mod log_limit;
mod memory;
mod memory_creator;
mod memory_pool;
pub mod package_description;
mod page_map;
mod step_context;
pub mod step_input;
pub mod step_runner;
pub mod step_scheduler;
pub mod thread_clock;
pub mod wasi;
mod wasi_linker;
mod world;

pub use compiled_code_file::CodeFileError;
pub use guest::{InstantiateError, LoadError};
pub use memory::RESERVED;
pub use memory_creator::MemoryCount;
pub use memory_pool::MemoryPool;
