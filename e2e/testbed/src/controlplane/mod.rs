//! A real Kubernetes control plane: finds one (`locate`) or builds the bundled one once (`bundle`),
//! and turns it into running processes and an admin kubeconfig (`start`).
//!
//! ```text
//! $KUBEBUILDER_ASSETS, else $PATH ──► etcd + kube-apiserver as processes of their own   (no controller manager)
//!         else e2e/controlplane/  ──► go build, cached by content ──► one process, with a controller manager
//! ```

mod bundle;
mod locate;
mod separate;
mod service_account_key;
mod start;

pub use bundle::{TEST_FLAGS, source_dir};
pub use locate::{Binaries, find};
pub use start::{ControlPlane, Lifetime};
