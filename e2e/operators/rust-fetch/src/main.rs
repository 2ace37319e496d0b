//! An operator that keeps the answer of a web server in a ConfigMap, and asks again after 5 seconds. It does not know
//! wasmop.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A page of a web server.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "operators.wasmop.dev", version = "v1", kind = "Quote", namespaced)]
pub struct QuoteSpec {
    url: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server refused: {0}")]
    Kube(#[from] kube::Error),
    #[error("the web server did not answer: {0}")]
    Web(#[from] reqwest::Error),
}

struct Context {
    client: Client,
    web: reqwest::Client,
}

async fn reconcile(quote: Arc<Quote>, context: Arc<Context>) -> Result<Action, Error> {
    let answer = context.web.post(&quote.spec.url).body(quote.name_any()).send().await?.error_for_status()?;
    let text = answer.text().await?;
    let name = format!("quote-{}", quote.name_any());
    let config_map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "ownerReferences": [quote.controller_owner_ref(&())] },
        "data": { "text": text },
    });
    let api = Api::<ConfigMap>::namespaced(context.client.clone(), &quote.namespace().unwrap_or_default());
    api.patch(&name, &PatchParams::apply("quote-operator").force(), &Patch::Apply(config_map)).await?;
    Ok(Action::requeue(Duration::from_secs(5)))
}

fn error_policy(_: Arc<Quote>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(error = error as &dyn std::error::Error, "retrying");
    Action::requeue(Duration::from_secs(1))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let client = Client::try_default().await?;
    let web = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let context = Arc::new(Context { client: client.clone(), web });
    Controller::new(Api::<Quote>::all(client), watcher::Config::default())
        .run(reconcile, error_policy, context)
        .for_each(|_| async {})
        .await;
    Ok(())
}
