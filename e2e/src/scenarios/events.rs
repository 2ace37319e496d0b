//! Events that a guest emits.

use anyhow::{Result, bail};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use crate::guest_fixture::{GuestFixture, POLL};
use crate::probe::spec;
use crate::test_cluster::TIMEOUT;

/// One step emits two Events about a Probe, and one about a cluster-scoped object whose name no Event can have.
pub async fn of_one_step(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("reporting", spec("events", "")).await?;
    let role = format!("system:{}", fixture.guest.name);
    for (namespace, reason, about) in [
        (fixture.guest.name, "First", "reporting"),
        (fixture.guest.name, "Second", "reporting"),
        ("default", "OddName", &role),
    ] {
        let events: Api<Event> = Api::namespaced(fixture.env.cluster.client.clone(), namespace);
        let deadline = Instant::now() + TIMEOUT;
        let is = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(about)
        };
        while !events.list(&ListParams::default()).await?.iter().any(is) {
            if Instant::now() > deadline {
                bail!("no Event {reason} about {about} in {namespace} after {TIMEOUT:?}");
            }
            sleep(POLL).await;
        }
    }
    fixture.remove("reporting").await
}
