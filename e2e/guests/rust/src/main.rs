//! The conformance guest: a controller that performs the action that each Probe requests.
//!
//! Tests compare guests of different languages while the host suspends them at any point.

mod actions;
mod calls;
mod memory;
mod probe;

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{finalizer, watcher};
use kube::{Api, Client, ResourceExt};

use actions::Acting;
use memory::Memory;
use probe::{Probe, ProbeStatus};

const FINALIZER: &str = "e2e.wasmop.dev/probe";
const FIELD_MANAGER: &str = "probe";
/// Ignores changes of a child's labels and annotations.
const DATA_CHANGED: &str =
    "oldObject == null || !has(object.data) || !has(oldObject.data) || object.data != oldObject.data";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("finalizer: {0}")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
    #[error("{0}")]
    Failed(String),
}

struct Context {
    client: Client,
    memory: Memory,
    events: Recorder,
}

/// The Probe that a ServiceAccount names in a label.
fn probe_of(account: ServiceAccount) -> Option<ObjectRef<Probe>> {
    let name = account.labels().get("probe").filter(|name| !name.is_empty())?;
    Some(ObjectRef::new(name).within(&account.namespace()?))
}

#[wasmop::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    if std::env::var_os("ASK_FIRST").is_some() {
        let config_maps = Api::<ConfigMap>::default_namespaced(client.clone());
        config_maps.list(&ListParams::default().limit(1)).await?;
        // Long enough for a suspension.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        tracing::info!("asked first");
    }
    let probes = Api::<Probe>::all(client.clone());
    // Several guests share a cluster. Each reconciles the Probes with its label.
    let mine = watcher::Config::default().labels(&format!("guest={}", wasmop::name()));
    let namespaces = watch_namespaces(client.clone());
    let events = Recorder::new(client.clone(), wasmop::name().into());
    let probes = wasmop::Controller::new(probes, mine.clone())
        .generation_changed()
        .owns(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
        .cached()
        .predicate(DATA_CHANGED);
    // The benchmark `watches` measures what a controller costs that sees its own writes.
    let probes = if std::env::var_os("SEE_OWN_WRITES").is_some() { probes } else { probes.ignore_own_writes() };
    let probes = probes
        .watches(Api::<ServiceAccount>::all(client.clone()), mine, probe_of)
        .cached()
        .shutdown_on_signal()
        .run(reconcile, on_error, Arc::new(Context { client, memory: Memory::default(), events }))
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::warn!(error = &error as &dyn std::error::Error, "reconcile failed");
            }
        });
    futures::join!(probes, namespaces);
    Ok(())
}

/// If the environment requests it, watches a cluster-scoped kind: logs every namespace.
async fn watch_namespaces(client: Client) {
    if std::env::var_os("WATCH_CLUSTER").is_none() {
        return;
    }
    let namespaces = Api::<Namespace>::all(client);
    wasmop::Controller::new(namespaces, watcher::Config::default())
        .run(see_namespace, |_, _: &Error, _| Action::await_change(), Arc::new(()))
        .for_each(async |_| {})
        .await;
}

async fn see_namespace(namespace: Arc<Namespace>, _: Arc<()>) -> Result<Action, Error> {
    tracing::info!(namespace = namespace.name_any(), "namespace seen");
    Ok(Action::await_change())
}

fn on_error(_: Arc<Probe>, _: &Error, _: Arc<Context>) -> Action {
    // The host retries with backoff.
    Action::await_change()
}

async fn reconcile(probe: Arc<Probe>, context: Arc<Context>) -> Result<Action, Error> {
    let (total, known) = context.memory.count(&probe.uid().unwrap_or_default());
    let Context { client, memory, events } = &*context;
    let acting = |probe: Arc<Probe>| Acting { client, memory, events, probe, known, total };
    let has_child = matches!(probe.spec.action.as_str(), "" | "child" | "slow");
    let has_finalizer = probe.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if !has_child && !has_finalizer {
        return apply(acting(probe)).await;
    }
    let probes = Api::<Probe>::namespaced(context.client.clone(), &probe.namespace().unwrap_or_default());
    finalizer::finalizer(&probes, FINALIZER, probe, async |event| match event {
        finalizer::Event::Apply(probe) => apply(acting(probe)).await,
        finalizer::Event::Cleanup(probe) => acting(probe).leave_trace().await,
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

/// Performs the action of the Probe, and writes the result to its status.
async fn apply(acting: Acting<'_>) -> Result<Action, Error> {
    let probe = &acting.probe;
    if probe.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let done = acting.act().await?;
    let status = ProbeStatus { echo: done.echo, ..acting.status() };
    if probe.status.as_ref() != Some(&status) {
        let probes = Api::<Probe>::namespaced(acting.client.clone(), &probe.namespace().unwrap_or_default());
        let patch = serde_json::json!({ "status": status });
        match probes.patch_status(&probe.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            // The Probe was deleted in the meantime.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => {
                result?;
            }
        }
    }
    Ok(done.requeue.map_or_else(Action::await_change, Action::requeue))
}
