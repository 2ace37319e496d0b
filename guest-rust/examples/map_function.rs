//! A controller with a map function: a change of a Secret reconciles the Services that refer to it.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

/// Secrets with this label belong to the Service that it names.
const SERVICE: &str = "example.com/service";

/// If the label changes from one Service to another, the host reconciles both.
fn services_of(secret: Secret) -> Option<ObjectRef<Service>> {
    let name = secret.labels().get(SERVICE)?;
    Some(ObjectRef::new(name).within(&secret.namespace()?))
}

async fn reconcile(service: Arc<Service>, _: Arc<()>) -> kube::Result<Action> {
    tracing::info!(name = service.name_any(), "reconciling");
    Ok(Action::await_change())
}

#[wasmop::main]
async fn main() -> kube::Result<()> {
    let client = Client::try_default().await?;
    wasmop::Controller::new(Api::<Service>::all(client.clone()), watcher::Config::default())
        .watches(Api::<Secret>::all(client), watcher::Config::default().labels(SERVICE), services_of)
        // The host evaluates the predicate, so an ignored change does not resume the controller.
        .predicate("object.metadata.labels != oldObject.metadata.labels || object.data != oldObject.data")
        .run(reconcile, |_, _, _| Action::await_change(), Arc::new(()))
        .for_each(|_| async {})
        .await;
    Ok(())
}
