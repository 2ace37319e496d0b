//! The environment and arguments a program starts with, and its work before it registers.

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_testbed::log::Record;

use super::host_restart::{HostRestart, Prepared, RestartRow, Stop};
use crate::guest_fixture::GuestFixture;
use crate::probe::{Probe, spec};
use crate::test_cluster::TIMEOUT;

/// The namespace of the host's kubeconfig.
const NAMESPACE: &str = "default";

/// One restart with other settings, and one with two namespaces.
pub fn restarts() -> Vec<HostRestart> {
    vec![
        HostRestart {
            stop: Stop::Terminate,
            args: owner_settings,
            prepare: |fixture| Box::pin(prepare_settings(fixture)),
            while_down: |_| Box::pin(async { Ok(()) }),
            rows: vec![RestartRow {
                name: "the owner's environment, arguments and log level apply",
                verify: |fixture, _| Box::pin(verify_settings(fixture)),
            }],
        },
        HostRestart {
            stop: Stop::Terminate,
            args: two_namespaces,
            prepare: |fixture| Box::pin(prepare_namespaces(fixture)),
            while_down: |_| Box::pin(async { Ok(()) }),
            rows: vec![RestartRow {
                name: "two namespaces and a cluster-scoped kind are watched",
                verify: |fixture, _| Box::pin(verify_namespaces(fixture)),
            }],
        },
    ]
}

/// The first host has no settings for the guest, so those of its `wasmop.toml` apply.
async fn prepare_settings(fixture: GuestFixture) -> Result<Prepared> {
    let position = fixture.position()?;
    let echo = fixture.create_and_wait("started", spec("startup", "")).await?.observed().echo;
    ensure!(echo == format!("package;--from=package,rest;{NAMESPACE}"), "started with {echo:?}");
    ensure!(!fixture.logged(position)?.iter().any(is_debug), "a line at the debug level was passed on");
    fixture.until_suspended().await?;
    Ok(Prepared::default())
}

/// A configuration file with other values for all guests. It has them send a request before they register.
fn owner_settings(fixture: &GuestFixture, fixtures: &[GuestFixture]) -> Result<Vec<String>> {
    let file = fixture.env.cluster.dir().join("startup.toml");
    let controllers = fixtures.iter().map(|fixture| {
        format!(
            "[controllers.{}]\nenv = {{ MODE = \"owner\", ASK_FIRST = \"yes\" }}\nargs = [\"--from=owner\"]\nlog-level = \"debug\"\n",
            fixture.guest.name
        )
    });
    std::fs::write(&file, controllers.collect::<String>())?;
    Ok(vec!["--config".into(), file.display().to_string()])
}

async fn verify_settings(fixture: GuestFixture) -> Result<()> {
    let is = |message: &'static str| move |record: &Record| record.message() == message;
    fixture.until_logged(0, "the request before it registered", is("asked first")).await?;
    let rest = if fixture.guest.column == "rust" { "" } else { "," };
    let expected = format!("owner;--from=owner{rest};{NAMESPACE}");
    // The restarted guest reconciles every object again.
    fixture.until("started", "reconciled by the new program", |probe| probe.observed().echo == expected).await?;
    fixture.until_logged(0, "a line at the debug level", is_debug).await?;
    fixture.remove("started").await
}

fn is_debug(record: &Record) -> bool {
    record.message() == "what it was started with"
}

/// A second namespace that the guest watches, and one that it does not.
fn further(fixture: &GuestFixture) -> [String; 2] {
    ["further", "outside"].map(|name| format!("{name}-{}", fixture.guest.name))
}

async fn prepare_namespaces(fixture: GuestFixture) -> Result<Prepared> {
    for namespace in further(&fixture) {
        fixture.env.cluster.create_namespace(&namespace).await?;
    }
    fixture.until_suspended().await?;
    Ok(Prepared::default())
}

/// A configuration file that gives each guest its own namespace and a second one.
fn two_namespaces(fixture: &GuestFixture, fixtures: &[GuestFixture]) -> Result<Vec<String>> {
    let file = fixture.env.cluster.dir().join("namespaces.toml");
    let controllers = fixtures.iter().map(|fixture| {
        let name = fixture.guest.name;
        let [further, _] = further(fixture);
        format!("[controllers.{name}]\nnamespace = [\"{name}\", \"{further}\"]\nenv = {{ WATCH_CLUSTER = \"yes\" }}\n")
    });
    std::fs::write(&file, controllers.collect::<String>())?;
    Ok(vec!["--config".into(), file.display().to_string()])
}

async fn verify_namespaces(fixture: GuestFixture) -> Result<()> {
    let [further, outside] = further(&fixture);
    let probes = |namespace: &str| Api::<Probe>::namespaced(fixture.env.cluster.client.clone(), namespace);
    let labels = [("guest".to_owned(), fixture.guest.name.to_owned())];
    let probe = |name: &str| {
        let metadata =
            ObjectMeta { name: Some(name.into()), labels: Some(labels.clone().into()), ..ObjectMeta::default() };
        Probe { metadata, spec: spec("startup", ""), status: None }
    };
    // The Probe that must not be reconciled comes first.
    probes(&outside).create(&PostParams::default(), &probe("outside")).await?;
    probes(&further).create(&PostParams::default(), &probe("further")).await?;
    fixture.create_and_wait("own", spec("startup", "")).await?;
    let deadline = Instant::now() + TIMEOUT;
    while !probes(&further).get("further").await?.is_current() {
        ensure!(Instant::now() < deadline, "the Probe in the second namespace is not reconciled");
        sleep(Duration::from_millis(50)).await;
    }
    ensure!(probes(&outside).get("outside").await?.status.is_none(), "a Probe of another namespace was reconciled");
    let is_seen =
        |record: &Record| record.message() == "namespace seen" && record.0["fields"]["namespace"] == fixture.guest.name;
    fixture.until_logged(0, "a namespace", is_seen).await?;
    let times = fixture.logged(0)?.iter().filter(|record| is_seen(record)).count();
    ensure!(times == 1, "a namespace was seen {times} times");
    fixture.remove("own").await
}
