//! An operator that runs a Deployment for each `Shop`, beside a web server. It does not know wasmop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web::Data;
use actix_web::{App, HttpResponse, HttpServer, Responder, get, middleware};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A shop that runs as a Deployment.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "operators.wasmop.dev", version = "v1", kind = "Shop", namespaced)]
pub struct ShopSpec {
    replicas: i32,
}

struct Context {
    client: Client,
    reconciles: AtomicU64,
}

async fn reconcile(shop: Arc<Shop>, context: Arc<Context>) -> Result<Action, kube::Error> {
    context.reconciles.fetch_add(1, Ordering::Relaxed);
    let name = format!("shop-{}", shop.name_any());
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "ownerReferences": [shop.controller_owner_ref(&())] },
        "spec": {
            "replicas": shop.spec.replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "shop", "image": "registry.k8s.io/pause:3.10" }] },
            },
        },
    });
    let api = Api::<Deployment>::namespaced(context.client.clone(), &shop.namespace().unwrap_or_default());
    api.patch(&name, &PatchParams::apply("shop-operator").force(), &Patch::Apply(deployment)).await?;
    tracing::info!(shop = shop.name_any(), replicas = shop.spec.replicas, "the shop is open");
    Ok(Action::await_change())
}

fn error_policy(_: Arc<Shop>, error: &kube::Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "retrying");
    Action::requeue(Duration::from_secs(5))
}

#[get("/metrics")]
async fn metrics(context: Data<Context>) -> impl Responder {
    HttpResponse::Ok().body(format!("reconciles {}\n", context.reconciles.load(Ordering::Relaxed)))
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().with_env_filter("info").init();
    let client = Client::try_default().await?;
    let context = Arc::new(Context { client: client.clone(), reconciles: AtomicU64::default() });
    let shared = Data::from(context.clone());
    let server = HttpServer::new(move || {
        App::new().app_data(shared.clone()).wrap(middleware::Logger::default()).service(metrics)
    })
    .bind("0.0.0.0:8080")?
    .shutdown_timeout(5);
    let controller = Controller::new(Api::<Shop>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Deployment>::all(client), watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, error_policy, context)
        .for_each(|_| async {});
    tokio::join!(controller, server.run()).1?;
    Ok(())
}
