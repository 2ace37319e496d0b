//! Runs packages: a host that steps, suspends and resumes controllers and watches the API server for them.
//!
//! A distribution that embeds the host needs [`Options`] and [`run`]:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use wasmop_host::{Deployment, Options, run};
//! use wasmop_package::Package;
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let package = Package::parse(std::fs::read("website.wasm")?)?;
//! let controllers = vec![Deployment::new("website", Arc::new(package))];
//! let cluster = kube::Config::infer().await?;
//! let options = Options {
//!     memory_budget: Some(64 << 20),
//!     ..Options::new(controllers, cluster, "/var/lib/wasmop".into())
//! };
//! let shutdown = async {
//!     let _ = tokio::signal::ctrl_c().await;
//! };
//! run(options, shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The crate wires the layers below it, and decides nothing itself:
//!
//! ```text
//! wasmop-host      run, options, settings, shell, install; status server, spans, memory pressure
//! ├─ wasmop-vm         wasmtime, memory, instances, compiled packages, the threads that step them
//! ├─ wasmop-api        API server, external hosts, upstream watches, Leases
//! ├─ wasmop-snapshot   files of snapshots and how they become durable
//! └─ wasmop-core       the control loop and every decision: no I/O, no clock
//! ```

mod activity_recorder;
mod error;
mod install;
mod memory_pressure;
mod options;
mod run;
mod settings;
mod shell;
pub mod status;
mod traces;

pub use error::HostError;
pub use memory_pressure::default_budget;
pub use options::{Deployment, Options, RefusedPackage, SHUTDOWN_TIMEOUT};
pub use run::run;
pub use settings::{ControllerSettings, Settings};
pub use traces::BoxedTracer;
