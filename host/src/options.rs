//! The options of a host, and the errors that keep it from starting.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use wasmop_api::client::ClientError;
use wasmop_api::connect::ConnectError;
use wasmop_api::external_hosts::CertificateDer;
use wasmop_core::election::Group;
use wasmop_core::permissions::learn::Learning;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::encryption::EncryptionKey;
use wasmop_snapshot::{Durability, StateDirError};
use wasmop_vm::compiled_package::InstallError;
use wasmop_vm::engine::EngineError;

use crate::settings::{ControllerSettings, Settings};
use crate::traces::BoxedTracer;

/// Default of [`Options::shutdown_timeout`]: Kubernetes' default grace period of 30 s, less a margin to exit.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// A controller to run.
pub struct Deployment {
    /// Unique on this host; a DNS label.
    pub name: String,
    /// The package to run; several controllers may share one.
    pub package: Arc<Package>,
    /// The settings of this controller.
    pub settings: ControllerSettings,
}

impl Deployment {
    /// A controller that is granted every permission that its package asks for.
    pub fn new(name: impl Into<String>, package: Arc<Package>) -> Deployment {
        Deployment { name: name.into(), package, settings: ControllerSettings::default() }
    }
}

/// A controller whose package could not be read. The host shows it as failed.
#[derive(Clone, Debug)]
pub struct RefusedPackage {
    /// The controller's name.
    pub name: String,
    /// The error, with a remedy.
    pub error: String,
}

/// The options of a host, for [`run`](fn@crate::run). [`Options::new`] has the defaults of `wasmop run`.
pub struct Options {
    /// The controllers to run.
    pub controllers: Vec<Deployment>,
    /// Controllers that the host shows as failed.
    pub refused: Vec<RefusedPackage>,
    /// The cluster, and the identity of the host.
    pub cluster: kube::Config,
    /// Directory of snapshots, compiled code and journals. One host at a time may use it.
    pub state_dir: PathBuf,
    /// Decides when to suspend idle instances of packages without their own policy.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: unlimited.
    pub memory_budget: Option<u64>,
    /// Bytes that whole objects of watches may take; `None`: unlimited.
    pub cache_memory: Option<u64>,
    /// Most detailed level of log lines from controllers without their own level; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// Limits that take precedence over higher ones in packages.
    pub limits: Limits,
    /// File for the activity trace, for `wasmop policy simulate`.
    pub record_trace: Option<PathBuf>,
    /// Certificate authorities of external hosts in addition to the system's; see
    /// [`wasmop_api::external_hosts::read_authorities`].
    pub external_authorities: Vec<CertificateDer<'static>>,
    /// When the host flushes snapshots to disk.
    pub durability: Durability,
    /// Key that encrypts snapshots and journals; `None`: they are not encrypted.
    pub encryption_key: Option<EncryptionKey>,
    /// Longest time from `shutdown` until the host ends. Instances that are not suspended by then continue from their
    /// last snapshots.
    pub shutdown_timeout: Duration,
    /// The disk; tests inject failures here.
    pub disk: Disk,
    /// Listener for metrics, probes and the page; see [`crate::status::http::bind`].
    pub metrics: Option<TcpListener>,
    /// Exports spans of reconciles; `None`: no spans.
    pub tracer: Option<BoxedTracer>,
    /// Allows and records what is not granted, instead of denying it; see [`Learning`].
    pub learning: Option<Learning>,
    /// The group of hosts that share the controllers; `None`: this is the only host.
    pub election: Option<Group>,
    /// New settings, which replace those here and in `controllers`.
    pub settings: Option<mpsc::UnboundedReceiver<Settings>>,
}

impl Options {
    /// The defaults of `wasmop run` without flags, except that memory is unlimited.
    pub fn new(controllers: Vec<Deployment>, cluster: kube::Config, state_dir: PathBuf) -> Options {
        Options {
            controllers,
            refused: Vec::new(),
            cluster,
            state_dir,
            policy: Policy::default(),
            memory_budget: None,
            cache_memory: None,
            guest_log_level: None,
            limits: Limits::NONE,
            record_trace: None,
            external_authorities: Vec::new(),
            durability: Durability::default(),
            encryption_key: None,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            disk: Disk::default(),
            metrics: None,
            tracer: None,
            learning: None,
            election: None,
            settings: None,
        }
    }
}

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
