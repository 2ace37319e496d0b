//! Running a host in this process: packages and a cluster in, a graceful end on a signal.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wasmop_host::connect::{self, ConnectError, Sources};
use wasmop_host::snapshot::Durability;
use wasmop_host::snapshot::disk::Disk;
use wasmop_host::snapshot::seal::SealKey;
use wasmop_host::{Deployment, HostError, Options};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use crate::error::{Failure, failure};
use crate::package_file;

/// What to run, and where.
pub struct Request {
    pub packages: Vec<Package>,
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub namespace: Option<String>,
    pub state_dir: PathBuf,
    pub policies: Policies,
    pub memory_budget: Option<u64>,
    pub record_trace: Option<PathBuf>,
    pub durability: Durability,
    pub encryption_key: Option<SealKey>,
    pub metrics: Option<TcpListener>,
}

/// Reads packages; two may not have the same name, which is also that of their state.
pub fn load_packages(files: &[PathBuf]) -> Result<Vec<Package>> {
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    let mut packages = Vec::new();
    for file in files {
        let package = package_file::load(file)?;
        let name = package.manifest.name.clone();
        if let Some(other) = names.insert(name.clone(), file) {
            return Err(failure(
                format!("`{}` and `{}` are both named `{name}`", other.display(), file.display()),
                "run one of them, or give one another name in its wasmop.toml and build it again",
            )
            .into());
        }
        packages.push(package);
    }
    Ok(packages)
}

/// When controllers are suspended.
pub struct Policies {
    pub all: Policy,
    /// Whatever the packages say.
    pub forced: Option<Policy>,
    pub named: BTreeMap<String, Policy>,
}

/// Runs the host until a signal tells it to end.
pub async fn run(request: Request) -> Result<()> {
    // Taken before anything is started, so that an early signal is not lost.
    let signals = Signals::new()?;
    let sources = Sources::from_env(request.kubeconfig, request.context);
    let cluster = connect::load(&sources).await.map_err(connect_failure)?;
    let policies = request.policies;
    let unknown = policies.named.keys().find(|name| !request.packages.iter().any(|p| p.manifest.name == **name));
    if let Some(name) = unknown {
        let names: Vec<_> = request.packages.iter().map(|p| format!("`{}`", p.manifest.name)).collect();
        return Err(failure(
            format!("--suspend-policy names the controller `{name}`, and no package has that name"),
            format!("the packages are {}", names.join(", ")),
        )
        .into());
    }
    let controllers = request
        .packages
        .into_iter()
        .map(|package| {
            let name = package.manifest.name.clone();
            let policy = policies.forced.or_else(|| policies.named.get(&name).copied());
            Deployment { name, package: Arc::new(package), policy }
        })
        .collect();
    let options = Options {
        controllers,
        cluster,
        namespace: request.namespace,
        state_dir: request.state_dir,
        policy: policies.all,
        memory_budget: request.memory_budget,
        limits: Limits::NONE,
        record_trace: request.record_trace,
        durability: request.durability,
        encryption_key: request.encryption_key,
        disk: Disk::default(),
        metrics: request.metrics,
    };
    match wasmop_host::run(options, signals.asked_to_end()).await {
        Err(HostError::Connect(error)) => Err(connect_failure(error).into()),
        result => Ok(result?),
    }
}

fn connect_failure(error: ConnectError) -> Failure {
    failure(error.to_string(), error.help())
}

/// SIGTERM and SIGINT: the first asks for a graceful end, a second SIGINT ends at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked_to_end(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(target: "wasmop", signal = name, "suspending all controllers, then ending");
        tokio::spawn(async move {
            // Snapshots are replaced atomically, so ending now loses no more than a crash would.
            if self.interrupt.recv().await.is_some() {
                tracing::warn!(target: "wasmop", "second SIGINT, ending at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
        });
    }
}

/// The shell's exit code for a program ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
