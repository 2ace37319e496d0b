//! An operator in the layout of kubebuilder, with controller-runtime.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
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
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;

const COLUMN: &str = super::COLUMN;
const NAME: &str = "greeter";
const NAMESPACE: &str = "greeter";
const CRD: &str = "greetings.greeter.example.com";
/// The host compiles the package first, which has more than 60 MB of code.
const READY_TIMEOUT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(100);

pub async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    let package = tokio::task::block_in_place(|| build(&project(), cluster.dir()));
    let built = package.as_ref().map(|_| ()).map_err(|error| anyhow::anyhow!("{error:#}"));
    part.record("Go: an operator of kubebuilder builds, and its project does not change", COLUMN, built);
    let Ok(package) = package else { return Ok(()) };

    create_crd(&cluster).await?;
    cluster.create_namespace(NAMESPACE).await?;
    let fixture = Fixture::start(cluster, package)?;
    part.step("Go: a custom resource becomes a ConfigMap and gets a status", COLUMN, fixture.greets()).await;
    part.step("Go: it is suspended, and a change resumes it", COLUMN, fixture.resumes()).await;
    part.step("Go: a deleted child is created again", COLUMN, fixture.repairs()).await;
    part.step("Go: a requeue is due while it is suspended", COLUMN, fixture.requeues()).await;
    part.step("Go: a killed host continues it with its memory", COLUMN, fixture.continues()).await;
    part.step("Go: a finalizer runs before the object is gone", COLUMN, fixture.finalizes()).await;
    part.row("Go: leader election makes no requests", COLUMN, fixture.elects_nobody()).await;
    if part.has_failures() {
        part.keep(fixture.keep_files());
    }
    Ok(())
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("operators/go-kubebuilder")
}

/// Builds the operator with `wasmop build`.
fn build(project: &Path, out: &Path) -> Result<PathBuf> {
    let modules = ["go.mod", "go.sum"].map(|file| project.join(file));
    let read = || modules.each_ref().map(|file| std::fs::read(file).unwrap_or_default());
    let before = read();
    let package = out.join("greeter.wasm");
    let output = Command::new(guests::wasmop()?).arg("build").arg(project).arg("--output").arg(&package).output()?;
    if !output.status.success() {
        bail!("`wasmop build {}` failed:\n{}", project.display(), String::from_utf8_lossy(&output.stderr));
    }
    ensure!(read() == before, "the build changed go.mod or go.sum");
    Ok(package)
}

async fn create_crd(cluster: &TestCluster) -> Result<()> {
    let file = project().join("config/crd/bases/greeter.example.com_greetings.yaml");
    let crd = serde_norway::from_str(&std::fs::read_to_string(file)?)?;
    let crds = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    crds.create(&PostParams::default(), &crd).await?;
    let established = wait::await_condition(crds, CRD, conditions::is_crd_established());
    tokio::time::timeout(TIMEOUT, established).await.context("the CRD is not established")??;
    Ok(())
}

/// Starts a host, and waits until its controllers run. A controller with a loop of its own registers nothing, so the
/// host does not log that it is ready.
fn started(options: &HostOptions) -> Result<Host> {
    let mut host = Host::spawn(options)?;
    let is_started = |record: &Record| record.message() == "host started";
    tokio::task::block_in_place(|| host.log.wait_for(0, READY_TIMEOUT, "start of the host", is_started))?;
    Ok(host)
}

struct Fixture {
    cluster: TestCluster,
    options: HostOptions,
    host: Mutex<Host>,
}

impl Fixture {
    fn start(cluster: TestCluster, package: PathBuf) -> Result<Fixture> {
        let options = cluster.host_options("host", vec![package])?;
        let host = started(&options)?;
        Ok(Fixture { cluster, options, host: Mutex::new(host) })
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_files(self) -> PathBuf {
        drop(self.host);
        self.cluster.keep_files()
    }

    fn greetings(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("greeter.example.com", "v1", "Greeting");
        Api::namespaced_with(
            self.cluster.client.clone(),
            NAMESPACE,
            &ApiResource::from_gvk_with_plural(&kind, "greetings"),
        )
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    async fn create(&self, name: &str, spec: Value) -> Result<()> {
        let greeting = json!({
            "apiVersion": "greeter.example.com/v1", "kind": "Greeting", "metadata": {"name": name}, "spec": spec,
        });
        self.greetings().create(&PostParams::default(), &serde_json::from_value(greeting)?).await?;
        Ok(())
    }

    async fn change(&self, name: &str, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.greetings().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the status is of the current spec and `wanted` holds for it.
    async fn until_status(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let greeting = self.greetings().get(name).await?;
            let status = &greeting.data["status"];
            if status["observedGeneration"].as_i64() == greeting.metadata.generation && wanted(status) {
                return Ok(status.clone());
            }
            ensure!(
                Instant::now() < deadline,
                "{name}: its status is still {status}; the log ends with\n{}",
                self.tail()
            );
            sleep(POLL).await;
        }
    }

    async fn until_text(&self, name: &str, text: &str) -> Result<ConfigMap> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = self.config_maps().get_opt(name).await?;
            let data = found.as_ref().and_then(|it| it.data.as_ref()?.get("text"));
            if data.is_some_and(|it| it == text) {
                return found.context("it was just found");
            }
            ensure!(Instant::now() < deadline, "ConfigMap {name} has {data:?}; the log ends with\n{}", self.tail());
            sleep(POLL).await;
        }
    }

