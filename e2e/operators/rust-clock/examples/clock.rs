//! An operator that counts in the status of each `Clock` every 5 seconds. It does not know wasmop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, CustomResource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Something that ticks.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "operators.wasmop.dev", version = "v1", kind = "Clock", namespaced, status = "ClockStatus")]
pub struct ClockSpec {}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct ClockStatus {
    ticks: u64,
}

async fn reconcile(clock: Arc<Clock>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let api = Api::<Clock>::namespaced((*client).clone(), &clock.namespace().unwrap_or_default());
    let ticks = api.get(&clock.name_any()).await?.status.unwrap_or_default().ticks + 1;
    let status = json!({ "status": { "ticks": ticks } });
    api.patch_status(&clock.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    tracing::info!(ticks, "tick");
    Ok(Action::requeue(Duration::from_secs(5)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let client = Client::try_default().await?;
    let (reader, writer) = reflector::store();
    // The status is the operator's own.
    let clocks = watcher(Api::<Clock>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, Default::default());
    Controller::for_stream(clocks, reader)
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client))
        .for_each(|_| async {})
        .await;
    Ok(())
}
