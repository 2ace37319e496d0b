//! A host that cannot do anything is not ready, says so for every controller, and says when it can again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::config::AuthInfo;
use tokio::time::{Instant, sleep};
use wasmop_e2e::wat_guest::Code;
use wasmop_package::manifest::Limits;
use wasmop_testbed::host::{Host, HostOptions};

use crate::stage::{Stage, patience};
use crate::{Row, row};

/// Controllers without rights, each with a watch of its own.
const CONTROLLERS: usize = 8;
/// Starts in which none of them may be forgotten.
const STARTS: usize = 4;

pub fn rows(stage: &Stage) -> Vec<Row<'_>> {
    vec![row("without rights: each controller waits, not ready; granted: ready", without_rights(stage))]
}

async fn without_rights(stage: &Stage) -> Result<()> {
    let names: Vec<String> = (0..CONTROLLERS).map(|n| format!("unready-{n}")).collect();
    let mut packages = Vec::new();
    for name in &names {
        let path = stage.path(&format!("{name}.wasm"));
        std::fs::write(&path, Code::default().package(name, Limits::NONE)?.bytes())?;
        packages.push(path);
    }
    let token = stage.token("unready", false).await?;
    let user = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    let options = HostOptions {
        kubeconfig: stage.kubeconfig_of("unready", user)?,
        args: vec!["--metrics-address".into(), "127.0.0.1:0".into()],
        ..stage.cluster.host_options("unready", packages)?
    };
    for start in 0..STARTS {
        let options = HostOptions {
            log: stage.path(&format!("unready-{start}.log")),
            // With and without what an earlier host has kept.
            state_dir: stage.path(&format!("unready-{}-state", start / 2)),
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
        stage.make_admin("unready").await?;
        until_all(&mut host, &names, "resource is available").await?;
        until(&mut host, "/readyz", 200).await?;
        tokio::task::block_in_place(|| host.terminate())?;
    }
    Ok(())
}

/// Every controller has a record with this message.
async fn until_all(host: &mut Host, names: &[String], message: &str) -> Result<()> {
    let deadline = Instant::now() + patience();
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
    let deadline = Instant::now() + patience();
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
    use anyhow::Context;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let is_served = |record: &&wasmop_testbed::log::Record| record.message().starts_with("serving metrics");
    let address = host.log.records()?.iter().find(is_served).map(|record| record.text("address").to_owned());
    let mut stream = tokio::net::TcpStream::connect(address.context("it serves nothing")?).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.into()))
}