    fn tail(&self) -> String {
        self.host().log.tail(10)
    }

    /// Waits until the operator is suspended, after `position` in the log.
    fn until_suspended(&self, position: usize) -> Result<()> {
        let what = "suspend of the operator";
        tokio::task::block_in_place(|| {
            self.host().log.wait_for(position, TIMEOUT, what, |record| record.is("suspended", NAME))
        })?;
        Ok(())
    }

    /// The operator's count of reconciles, which it keeps in memory, from its last log line.
    fn reconciles(&self) -> Result<f64> {
        let mut host = self.host();
        let counts = host.log.records()?.iter().rev().filter_map(|record| record.0["fields"]["reconciles"].as_f64());
        counts.into_iter().next().context("no log line with a count of reconciles")
    }

    async fn greets(&self) -> Result<()> {
        self.create("first", json!({"text": "world"})).await?;
        let config = self.until_text("first", "Hello, world").await?;
        let version = config.data.as_ref().and_then(|data| data.get("version"));
        ensure!(version.is_some_and(|it| it == "1.2.3"), "the linker flags had no effect: version is {version:?}");
        self.until_status("first", |status| status["conditions"][0]["status"] == "True").await?;
        let greeting = self.greetings().get("first").await?;
        ensure!(greeting.finalizers().len() == 1, "it has the finalizers {:?}", greeting.finalizers());
        Ok(())
    }

    async fn resumes(&self) -> Result<()> {
        for text in ["one", "two", "three"] {
            let position = self.host().log.position()?;
            self.change("first", json!({"text": text})).await?;
            self.until_text("first", &format!("Hello, {text}")).await?;
            self.until_suspended(position)?;
        }
        Ok(())
    }

    async fn repairs(&self) -> Result<()> {
        let position = self.host().log.position()?;
        self.config_maps().delete("first", &DeleteParams::default()).await?;
        self.until_text("first", "Hello, three").await?;
        self.until_suspended(position)
    }

    async fn requeues(&self) -> Result<()> {
        let position = self.host().log.position()?;
        self.create("periodic", json!({"text": "again", "refreshSeconds": 2})).await?;
        self.until_status("periodic", |status| status["refreshes"].as_i64() >= Some(3)).await?;
        self.until_suspended(position)?;
        self.change("periodic", json!({"refreshSeconds": 0})).await
    }

    async fn continues(&self) -> Result<()> {
        let position = self.host().log.position()?;
        self.change("first", json!({"text": "before"})).await?;
        self.until_text("first", "Hello, before").await?;
        self.until_suspended(position)?;
        let before = self.reconciles()?;
        self.host().kill()?;
        // The change happens while no host runs.
        self.change("first", json!({"text": "after"})).await?;
        let options = HostOptions { log: self.cluster.dir().join("host-2.log"), ..self.options.clone() };
        *self.host() = started(&options)?;
        self.until_text("first", "Hello, after").await?;
        let deadline = Instant::now() + TIMEOUT;
        while self.reconciles().is_err() && Instant::now() < deadline {
            sleep(POLL).await;
        }
        let after = self.reconciles()?;
        ensure!(after > before, "its count of reconciles was {before}, and is {after}");
        Ok(())
    }

    async fn finalizes(&self) -> Result<()> {
        self.greetings().delete("first", &DeleteParams::default()).await?;
        self.until_text("first-farewell", "Goodbye, after").await?;
        let deadline = Instant::now() + TIMEOUT;
        while self.greetings().get_opt("first").await?.is_some() {
            ensure!(Instant::now() < deadline, "the object is still there");
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn elects_nobody(&self) -> Result<()> {
        let leases = Api::<Lease>::namespaced(self.cluster.client.clone(), NAMESPACE);
        let leases: Vec<String> =
            leases.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        ensure!(leases.is_empty(), "there are Leases: {leases:?}");
        Ok(())
    }
}
