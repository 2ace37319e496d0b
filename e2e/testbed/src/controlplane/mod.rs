//! A real Kubernetes control plane: programs are located or built, and become running processes and a kubeconfig.
//!
//! ```text
//! locate                                        start
//! $KUBEBUILDER_ASSETS, else $PATH ────────────► start_separate: etcd and kube-apiserver, without a controller manager
//! else e2e/controlplane/, built by `bundle` ──► start_bundled:  one process, with a controller manager
//! ```

mod bundle;
mod component;
mod locate;
mod running;
mod service_account_key;
mod start;
mod start_bundled;
mod start_separate;

pub use bundle::{TEST_FLAGS, source_dir};
pub use component::Lifetime;
pub use locate::{Binaries, find};
pub use running::ControlPlane;
