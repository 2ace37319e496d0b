//! What a program is started with, and what it does before it registers anything.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_testbed::log::Record;

use super::restart::Prepared;
use crate::probe::{Probe, spec};
use crate::scene::Scene;
use crate::world::PATIENCE;

/// What the host's own namespace is by the kubeconfig.
const NAMESPACE: &str = "default";

/// By a host that says nothing of the guest: what its `wasmop.toml` says.
pub async fn prepare(scene: Scene) -> Result<Prepared> {
    let position = scene.position()?;
    let echo = scene.create_and_wait("started", spec("startup", "")).await?.observed().echo;
    ensure!(echo == format!("package;--from=package,rest;{NAMESPACE}"), "started with {echo:?}");
    ensure!(!scene.logged(position)?.iter().any(is_debug), "a line at the debug level was passed on");
    scene.until_suspended().await?;
    Ok(Prepared::default())
}

/// A configuration file with other values for all guests, each of which is to ask the API server first.
pub fn owner(scene: &Scene, scenes: &[Scene]) -> Result<Vec<String>> {
    let file = scene.world.cluster.dir().join("startup.toml");
    let controllers = scenes.iter().map(|scene| {
        format!(
            "[controllers.{}]\nenv = {{ MODE = \"owner\", ASK_FIRST = \"yes\" }}\nargs = [\"--from=owner\"]\nlog-level = \"debug\"\n",
            scene.guest.name
        )
    });
    std::fs::write(&file, controllers.collect::<String>())?;
    Ok(vec!["--config".into(), file.display().to_string()])
}

pub async fn verify(scene: Scene) -> Result<()> {
    let is = |message: &'static str| move |record: &Record| record.message() == message;
    scene.until_logged(0, "its request before it registered", is("asked first")).await?;
    let rest = if scene.guest.column == "rust" { "" } else { "," };
    let expected = format!("owner;--from=owner{rest};{NAMESPACE}");
    // It has begun anew, so it looks at every object again.
    scene.until("started", "reconciled by the new program", |probe| probe.observed().echo == expected).await?;
    scene.until_logged(0, "a line at the debug level", is_debug).await?;
    scene.remove("started").await
}

fn is_debug(record: &Record) -> bool {
    record.message() == "what it was started with"
}

/// A further namespace that the guest is to watch, and one that it is not.
fn further(scene: &Scene) -> [String; 2] {
    ["further", "outside"].map(|name| format!("{name}-{}", scene.guest.name))
}

pub async fn prepare_namespaces(scene: Scene) -> Result<Prepared> {
    for namespace in further(&scene) {
        scene.world.cluster.create_namespace(&namespace).await?;
    }
    scene.until_suspended().await?;
    Ok(Prepared::default())
}

/// A configuration file by which each guest has its own namespace and another one.
pub fn two_namespaces(scene: &Scene, scenes: &[Scene]) -> Result<Vec<String>> {
    let file = scene.world.cluster.dir().join("namespaces.toml");
    let controllers = scenes.iter().map(|scene| {
        let name = scene.guest.name;
        let [further, _] = further(scene);
        format!("[controllers.{name}]\nnamespace = [\"{name}\", \"{further}\"]\nenv = {{ WATCH_CLUSTER = \"yes\" }}\n")
    });
    std::fs::write(&file, controllers.collect::<String>())?;
    Ok(vec!["--config".into(), file.display().to_string()])
}

pub async fn verify_namespaces(scene: Scene) -> Result<()> {
    let [further, outside] = further(&scene);
    let probes = |namespace: &str| Api::<Probe>::namespaced(scene.world.cluster.client.clone(), namespace);
    let labels = [("guest".to_owned(), scene.guest.name.to_owned())];
    let probe = |name: &str| {
        let metadata =
            ObjectMeta { name: Some(name.into()), labels: Some(labels.clone().into()), ..ObjectMeta::default() };
        Probe { metadata, spec: spec("startup", ""), status: None }
    };
    // First the one that is not to be seen.
    probes(&outside).create(&PostParams::default(), &probe("outside")).await?;
    probes(&further).create(&PostParams::default(), &probe("further")).await?;
    scene.create_and_wait("own", spec("startup", "")).await?;
    let deadline = Instant::now() + PATIENCE;
    while !probes(&further).get("further").await?.is_current() {
        ensure!(Instant::now() < deadline, "the Probe in the second namespace is not reconciled");
        sleep(Duration::from_millis(50)).await;
    }
    ensure!(probes(&outside).get("outside").await?.status.is_none(), "a Probe of another namespace was reconciled");
    let is_seen =
        |record: &Record| record.message() == "namespace seen" && record.0["fields"]["namespace"] == scene.guest.name;
    scene.until_logged(0, "a namespace", is_seen).await?;
    let times = scene.logged(0)?.iter().filter(|record| is_seen(record)).count();
    ensure!(times == 1, "a namespace was seen {times} times");
    scene.remove("own").await
}
