//! Kubernetes controllers in Rust that run as suspendable WebAssembly components, and natively
//! from the same source.
//!
//! The controller is an ordinary [`kube`] program: the real `kube::Client`, `Api`, `finalizer`,
//! `events::Recorder`, `Action`. Two things differ from one that has never heard of wasmop:
//! [`macro@main`] in place of `#[tokio::main]`, and [`Controller`] in place of
//! `kube::runtime::Controller`.
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
//! `wasmop build` compiles the program for `wasm32-wasip1`; plain `cargo build` can't, because
//! `kube` needs a few lines changed there. The host then watches, filters, queues and backs off on
//! behalf of [`Controller`], so between two reconciles there is nothing for the guest to do and it
//! can be on disk. Everything async works as usual: `tokio::spawn`, `tokio::time`, `join!`, many
//! reconciles at once. Three things to know:
//!
//! * Time stands still while code runs, and goes on between polls: a loop that waits for
//!   `Instant::now()` to advance never ends. `tokio::time::sleep` is right, `std::thread::sleep` is not.
//! * There are no threads, files or sockets (for requests to other hosts there is [`fetch`]). Environment and arguments are
//!   those that `wasmop.toml` and the host's configuration give.
//! * A panic undoes all that was done since the last await, and the reconcile that panicked is
//!   retried with backoff.

mod fetch;
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

pub use fetch::{FetchError, fetch};
pub use wasmop_macros::main;

/// What [`macro@main`] expands to. Not for direct use.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::native::run;
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::executor::run;
}
