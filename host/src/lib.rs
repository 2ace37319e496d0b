//! Runs wasmop packages: steps, suspends and resumes them, watches the API server for them.
//!
//! ```text
//! edge    host        the loop: messages in, work out            client, connect, requests, watch: API server
//!         batch, pool steps and their roll-back, on threads      describe: a dry run for `wasmop build`
//!         pressure    the memory there is                        status: metrics, probes, the page
//!         traces      OpenTelemetry spans of reconciles
//!         election    which of several hosts runs which controller
//! pure    controller  one controller's state machine             crash, queue, limits, permissions, identity, cache,
//!                                                                    startup, watch::{index, relation}
//! below   instance, guest, engine, code    a live instance, its step, wasmtime, packages made ready to run
//!         code_file                        compiled code on disk
//!         live, soft, wasi                         the soft tier: components with WASI
//!         snapshot, memory, spares         files; mapping them (the only unsafe memory code), again and again
//!         page_map, address_space          what the kernel says of that memory, and how much of it there may be
//! ```
//!
//! [`run`] is the whole host; everything else is public for tools and benches.

#![deny(unsafe_code)]

pub mod address_space;
pub mod batch;
pub mod cache;
pub mod client;
pub mod code;
mod code_file;
pub mod connect;
pub mod connections;
pub mod controller;
pub mod crash;
pub mod describe;
pub mod election;
pub mod engine;
pub mod external;
pub mod guest;
pub mod host;
pub mod identity;
pub mod instance;
pub mod limits;
pub mod live;
pub mod liveness;
pub mod memory;
pub mod own_writes;
pub mod page_map;
pub mod permissions;
pub mod pool;
pub mod pressure;
pub mod queue;
pub mod requests;
pub mod snapshot;
pub mod soft;
pub mod spares;
pub mod startup;
pub mod status;
pub mod traces;
pub mod wasi;
pub mod watch;

pub use describe::{DescribeError, Description, describe};
pub use host::{ControllerSettings, Deployment, HostError, Options, RefusedPackage, SHUTDOWN_TIMEOUT, Settings, run};
