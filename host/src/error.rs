//! Why a host may not start.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use wasmop_api::client::ClientError;
use wasmop_api::connect::ConnectError;
use wasmop_snapshot::StateDirError;
use wasmop_vm::compiled_package::InstallError;
use wasmop_vm::engine::EngineError;

/// Why a host cannot start. The message of most variants ends with a line `help:`.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostError {
    /// Two controllers have the same name.
    #[error("two packages are named {0}\nhelp: give each package a name of its own in its wasmop.toml")]
    DuplicateName(String),
    /// The state directory cannot be used, or another host uses it.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The WebAssembly engine cannot be configured.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A package cannot be compiled or initialised.
    #[error(transparent)]
    Install(#[from] Arc<InstallError>),
    /// The cluster cannot be reached, or refuses the host.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client's configuration is invalid.
    #[error(
        "cannot use the configuration of the cluster: {0}\nhelp: check the certificates and names in the kubeconfig"
    )]
    Client(String),
    /// The activity trace cannot be written.
    #[error("cannot write the activity trace {path}: {source}\nhelp: name a writable file with --record-trace")]
    Trace { path: PathBuf, source: io::Error },
    /// An instance of a package does not fit into the memory budget.
    #[error(
        "the memory budget of {budget} bytes is too small: {name} alone holds {needed} bytes after it starts\nhelp: set --memory-budget to at least that, or raise the limit of the cgroup"
    )]
    Budget { budget: u64, name: String, needed: u64 },
    /// The operating system refuses a thread.
    #[error("cannot start the host's threads: {0}")]
    Threads(io::Error),
    /// The status server cannot start.
    #[error("cannot serve metrics: {0}")]
    Metrics(io::Error),
    /// A snapshot is encrypted with another key, or without one being given.
    #[error(
        "the snapshot of controller {name} is encrypted{with}\nhelp: give --encryption-key-file the key it was written with, or remove its directory in the state directory to start from the package"
    )]
    Encrypted { name: String, with: &'static str },
    #[error(
        "controller {name} cannot run as a ServiceAccount: the user of the kubeconfig already impersonates another one, and the API server allows one impersonation a request\nhelp: use a kubeconfig whose user has neither `as` nor `as-groups`, or leave out service-account"
    )]
    Impersonating { name: String },
    /// A directory granted to a controller cannot be opened.
    #[error(
        "cannot open a directory that controller {name} is granted: {source}\nhelp: create it, or correct `source` in [[controllers.{name}.wasi.directories]]"
    )]
    Wasi { name: String, source: io::Error },
    /// The host's name in the election cannot be written.
    #[error("cannot write this host's name to {path}: {source}\nhelp: make the state directory writable for this user")]
    Leases { path: PathBuf, source: io::Error },
    /// A controller's part of the state directory cannot be used.
    #[error("cannot use the state directory of controller {name}: {source}")]
    Controller { name: String, source: io::Error },
}

impl From<ClientError> for HostError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Credentials(error) => HostError::Connect(ConnectError::Credentials(error)),
            ClientError::Configuration(error) => HostError::Client(error.to_string()),
        }
    }
}
