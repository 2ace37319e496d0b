//! A controller that calls a webhook when a Deployment becomes available.
//!
//! The package must list the host in `wasmop.toml`, and the owner must grant it:
//!
//! ```toml
//! external-hosts = ["https://hooks.example.com"]
//! ```

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct WebhookError(Error);

impl std::fmt::Display for WebhookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the webhook failed: {}", self.0)
    }
}

impl std::error::Error for WebhookError {}

async fn reconcile(deployment: Arc<Deployment>, _: Arc<()>) -> Result<Action, WebhookError> {
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default();
    if available > 0 {
        notify(&deployment.name_any(), available).await.map_err(WebhookError)?;
    }
    Ok(Action::await_change())
}

async fn notify(name: &str, available: i32) -> Result<(), Error> {
    let body = serde_json::json!({ "deployment": name, "available": available }).to_string();
    let request = http::Request::post("https://hooks.example.com/deployments")
        .header("content-type", "application/json")
        .body(body)?;
    // The host may suspend the controller until the response arrives.
    let response = wasmop::fetch(request).await?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()).into());
    }
    Ok(())
}

#[wasmop::main]
async fn main() -> kube::Result<()> {
    let client = Client::try_default().await?;
    wasmop::Controller::new(Api::<Deployment>::all(client), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::await_change(), Arc::new(()))
        .for_each(|_| async {})
        .await;
    Ok(())
}
