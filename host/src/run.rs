//! Starts a host from its options, and runs it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use wasmop_api::client::{Clients, Traffic};
use wasmop_api::connect;
use wasmop_api::environment::HubEnvironment;
use wasmop_api::external_hosts::External;
use wasmop_api::request_counts::RequestCounts;
use wasmop_api::watch::{Journals, WatchHub};
use wasmop_core::control_loop::{ControlLoop, LoopOptions};
use wasmop_package::Tier;
use wasmop_snapshot::sync::Syncer;
use wasmop_snapshot::{StateDir, StateDirError};
use wasmop_vm::compiled_package::CODE_LINGERS;
use wasmop_vm::engine::Engine;
use wasmop_vm::step_scheduler::StepScheduler;
use wasmop_vm::thread_clock::thread_cpu_time;

use crate::activity_recorder::ActivityRecorder;
use crate::error::HostError;
use crate::memory_pressure;
use crate::options::{Options, RefusedPackage};
use crate::settings::{check_budget, check_impersonation};
use crate::shell::{Inputs, Message, Peers, Shell, Telemetry, TelemetryOptions, running_requests};
use crate::status::http::{self, Source};
use crate::traces::Traces;

/// Runs the controllers until `shutdown` completes, then suspends all and returns.
///
/// # Errors
///
/// The host cannot start. Once it runs it does not fail.
pub async fn run(options: Options, shutdown: impl Future<Output = ()> + Send) -> Result<(), HostError> {
    run_until(options, std::pin::pin!(shutdown)).await
}

/// As a trait object: each crate that calls [`run`] would compile the whole future of a host again.
fn run_until<'a>(
    options: Options,
    shutdown: Pin<&'a mut (dyn Future<Output = ()> + Send + 'a)>,
) -> BoxFuture<'a, Result<(), HostError>> {
    Box::pin(start_and_run(options, shutdown))
}

async fn start_and_run(
    mut options: Options,
    mut shutdown: Pin<&mut (dyn Future<Output = ()> + Send + '_)>,
) -> Result<(), HostError> {
    let settings = options.settings.take();
    // The start may take minutes, while packages compile or the API server does not answer.
    let started = tokio::select! {
        biased;
        () = &mut shutdown => {
            tracing::info!("ending before the host has started");
            return Ok(());
        }
        started = start(options) => started?,
    };
    let Started { shell, mut inputs, _state, _server } = started;
    inputs.settings = settings;
    shell.run(inputs, shutdown).await;
    Ok(())
}

/// A host that is ready to run, with the guards it must keep.
struct Started {
    shell: Shell,
    inputs: Inputs,
    /// Locks the state directory against other hosts.
    _state: Arc<StateDir>,
    _server: Option<http::Server>,
}

/// Prepares the host up to the first event.
async fn start(options: Options) -> Result<Started, HostError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = options.controllers.iter().find(|c| !names.insert(&c.name)) {
        return Err(HostError::DuplicateName(twice.name.clone()));
    }
    let auth = &options.cluster.auth_info;
    let impersonates = auth.impersonate.is_some() || auth.impersonate_groups.as_ref().is_some_and(|g| !g.is_empty());
    let accounts = options.controllers.iter().filter(|c| c.settings.grant.service_account.is_some());
    check_impersonation(impersonates, accounts.map(|c| c.name.as_str()))?;
    let state = Arc::new(StateDir::open_on(options.disk.clone(), &options.state_dir, options.encryption_key)?);
    let journals =
        Journals::new(&state).map_err(|source| StateDirError::NotWritable { path: state.path().to_owned(), source })?;
    let server = options.cluster.cluster_url.clone();
    let (tx, messages) = mpsc::unbounded_channel();
    let requests = Arc::new(RequestCounts::default());
    let external_requests = Arc::new(RequestCounts::default());
    let started = Arc::new(AtomicBool::new(false));
    let status_server = match options.metrics {
        None => None,
        Some(listener) => {
            let tx = tx.clone();
            let ask = Box::new(move |question| tx.send(Message::Question(question)).is_ok());
            let source = Source {
                ask,
                started: started.clone(),
                requests: requests.clone(),
                external_requests: external_requests.clone(),
            };
            Some(http::serve(listener, source).map_err(HostError::Metrics)?)
        }
    };
    let clients = Clients::new(&options.cluster).await?;
    let client = clients.client(Traffic::General, &requests)?;
    let peers = match options.election {
        Some(group) => Some(Peers::new(group, clients.client(Traffic::Election, &requests)?, state.path())?),
        None => None,
    };
    let version = connect::check(&client, &server).await?;
    let activity = options.record_trace.as_deref().map(ActivityRecorder::create).transpose()?;
    let traces = options.tracer.map(|tracer| Traces::new(tracer, server.clone()));
    let is_traced = traces.is_some();
    let (watch_tx, watches) = mpsc::unbounded_channel();
    let hub = WatchHub::new(client.clone(), watch_tx, Some(journals));
    let external = Arc::new(External::new(&server, options.external_authorities, external_requests));
    let loop_options = LoopOptions {
        policy: options.policy,
        memory_budget: options.memory_budget,
        guest_log_level: options.guest_log_level,
        limit_caps: options.limits,
        learning: options.learning,
        is_traced,
    };
    let mut shell = Shell {
        started: Instant::now(),
        control: ControlLoop::new(HubEnvironment::new(hub, thread_cpu_time), loop_options),
        tenants: Vec::new(),
        engine: Engine::new()?,
        scheduler: StepScheduler::start().map_err(HostError::Threads)?,
        syncer: Syncer::start(options.disk, options.durability).map_err(HostError::Threads)?,
        telemetry: Telemetry::new(&client, TelemetryOptions { traces, activity }),
        requests: running_requests(&client, external),
        client,
        tx,
        failed: Vec::new(),
        code_check: Some(tokio::time::Instant::now() + CODE_LINGERS),
        impersonates,
        shutdown_timeout: options.shutdown_timeout,
        peers,
    };
    shell.control.limit_objects(options.cache_memory);
    for RefusedPackage { name, error } in options.refused {
        shell.leave_out(&name, Tier::Full, &error);
    }
    shell.install(options.controllers, &state, &options.limits).await?;
    check_budget(&shell.control, options.memory_budget)?;
    let pressure = shell.tx.clone();
    if let Err(error) = memory_pressure::watch(move || pressure.send(Message::MemoryPressure).is_ok()) {
        tracing::debug!(%error, "the kernel reports no memory pressure");
    }
    tracing::info!(
        controllers = shell.control.len(),
        state_dir = %state.path().display(),
        server = %server,
        version = %version.git_version,
        "host started"
    );
    started.store(true, Ordering::Release);
    let inputs = Inputs { messages, watches, settings: None };
    Ok(Started { shell, inputs, _state: state, _server: status_server })
}
