//! The reconcile loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::banner::{Banner, BannerStatus};
use crate::health::Health;

const FINALIZER: &str = "operators.wasmop.dev/banner";
const MANAGER: &str = "banner-operator";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server refused: {0}")]
    Kube(#[from] kube::Error),
    #[error("a banner cannot repeat {0} times")]
    TooLong(u32),
    #[error("the finalizer failed: {0}")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
}

struct Context {
    client: Client,
    recorder: Recorder,
    health: Arc<Health>,
    /// The draws of each banner.
    draws: Mutex<HashMap<String, Draws>>,
}

struct Draws {
    count: u64,
    last: Instant,
    generation: i64,
}

/// Runs until the program is stopped.
pub async fn run(client: Client, health: Arc<Health>) {
    let banners = Api::<Banner>::all(client.clone());
    let config_maps = Api::<ConfigMap>::all(client.clone());
    let recorder = Recorder::new(client.clone(), Reporter { controller: MANAGER.into(), instance: None });
    let context = Arc::new(Context { client, recorder, health, draws: Mutex::default() });
    let controller = Controller::new(banners, watcher::Config::default())
        .owns(config_maps, watcher::Config::default())
        .shutdown_on_signal();
    #[cfg(feature = "store")]
    tokio::spawn(report(controller.store()));
    controller
        .run(reconcile, error_policy, context)
        .for_each(|result| async move {
            match result {
                Ok((object, _)) => tracing::info!(name = object.name, "reconciled"),
                Err(error) => tracing::warn!(%error, "reconcile failed"),
            }
        })
        .await;
}

#[cfg(feature = "store")]
async fn report(store: kube::runtime::reflector::Store<Banner>) {
    if store.wait_until_ready().await.is_ok() {
        tracing::info!(banners = store.len(), "the cache is complete");
    }
}

async fn reconcile(banner: Arc<Banner>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = banner.namespace().unwrap_or_default();
    let api = Api::<Banner>::namespaced(context.client.clone(), &namespace);
    finalizer(&api, FINALIZER, banner, |event| async {
        match event {
            finalizer::Event::Apply(banner) => apply(&banner, &namespace, &context).await,
            finalizer::Event::Cleanup(banner) => cleanup(&banner, &context).await,
        }
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

async fn apply(banner: &Banner, namespace: &str, context: &Context) -> Result<Action, Error> {
    if banner.spec.repeat > 1000 {
        return Err(Error::TooLong(banner.spec.repeat));
    }
    let name = banner.name_any();
    let params = PatchParams::apply(MANAGER).force();
    let text = vec![banner.spec.text.clone(); banner.spec.repeat as usize].join("\n");
    let config_map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("banner-{name}")),
            owner_references: banner.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("text".to_owned(), text)])),
        ..ConfigMap::default()
    };
    let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), namespace);
    config_maps.patch(&format!("banner-{name}"), &params, &Patch::Apply(&config_map)).await?;

    let generation = banner.metadata.generation.unwrap_or_default();
    let refresh = banner.spec.refresh_seconds.map(Duration::from_secs);
    // The new status causes another reconcile, which must not draw again.
    let draws = {
        let now = Instant::now();
        let mut all = context.draws.lock().expect("no panic while it is locked");
        let draws = all.entry(format!("{namespace}/{name}")).or_insert(Draws { count: 0, last: now, generation: 0 });
        let next = refresh.map(|refresh| (draws.last + refresh).saturating_duration_since(now));
        if draws.generation == generation && next.is_none_or(|next| !next.is_zero()) {
            return Ok(next.map_or_else(Action::await_change, Action::requeue));
        }
        *draws = Draws { count: draws.count + 1, last: now, generation };
        draws.count
    };
    let status = BannerStatus { observed_generation: generation, lines: banner.spec.repeat, draws };
    let api = Api::<Banner>::namespaced(context.client.clone(), namespace);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await?;
    context.health.drew();
    Ok(refresh.map_or_else(Action::await_change, Action::requeue))
}

async fn cleanup(banner: &Banner, context: &Context) -> Result<Action, Error> {
    let event = Event {
        type_: EventType::Normal,
        reason: "Removed".into(),
        note: Some(format!("{} is taken down", banner.name_any())),
        action: "Remove".into(),
        secondary: None,
    };
    context.recorder.publish(&event, &banner.object_ref(&())).await?;
    Ok(Action::await_change())
}

fn error_policy(_: Arc<Banner>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "retrying");
    Action::requeue(Duration::from_secs(5))
}
