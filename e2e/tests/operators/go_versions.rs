//! Operators of other layouts and older libraries than that of `go.rs`, in one host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::{conditions, wait};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmop_e2e::guests;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

const COLUMN: &str = super::COLUMN;
/// controller-runtime 0.17 in the layout of kubebuilder 3, with an injected clock.
const CRONJOB: &str = "cronjob";
/// client-go 0.26 in the layout of sample-controller.
const SECRET_SYNC: &str = "secret-sync";
/// controller-runtime 0.14 in the layout of operator-sdk, with webhooks.
const CACHE_OPERATOR: &str = "cache-operator";
const NAMES: [&str; 3] = [CRONJOB, SECRET_SYNC, CACHE_OPERATOR];
/// The namespace of the host's kubeconfig.
const OWN: &str = "default";
/// Another one, in which `CACHE_OPERATOR` has no business.
const OTHER: &str = "other";
/// The host compiles three packages first.
const READY_TIMEOUT: Duration = Duration::from_secs(1200);
const POLL: Duration = Duration::from_millis(100);
/// Longer than the tickers of work queues.
const IDLE: Duration = Duration::from_secs(25);

pub async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    let packages = tokio::task::block_in_place(|| build(cluster.dir()));
    let built = packages.as_ref().map(|_| ()).map_err(|error| anyhow::anyhow!("{error:#}"));
    part.record("Go: operators of three layouts build, one after `wasmop init`", COLUMN, built);
    let Ok(packages) = packages else { return Ok(()) };

    cluster.create_namespace(OTHER).await?;
    for (file, name) in [
        ("go-cronjob/config/crd/bases/batch.example.com_schedules.yaml", "schedules.batch.example.com"),
        ("go-operator-sdk/config/crd/bases/cache.example.com_caches.yaml", "caches.cache.example.com"),
    ] {
        create_crd(&cluster, file, name).await?;
    }
    let mut host = Host::spawn(&cluster.host_options("go-versions", packages)?)?;
    tokio::task::block_in_place(|| {
        NAMES.iter().try_for_each(|name| {
            let is_suspended = |record: &Record| record.is("suspended", name);
            host.log.wait_for(0, READY_TIMEOUT, &format!("suspend of {name}"), is_suspended).map(drop)
        })
    })?;
    let mut fixture = Fixture { cluster, host };
    part.row("Go: client-go 0.26 stays suspended while nothing changes", COLUMN, fixture.stays_suspended()).await;
    part.row("Go: client-go 0.26 copies Secrets between namespaces", COLUMN, fixture.copies()).await;
    part.row("Go: controller-runtime 0.17 runs a schedule between suspends", COLUMN, fixture.schedules()).await;
    part.row("Go: controller-runtime 0.14 with webhooks watches its own namespace", COLUMN, fixture.watches()).await;
    if part.has_failures() {
        drop(fixture.host);
        part.keep(fixture.cluster.keep_files());
    }
    Ok(())
}

fn operators() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("operators")
}

/// Builds the packages. The project of operator-sdk has no wasmop.toml, so it is copied.
fn build(out: &Path) -> Result<Vec<PathBuf>> {
    let copy = out.join(CACHE_OPERATOR);
    run_tool(Command::new("cp").arg("-r").arg(operators().join("go-operator-sdk")).arg(&copy))?;
    run_tool(Command::new(guests::wasmop()?).arg("init").arg(&copy))?;
    let projects = [operators().join("go-cronjob"), operators().join("go-secret-sync"), copy];
    let build = |(project, name): (&PathBuf, &str)| {
        let package = out.join(format!("{name}.wasm"));
        run_tool(Command::new(guests::wasmop()?).arg("build").arg(project).arg("--output").arg(&package))?;
        Ok(package)
    };
    projects.iter().zip(NAMES).map(build).collect()
}

fn run_tool(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

async fn create_crd(cluster: &TestCluster, file: &str, name: &str) -> Result<()> {
    let crd = serde_norway::from_str(&std::fs::read_to_string(operators().join(file))?)?;
    let crds = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    crds.create(&PostParams::default(), &crd).await?;
    let established = wait::await_condition(crds, name, conditions::is_crd_established());
    tokio::time::timeout(TIMEOUT, established).await.context("the CRD is not established")??;
    Ok(())
}

/// Repeats a check until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !holds().await? {
        ensure!(Instant::now() < deadline, "{what}: not in {TIMEOUT:?}");
        sleep(POLL).await;
    }
    Ok(())
}

