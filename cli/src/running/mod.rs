//! Runs a host in this process until a signal, with packages, a configuration and a cluster.

mod packages;
mod reload;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use wasmop_api::connect::{ConnectError, Sources};
use wasmop_api::{connect, external_hosts as external};
use wasmop_core::permissions::learn::Learning;
use wasmop_host::status::http;
use wasmop_host::{HostError, Options, SHUTDOWN_TIMEOUT};
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::encryption::EncryptionKey;

use crate::config::{self, Config, Flags, Plan};
use crate::error::{self, Failure, failure};
use crate::traces::Traces;
use crate::{logging, output, state_dir};

/// The command line of `wasmop run`.
pub struct Request {
    pub packages: Vec<PathBuf>,
    pub config: Option<PathBuf>,
    pub flags: Flags,
    pub learn: bool,
}

/// Runs the host until a signal ends it.
pub async fn run(request: Request) -> Result<()> {
    // First, so that no early signal is lost.
    let signals = Signals::new()?;
    let hangup = request.config.is_some().then(|| listen(SignalKind::hangup())).transpose()?;
    let config = request.config.as_deref().map_or(Ok(Config::default()), config::load)?;
    // A plan needs the names of packages. Errors of packages come first.
    let given = packages::load(&request.packages)?;
    let names = given.names();
    let default_budget = wasmop_host::default_budget();
    let plan = Plan::new(&request.flags, &config, &names, default_budget)?;
    let verbosity = logging::start(plan.host.log_format.unwrap_or_default(), plan.verbose)?;
    let (controllers, refused) = packages::deploy(given, &plan)?;
    let state_dir = plan.host.state_dir.clone().map_or_else(state_dir::default_dir, Ok)?;
    let encryption_key = plan.host.encryption_key_file.as_deref().map(EncryptionKey::read).transpose()?;
    let external_authorities = match plan.host.external_ca_file.as_deref() {
        Some(file) => external::read_authorities(file)?,
        None => Vec::new(),
    };
    let traces = Traces::start(plan.host.otlp_endpoint.as_deref(), &external_authorities).await?;
    let metrics = plan.host.metrics_address.as_deref().map(serve_at).transpose()?;
    let sources = Sources::from_env(plan.host.kubeconfig.clone(), plan.host.context.clone());
    let cluster = connect::load(&sources).await.map_err(connect_failure)?;
    let learning = request.learn.then(Learning::default);
    if learning.is_some() {
        tracing::warn!(target: "wasmop", "learning permissions: grants are not enforced");
    }
    let (changes, settings) = mpsc::unbounded_channel();
    let shutdown_timeout = plan.host.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT);
    let options = Options {
        controllers,
        refused,
        cluster,
        state_dir,
        policy: plan.settings.policy,
        guest_log_level: plan.settings.guest_log_level,
        limits: plan.limits,
        memory_budget: plan.settings.memory_budget,
        cache_memory: plan.settings.cache_memory,
        record_trace: plan.host.record_trace.clone(),
        external_authorities,
        durability: plan.host.durability.unwrap_or_default(),
        encryption_key,
        shutdown_timeout,
        disk: Disk::default(),
        metrics,
        tracer: traces.as_ref().map(Traces::tracer),
        learning: learning.clone(),
        election: plan.election.clone(),
        settings: Some(settings),
    };
    let reload_task = hangup.zip(request.config).map(|(hangup, file)| {
        let flags = request.flags;
        let reload = reload::Reload { file, flags, names, default_budget, plan, verbosity, changes };
        tokio::spawn(reload.on(hangup))
    });
    let mut signalled = None;
    let shutdown = async {
        signals.shutdown().await;
        signalled = Some(Instant::now());
    };
    let result = wasmop_host::run(options, shutdown).await;
    if let Some(traces) = traces {
        let used = signalled.map(|at| at.elapsed()).unwrap_or_default();
        traces.end(shutdown_timeout.saturating_sub(used)).await;
    }
    if let Some(task) = reload_task {
        task.abort();
    }
    match result {
        Err(HostError::Connect(error)) => return Err(connect_failure(error).into()),
        result => result?,
    }
    match learning {
        Some(learning) => output::data(learning.report().as_bytes()),
        None => Ok(()),
    }
}

fn serve_at(address: &str) -> Result<TcpListener> {
    http::bind(address).map_err(|error| error::about("--metrics-address", error).into())
}

fn connect_failure(error: ConnectError) -> Failure {
    failure(error.to_string(), error.help())
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot listen for signals")
}

/// SIGTERM and SIGINT. The first starts a graceful shutdown; a second SIGINT exits at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn shutdown(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(target: "wasmop", signal = name, "suspending all controllers before exit");
        tokio::spawn(async move {
            // Snapshots are replaced atomically, so this is as safe as a crash.
            if self.interrupt.recv().await.is_some() {
                tracing::warn!(target: "wasmop", "second SIGINT, exiting at once");
                std::process::exit(EXIT_INTERRUPTED);
            }
        });
    }
}

/// The shell's exit code for a program ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;
