//! A real Kubernetes control plane for tests and demos: finds one (`locate`) or builds the bundled
//! one once (`bundle`), and turns it into running processes and an admin kubeconfig (`start`).
//!
//! ```text
//! $KUBEBUILDER_ASSETS, else $PATH ──► etcd + kube-apiserver as processes of their own   (no controller manager)
//!               else this folder ──► go build, cached by content ──► one process, with a controller manager
//! ```

#![deny(unsafe_code)]

mod bundle;
mod locate;
mod process;
mod separate;
mod service_account_key;
mod start;

pub use locate::{Binaries, find};
pub use process::{Process, terminate};
pub use start::{ControlPlane, Lifetime};
