//! A host without rights is not ready, names every controller that waits, and becomes ready once it has rights.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::config::AuthInfo;
use tokio::time::{Instant, sleep};
use wasmop_e2e::in_process_host;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::TIMEOUT;
use wasmop_e2e::wat_guest::Code;
use wasmop_package::manifest::Limits;
use wasmop_testbed::host::{Host, HostOptions};

use crate::fixture::{COLUMN, Fixture};

/// Controllers without rights. Each has a watch of its own.
const CONTROLLERS: usize = 8;
/// Host starts. Each must report all controllers.
const STARTS: usize = 4;

pub fn rows<'a>(part: &'a Part, fixture: &'a Fixture) -> Vec<LocalBoxFuture<'a, ()>> {
    let row = "a host without rights is not ready until it gets them";
    vec![part.row(row, COLUMN, without_rights(fixture)).boxed_local()]
}

async fn without_rights(fixture: &Fixture) -> Result<()> {
    let names: Vec<String> = (0..CONTROLLERS).map(|n| format!("unready-{n}")).collect();
    let mut packages = Vec::new();
    for name in &names {
        let path = fixture.path(&format!("{name}.wasm"));
        std::fs::write(&path, Code::default().package(name, Limits::NONE)?.bytes())?;
        packages.push(path);
    }
    let token = fixture.token("unready", false).await?;
    let user = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    let options = HostOptions {
        kubeconfig: fixture.kubeconfig_of("unready", user)?,
        args: vec!["--metrics-address".into(), "127.0.0.1:0".into()],
        ..fixture.cluster.host_options("unready", packages)?
    };
    for start in 0..STARTS {
        let options = HostOptions {
            log: fixture.path(&format!("unready-{start}.log")),
            // Every second start uses the state directory of the one before.
            state_dir: fixture.path(&format!("unready-{}-state", start / 2)),
            ..options.clone()
        };
        let mut host = Host::spawn(&options)?;
        until_all(&mut host, &names, "waiting for resource").await?;
        until(&mut host, "/readyz", 503).await?;
        if start + 1 < STARTS {
            tokio::task::block_in_place(|| host.terminate())?;
            continue;
        }
        let (_, verbose) = get(&mut host, "/readyz?verbose").await?;
        for name in &names {
            ensure!(verbose.contains(&format!("[-]controller {name}: cannot watch configmaps/v1")), "{verbose}");
        }
        fixture.make_admin("unready").await?;
        until_all(&mut host, &names, "resource is available").await?;
        until(&mut host, "/readyz", 200).await?;
        tokio::task::block_in_place(|| host.terminate())?;
    }
    Ok(())
}

/// Waits until every controller has a record with this message.
async fn until_all(host: &mut Host, names: &[String], message: &str) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let records = host.log.records()?.iter().filter(|record| record.message() == message);
        let said: BTreeSet<String> = records.map(|record| record.text("controller").to_owned()).collect();
        let missing: Vec<_> = names.iter().filter(|name| !said.contains(*name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no {message:?} of {missing:?}:\n{}", host.log.tail(10));
        sleep(Duration::from_millis(100)).await;
    }
}

async fn until(host: &mut Host, path: &str, wanted: u16) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let (status, text) = get(host, path).await?;
        if status == wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{path}: {status}, not {wanted}: {text}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn get(host: &mut Host, path: &str) -> Result<(u16, String)> {
    let is_served = |record: &&wasmop_testbed::log::Record| record.message().starts_with("serving metrics");
    let address = host.log.records()?.iter().find(is_served).map(|record| record.text("address").to_owned());
    in_process_host::get(address.context("it serves nothing")?.parse()?, path).await
}
