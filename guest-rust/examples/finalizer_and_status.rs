//! A controller for a custom resource with a finalizer and a status.
//!
//! The finalizer keeps a deleted object until the controller has cleaned up what Kubernetes does not know.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

const FINALIZER: &str = "example.com/dns-record";

struct Context {
    client: Client,
    resource: ApiResource,
}

type Error = finalizer::Error<kube::Error>;

async fn reconcile(record: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = record.namespace().unwrap_or_default();
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &context.resource);
    finalizer(&api, FINALIZER, record, async |event| match event {
        finalizer::Event::Apply(record) => apply(&api, &record).await,
        finalizer::Event::Cleanup(record) => {
            tracing::info!(name = record.name_any(), "deleting the DNS record");
            Ok(Action::await_change())
        }
    })
    .await
}

async fn apply(api: &Api<DynamicObject>, record: &DynamicObject) -> kube::Result<Action> {
    tracing::info!(name = record.name_any(), "creating the DNS record");
    let status = serde_json::json!({ "status": {
        "observedGeneration": record.metadata.generation,
        "ready": true,
    }});
    // A merge patch leaves other fields of the status unchanged.
    api.patch_status(&record.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(Action::requeue(Duration::from_secs(300)))
}

#[wasmop::main]
async fn main() -> kube::Result<()> {
    let client = Client::try_default().await?;
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "DnsRecord"), "dnsrecords");
    let records = Api::<DynamicObject>::all_with(client.clone(), &resource);
    wasmop::Controller::new_with(records, watcher::Config::default(), resource.clone())
        // The controller's own status updates cause no reconcile.
        .generation_changed()
        .run(reconcile, |_, _, _| Action::await_change(), Arc::new(Context { client, resource }))
        .for_each(|_| async {})
        .await;
    Ok(())
}