struct Fixture {
    cluster: TestCluster,
    host: Host,
}

impl Fixture {
    fn objects(&self, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.cluster.client.clone(), namespace, &kind)
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.cluster.client.clone(), namespace)
    }

    fn config_maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.cluster.client.clone(), namespace)
    }

    async fn create(&self, api: &Api<DynamicObject>, object: Value) -> Result<()> {
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    fn count(&mut self, position: usize, message: &str, name: &str) -> Result<usize> {
        Ok(self.host.log.records()?.iter().skip(position).filter(|record| record.is(message, name)).count())
    }

    async fn stays_suspended(&mut self) -> Result<()> {
        let position = self.host.log.position()?;
        sleep(IDLE).await;
        for name in NAMES {
            let resumes = self.count(position, "resumed", name)?;
            ensure!(resumes == 0, "{name} was resumed {resumes} times in {IDLE:?}");
        }
        Ok(())
    }

    async fn copies(&mut self) -> Result<()> {
        let (source, copy) = (self.secrets(OWN), self.secrets(OTHER));
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"key": "one"},
            "metadata": {"name": "shared", "annotations": {"sync.example.com/to": "other,absent"}},
        });
        source.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        let has = async |text: &str| {
            let found = copy.get_opt("shared").await?;
            let key = found.and_then(|secret| secret.data?.remove("key"));
            Ok::<bool, anyhow::Error>(key.is_some_and(|key| key.0 == text.as_bytes()))
        };
        until("the copy", async || has("one").await).await?;
        let change = Patch::Merge(json!({"stringData": {"key": "two"}}));
        source.patch("shared", &PatchParams::default(), &change).await?;
        until("the changed copy", async || has("two").await).await?;
        source.delete("shared", &DeleteParams::default()).await?;
        until("the deletion", async || Ok(copy.get_opt("shared").await?.is_none())).await
    }

    async fn schedules(&mut self) -> Result<()> {
        let (schedules, runs) = (self.objects("batch.example.com", "v1", "Schedule", OWN), self.config_maps(OWN));
        let position = self.host.log.position()?;
        let schedule = json!({
            "apiVersion": "batch.example.com/v1", "kind": "Schedule", "metadata": {"name": "often"},
            "spec": {"every": "4s", "historyLimit": 2},
        });
        self.create(&schedules, schedule).await?;
        let labelled = ListParams::default().labels("batch.example.com/scheduled-at");
        let mut seen = std::collections::BTreeSet::new();
        until("four runs", async || {
            seen.extend(runs.list(&labelled).await?.iter().map(ResourceExt::name_any));
            Ok(seen.len() >= 4)
        })
        .await?;
        until("old runs are removed", async || Ok(runs.list(&labelled).await?.items.len() <= 2)).await?;
        for name in &seen {
            let seconds: u64 = name.trim_start_matches("often-").parse()?;
            ensure!(seconds.is_multiple_of(4), "{name} is not at a multiple of 4 s");
        }
        let suspends = self.count(position, "suspended", CRONJOB)?;
        ensure!(suspends >= 2, "it was suspended {suspends} times between four runs");
        schedules.delete("often", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn watches(&mut self) -> Result<()> {
        let cache = json!({
            "apiVersion": "cache.example.com/v1alpha1", "kind": "Cache", "metadata": {"name": "web"},
            "spec": {"size": 3},
        });
        let caches = |namespace| self.objects("cache.example.com", "v1alpha1", "Cache", namespace);
        let settings = self.config_maps(OWN);
        self.create(&caches(OTHER), cache.clone()).await?;
        self.create(&caches(OWN), cache).await?;
        until("the settings", async || {
            let found = settings.get_opt("web-settings").await?;
            Ok(found.is_some_and(|map| map.data.is_some_and(|data| data["size"] == "3")))
        })
        .await?;
        let elsewhere = self.config_maps(OTHER).get_opt("web-settings").await?;
        ensure!(elsewhere.is_none(), "it made settings in a namespace that is not in WATCH_NAMESPACE");
        let own = caches(OWN);
        ensure!(own.get("web").await?.finalizers().len() == 1, "there is no finalizer");
        own.delete("web", &DeleteParams::default()).await?;
        until("the object is gone", async || Ok(own.get_opt("web").await?.is_none())).await?;
        ensure!(settings.get_opt("web-settings").await?.is_none(), "the finalizer left the settings");
        Ok(())
    }
}
