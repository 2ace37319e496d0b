//! Kubernetes controllers in Rust that run as suspendable WebAssembly components, and natively from the same source.
//!
//! A controller is an ordinary [`kube`] program with the real `kube::Client`, `Api`, `finalizer`, `events::Recorder`
//! and `Action`. It uses [`macro@main`] instead of `#[tokio::main]` and [`Controller`] instead of
//! `kube::runtime::Controller`. The folder `examples/` has complete programs.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use futures::StreamExt;
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::{Api, Client, runtime::{controller::Action, watcher}};
//!
//! async fn reconcile(object: Arc<ConfigMap>, _: Arc<Client>) -> kube::Result<Action> {
//!     tracing::info!(name = object.metadata.name, "reconciling");
//!     Ok(Action::requeue(Duration::from_secs(300)))
//! }
//!
//! #[wasmop::main]
//! async fn main() -> kube::Result<()> {
//!     let client = Client::try_default().await?;
//!     wasmop::Controller::new(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
//!         .run(reconcile, |_, _, _| Action::await_change(), Arc::new(client))
//!         .for_each(|_| async {})
//!         .await;
//!     Ok(())
//! }
//! ```
//!
//! # In a wasmop host
//!
//! `wasmop build` compiles the program for `wasm32-wasip1`. Plain `cargo build` cannot, because that target needs small
//! changes to `kube`. The host watches, filters, queues and retries with backoff on behalf of [`Controller`]. Between
//! reconciles the guest is idle, so the host can suspend it to disk. Async code works as usual: `tokio::spawn`,
//! `tokio::time`, `join!` and concurrent reconciles. There are three differences:
//!
//! * The clock does not advance while code runs, only between polls. A loop that waits for `Instant::now()` to advance
//!   never ends. Use `tokio::time::sleep`, not `std::thread::sleep`.
//! * There are no threads, files or sockets. Use [`fetch`] for requests to external hosts. `wasmop.toml` and the host's
//!   configuration set the environment and the arguments.
//! * A panic discards everything since the last await. The host retries the reconcile with backoff.

#![warn(missing_docs)]

mod fetch;
mod fetch_error;
mod key;
#[cfg(any(target_family = "wasm", test))]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
mod spec;

#[cfg(any(target_family = "wasm", test))]
mod wasm;
#[cfg(target_family = "wasm")]
pub use wasm::{controller::Controller, init_logging, name};

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub use native::{controller::Controller, init_logging, name};

pub use fetch::fetch;
pub use fetch_error::FetchError;
pub use wasmop_macros::main;

/// The functions that the expansion of [`macro@main`] calls. Not for direct use.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::native::run;
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::program::run;
}
