//! Turns packages, settings and a cluster into running controllers: wires the crates below it together.
//!
//! ```text
//! host      the loop: messages in, work out      wasmop-core      decides: queues, limits, permissions, election
//! status    metrics, probes, the page            wasmop-vm        runs instances
//! traces    OpenTelemetry spans of reconciles    wasmop-snapshot  keeps them on disk
//! pressure  the memory there is                  wasmop-api       talks to the API server and external hosts
//! ```
//!
//! [`run`] is the whole host.

#![deny(unsafe_code)]

mod host;
mod pressure;
pub mod status;
mod traces;

pub use host::{ControllerSettings, Deployment, HostError, Options, RefusedPackage, SHUTDOWN_TIMEOUT, Settings, run};
pub use pressure::default_budget;
pub use traces::BoxedTracer;
