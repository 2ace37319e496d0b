//! Events that a guest emits.

use anyhow::{Result, bail};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::probe::spec;
use crate::scene::{POLL, Scene};
use crate::world::PATIENCE;

/// Two Events of one step, and one about a cluster-scoped object whose name is none of an Event.
pub async fn of_one_step(scene: Scene) -> Result<()> {
    scene.create_and_wait("reporting", spec("events", "")).await?;
    let role = format!("system:{}", scene.guest.name);
    for (namespace, reason, about) in [
        (scene.guest.name, "First", "reporting"),
        (scene.guest.name, "Second", "reporting"),
        ("default", "OddName", &role),
    ] {
        let events: Api<Event> = Api::namespaced(scene.world.cluster.client.clone(), namespace);
        let deadline = Instant::now() + PATIENCE;
        let is = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(about)
        };
        while !events.list(&ListParams::default()).await?.iter().any(is) {
            if Instant::now() > deadline {
                bail!("no Event {reason} about {about} in {namespace} after {PATIENCE:?}");
            }
            sleep(POLL).await;
        }
    }
    scene.remove("reporting").await
}
