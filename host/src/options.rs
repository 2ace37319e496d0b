//! What a host is started with.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use wasmop_api::external_hosts::CertificateDer;
use wasmop_core::election::Group;
use wasmop_core::permissions::learn::Learning;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_snapshot::Durability;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::encryption::EncryptionKey;

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
