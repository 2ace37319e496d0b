//! A minimal controller: logs every ConfigMap when it changes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use kube::{Api, Client};

async fn reconcile(object: Arc<ConfigMap>, _: Arc<()>) -> kube::Result<Action> {
    tracing::info!(name = object.metadata.name, "reconciling");
    Ok(Action::requeue(Duration::from_secs(300)))
}

/// `await_change` retries with exponential backoff.
fn error_policy(_: Arc<ConfigMap>, _: &kube::Error, _: Arc<()>) -> Action {
    Action::await_change()
}

#[wasmop::main]
async fn main() -> kube::Result<()> {
    let client = Client::try_default().await?;
    wasmop::Controller::new(Api::<ConfigMap>::all(client), watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, error_policy, Arc::new(()))
        .for_each(async |result| {
            if let Err(error) = result {
                tracing::warn!(error = &error as &dyn std::error::Error, "reconcile failed");
            }
        })
        .await;
    Ok(())
}
