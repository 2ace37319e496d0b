//! A controller for the custom resource `Website`, a page that a Deployment serves.

mod children;
mod status;
mod website;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use website::{FINALIZER, Website};

/// The time between reconciles of a Website without changes.
const RESYNC: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("finalizer failed")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
    #[error("{kind} {name} exists and belongs to something else; delete it, or rename the Website")]
    NameTaken { kind: String, name: String },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// The state that all reconciles share. Memory survives suspending the controller.
struct Context {
    client: Client,
    events: Recorder,
    reconciles: AtomicU64,
}

#[wasmop::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::try_default().await?;
    let context = Arc::new(Context {
        client: client.clone(),
        events: Recorder::new(client.clone(), wasmop::name().into()),
        reconciles: AtomicU64::new(0),
    });
    wasmop::Controller::new(Api::<Website>::all(client.clone()), watcher::Config::default())
        // The controller's own status updates cause no reconcile.
        .generation_changed()
        .owns(Api::<ConfigMap>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Service>::all(client), watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, on_error, context)
        .for_each(async |result| match result {
            Ok((website, _)) => info!(%website, "reconciled"),
            Err(error) => warn!(error = &error as &dyn std::error::Error, "reconcile failed"),
        })
        .await;
    Ok(())
}

async fn reconcile(website: Arc<Website>, context: Arc<Context>) -> Result<Action> {
    let namespace = website.namespace().unwrap_or_default();
    let websites = Api::<Website>::namespaced(context.client.clone(), &namespace);
    finalizer(&websites, FINALIZER, website, async |event| match event {
        finalizer::Event::Apply(website) => apply(&websites, &website, &context).await,
        finalizer::Event::Cleanup(website) => clean_up(&website, &context).await,
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

/// Brings the children in line with the spec of the Website, and its status in line with the children.
async fn apply(websites: &Api<Website>, website: &Website, context: &Context) -> Result<Action> {
    let reconciles = context.reconciles.fetch_add(1, Ordering::Relaxed) + 1;

    apply_child(context, website, children::config_map(website)).await?;
    let deployment = apply_child(context, website, children::deployment(website)).await?;
    apply_child(context, website, children::service(website)).await?;

    match website.status.as_ref().map(|status| status.observed_generation) {
        None => publish(context, website, "Created", "Created the ConfigMap, Deployment and Service").await?,
        seen if seen != website.metadata.generation => {
            publish(context, website, "Updated", "Updated the ConfigMap, Deployment and Service").await?;
        }
        _ => {}
    }

    let status = status::observe(website, &deployment, reconciles, Time(Timestamp::now()));
    let patch = serde_json::json!({ "status": status });
    websites.patch_status(&website.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(Action::requeue(RESYNC))
}

/// The place to delete what Kubernetes does not know, such as a DNS record or a bucket. Kubernetes deletes the children
/// because of their owner references.
async fn clean_up(website: &Website, context: &Context) -> Result<Action> {
    publish(context, website, "Deleted", "Deleted with its ConfigMap, Deployment and Service").await?;
    Ok(Action::await_change())
}

/// Creates or updates a child with server-side apply, which keeps the fields of other managers. It does not change an
/// object of the same name that is not a child of the Website.
async fn apply_child<K>(context: &Context, website: &Website, child: K) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api = Api::<K>::namespaced(context.client.clone(), &child.namespace().unwrap_or_default());
    let existing = api.get_opt(&child.name_any()).await?;
    if existing.is_some_and(|existing| !children::is_child(&existing, website)) {
        return Err(Error::NameTaken { kind: K::kind(&()).into_owned(), name: child.name_any() });
    }
    let params = PatchParams::apply(wasmop::name()).force();
    Ok(api.patch(&child.name_any(), &params, &Patch::Apply(&child)).await?)
}

/// Emits an Event, which `kubectl describe website` shows.
async fn publish(context: &Context, website: &Website, reason: &str, note: &str) -> Result<()> {
    let event = Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(note.to_owned()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    Ok(context.events.publish(&event, &website.object_ref(&())).await?)
}

/// `await_change` retries with exponential backoff.
fn on_error(_: Arc<Website>, _: &Error, _: Arc<Context>) -> Action {
    Action::await_change()
}
