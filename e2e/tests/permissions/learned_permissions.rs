//! `wasmop run --learn-permissions` prints permissions with which the package then runs without a denial.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_package::Package;
use wasmop_package::manifest::{Manifest, PolicyRule};
use wasmop_testbed::host::Host;

use crate::setup::rule;

pub const NAMESPACE: &str = "learn";
const CONTROLLER: &str = "probe-go";
const POLL: Duration = Duration::from_millis(50);

/// Strips the package of its permissions, runs it to learn them, and runs it again with the result.
pub async fn sufficient(cluster: &TestCluster, package: &Path) -> Result<()> {
    let bytes = std::fs::read(package)?;
    let requesting = |rules: Vec<PolicyRule>| {
        let manifest = Package::parse(bytes.clone())?.manifest.clone();
        Ok::<_, anyhow::Error>(wasmop_package::with_manifest(&bytes, &Manifest { permissions: rules, ..manifest })?)
    };
    // The package requests nothing that it needs, and one permission that it does not need.
    let stripped = requesting(vec![rule(&[""], &["secrets"], &["get"])])?;
    let printed = run(cluster, "learning", &stripped, &["--learn-permissions"]).await?;
    ensure!(printed.contains("# probe-go: asked for and not used: \"get\" on secrets"), "{printed}");
    println!("{printed}");
    let learned = rules(&printed)?;
    ensure!(!learned.is_empty() && !printed.contains("\"*\""), "{printed}");
    let printed = run(cluster, "learned", &requesting(learned)?, &[]).await?;
    ensure!(printed.is_empty(), "it printed {printed}");
    Ok(())
}

/// Parses `[[permissions]]`, as `wasmop build` does.
fn rules(text: &str) -> Result<Vec<PolicyRule>> {
    let table: toml::Table = text.parse().with_context(|| text.to_owned())?;
    let blocks = table.get("permissions").and_then(toml::Value::as_array).context("no [[permissions]]")?;
    let rule = |block: &toml::Value| {
        let list = |key: &str| {
            let values = block.get(key).and_then(toml::Value::as_array).into_iter().flatten();
            values.filter_map(toml::Value::as_str).map(str::to_owned).collect()
        };
        PolicyRule {
            api_groups: list("api-groups"),
            resources: list("resources"),
            verbs: list("verbs"),
            resource_names: list("resource-names"),
            non_resource_urls: list("non-resource-urls"),
        }
    };
    Ok(blocks.iter().map(rule).collect())
}

/// Runs the package in a host while Probes exercise it. Returns the standard output of the host.
async fn run(cluster: &TestCluster, name: &str, package: &[u8], args: &[&str]) -> Result<String> {
    let file = cluster.dir().join(format!("{name}.wasm"));
    std::fs::write(&file, package)?;
    let mut options = cluster.host_options(name, vec![file])?;
    let output = cluster.dir().join(format!("{name}.out"));
    options.output = Some(output.clone());
    options.args = ["--namespace", NAMESPACE].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    let mut host = Host::spawn(&options)?;
    tokio::task::block_in_place(|| host.wait_ready(&[CONTROLLER], TIMEOUT))?;
    let exercised = exercise(cluster, name).await;
    let status = tokio::task::block_in_place(|| host.terminate())?;
    let refused = host.log.records()?.iter().find(|r| r.message() == "permission denied").cloned();
    ensure!(refused.is_none(), "{name}: {refused:?}");
    exercised.with_context(|| format!("{name}; the end of its log:\n{}", host.log.tail(8)))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(std::fs::read_to_string(output)?)
}

/// Creates Probes, of which one causes a conflict, and deletes them.
async fn exercise(cluster: &TestCluster, name: &str) -> Result<()> {
    let probes = Api::<Probe>::namespaced(cluster.client.clone(), NAMESPACE);
    let all =
        [(format!("{name}-one"), "child"), (format!("{name}-two"), "child"), (format!("{name}-three"), "conflict")];
    for (probe, action) in &all {
        let labels = Some([("guest".to_owned(), CONTROLLER.to_owned())].into());
        let metadata = ObjectMeta { name: Some(probe.clone()), labels, ..ObjectMeta::default() };
        let probe = Probe { metadata, spec: spec(action, "v"), status: None };
        probes.create(&PostParams::default(), &probe).await?;
    }
    let deadline = Instant::now() + TIMEOUT;
    for (probe, _) in &all {
        while !probes.get(probe).await?.is_current() {
            if Instant::now() > deadline {
                bail!("{probe} is not reconciled");
            }
            sleep(POLL).await;
        }
    }
    for (probe, _) in &all {
        probes.delete(probe, &DeleteParams::default()).await?;
    }
    for (probe, _) in &all {
        while probes.get_opt(probe).await?.is_some() {
            ensure!(Instant::now() < deadline + TIMEOUT, "{probe} is still there");
            sleep(POLL).await;
        }
    }
    Ok(())
}
