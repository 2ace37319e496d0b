//! What a host is started with, and why it may not start.

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
use wasmop_snapshot::encryption::SealKey;
use wasmop_snapshot::{Durability, StateDirError};
use wasmop_vm::compiled_package::InstallError;
use wasmop_vm::engine::EngineError;

use crate::settings::{ControllerSettings, Settings};
use crate::traces::BoxedTracer;

/// As long as Kubernetes gives a Pod by default, less what it takes to end.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// A controller to run.
pub struct Deployment {
    /// Unique on this host; a DNS label.
    pub name: String,
    pub package: Arc<Package>,
    pub settings: ControllerSettings,
}

impl Deployment {
    /// A controller that is granted all that its package asks for.
    pub fn new(name: impl Into<String>, package: Arc<Package>) -> Deployment {
        Deployment { name: name.into(), package, settings: ControllerSettings::default() }
    }
}

/// A controller whose package was refused when it was read: it is shown as failed, beside those that run.
#[derive(Clone, Debug)]
pub struct RefusedPackage {
    /// The controller's.
    pub name: String,
    /// Why, with a remedy.
    pub error: String,
}

pub struct Options {
    pub controllers: Vec<Deployment>,
    pub refused: Vec<RefusedPackage>,
    pub cluster: kube::Config,
    pub state_dir: PathBuf,
    /// When idle instances are suspended, where the package does not say.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: as many as there are.
    pub memory_budget: Option<u64>,
    /// Bytes that whole objects of watches may take; `None`: as many as there are.
    pub cache_memory: Option<u64>,
    /// The most detailed level of a controller's own lines that is passed on, where nobody gave it a level; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// No controller has more, whatever its package says.
    pub limits: Limits,
    /// Where to write when controllers had something to do, for `wasmop policy simulate`.
    pub record_trace: Option<PathBuf>,
    /// Certificates that external hosts may be known by, besides the system's; see
    /// [`wasmop_api::external_hosts::read_authorities`].
    pub external_authorities: Vec<CertificateDer<'static>>,
    /// When snapshots are put on disk.
    pub durability: Durability,
    /// Encrypts snapshots.
    pub encryption_key: Option<SealKey>,
    /// Longest time from `shutdown` until the host ends, with what could be suspended by then.
    pub shutdown_timeout: Duration,
    /// For tests: a disk that fails.
    pub disk: Disk,
    /// Where metrics, probes and the page are served; see [`crate::status::http::bind`].
    pub metrics: Option<TcpListener>,
    /// Makes the spans of reconciles, see `traces`; `None`: there are none.
    pub tracer: Option<BoxedTracer>,
    /// Instead of refusing what is not granted, notes what is needed: see [`Learning`].
    pub learning: Option<Learning>,
    /// Other hosts run the same controllers: each is run by one of them. `None`: there are none.
    pub election: Option<Group>,
    /// Takes the place of the settings here and in `controllers` whenever something comes.
    pub settings: Option<mpsc::UnboundedReceiver<Settings>>,
}

impl Options {
    /// All that need not be said as `wasmop run` has it without flags, but for memory, which is unlimited.
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

#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("two packages are named {0}\nhelp: give each package a name of its own in its wasmop.toml")]
    DuplicateName(String),
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Install(#[from] Arc<InstallError>),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "cannot use the configuration of the cluster: {0}\nhelp: check the certificates and names in the kubeconfig"
    )]
    Client(String),
    #[error("cannot write the activity trace {path}: {source}\nhelp: name a writable file with --record-trace")]
    Trace { path: PathBuf, source: io::Error },
    #[error(
        "the memory budget of {budget} bytes is too small: {name} alone holds {needed} bytes after it starts\nhelp: set --memory-budget to at least that, or raise the limit of the cgroup"
    )]
    Budget { budget: u64, name: String, needed: u64 },
    #[error("cannot start the host's threads: {0}")]
    Threads(io::Error),
    #[error("cannot serve metrics: {0}")]
    Metrics(io::Error),
    #[error(
        "the snapshot of controller {name} is encrypted{with}\nhelp: give --encryption-key-file the key it was written with, or remove its directory in the state directory to start from the package"
    )]
    Sealed { name: String, with: &'static str },
    #[error(
        "controller {name} cannot run as a ServiceAccount: the user of the kubeconfig already impersonates another one, and the API server allows one impersonation a request\nhelp: use a kubeconfig whose user has neither `as` nor `as-groups`, or leave out service-account"
    )]
    Impersonating { name: String },
    #[error(
        "cannot open a directory that controller {name} is granted: {source}\nhelp: create it, or correct `source` in [[controllers.{name}.wasi.directories]]"
    )]
    Wasi { name: String, source: io::Error },
    #[error("cannot write this host's name to {path}: {source}\nhelp: make the state directory writable for this user")]
    Leases { path: PathBuf, source: io::Error },
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
