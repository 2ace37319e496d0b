//! The smaller kube-rs operators in `e2e/operators`, on other versions of kube: one beside a web server, one that asks
//! another host, and one that is a cargo example.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use wasmop_e2e::guests;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::tls_identity::TlsIdentity;
use wasmop_e2e::web_server::Server;
use wasmop_testbed::cargo_variables;
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

const COLUMN: &str = super::COLUMN;
const NAMESPACE: &str = "default";
/// The deadline for the first suspend. The host compiles the package before.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Builds and runs them.
pub async fn run(part: &Part, cluster: &TestCluster) -> Result<()> {
    part.row("Rust: beside actix-web it owns Deployments, on kube 1.1", COLUMN, Box::pin(shop(cluster))).await;
    part.row("Rust: with reqwest it asks another host over TLS, on kube 3.1", COLUMN, Box::pin(quote(cluster))).await;
    part.row("Rust: a cargo example requeues, on kube 4.2", COLUMN, Box::pin(clock(cluster))).await;
    Ok(())
}

async fn shop(cluster: &TestCluster) -> Result<()> {
    let mut operator = Operator::start(cluster, "rust-web", "shop", "Shop", "").await?;
    let says_so = |record: &Record| record.message().contains("the server on 0.0.0.0:8080 gets no connections");
    operator.host.log.wait_for(0, TIMEOUT, "word about the server", says_so)?;
    operator.apply("corner", json!({ "replicas": 2 })).await?;
    let deployments = operator.api("apps", "v1", "Deployment");
    until("2 replicas", async || replicas(&deployments).await == Some(2)).await?;
    operator.is_suspended()?;
    let edit = json!({ "spec": { "replicas": 0 } });
    deployments.patch("shop-corner", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    until("2 replicas again", async || replicas(&deployments).await == Some(2)).await?;
    let logged = |record: &Record| record.text("level") == "INFO" && record.message() == "the shop is open";
    operator.host.log.wait_for(0, TIMEOUT, "line in JSON", logged)?;
    operator.has_no_errors()
}

async fn replicas(deployments: &Api<DynamicObject>) -> Option<i64> {
    deployments.get_opt("shop-corner").await.ok()??.data["spec"]["replicas"].as_i64()
}

async fn quote(cluster: &TestCluster) -> Result<()> {
    let identity = TlsIdentity::new()?;
    let server = Server::start(Some(&identity), String::new()).await?;
    let web = format!("https://localhost:{}", server.port);
    std::fs::write(cluster.dir().join("ca.pem"), &identity.authority)?;
    std::fs::write(
        cluster.dir().join("quote.toml"),
        format!(
            "external-ca-file = \"ca.pem\"\n[controllers.quote]\nexternal-hosts = [{web:?}]\nprivate-addresses = [\"127.0.0.0/8\", \"::1\"]\n"
        ),
    )?;
    let before = format!("external-hosts = [{web:?}]\n");
    let mut operator = Operator::start(cluster, "rust-fetch", "quote", "Quote", &before).await?;
    operator.apply("motto", json!({ "url": format!("{web}/motto") })).await?;
    let config_maps = operator.api("", "v1", "ConfigMap");
    let text =
        async || config_maps.get_opt("quote-motto").await.ok()??.data["data"]["text"].as_str().map(str::to_owned);
    until("the answer", async || text().await.as_deref() == Some("motto")).await?;
    let requests = server.received("/motto").len();
    operator.is_suspended()?;
    until("another request", async || server.received("/motto").len() > requests).await?;
    operator.has_no_errors()
}

async fn clock(cluster: &TestCluster) -> Result<()> {
    let mut operator = Operator::start(cluster, "rust-clock", "clock", "Clock", "").await?;
    operator.apply("tower", json!({})).await?;
    let clocks = operator.api("operators.wasmop.dev", "v1", "Clock");
    let ticks = async || clocks.get_opt("tower").await.ok()??.data["status"]["ticks"].as_u64();
    until("two ticks", async || ticks().await.is_some_and(|ticks| ticks >= 2)).await?;
    operator.is_suspended()?;
    operator.has_no_errors()
}

/// A running operator.
struct Operator {
    host: Host,
    cluster: kube::Client,
    controller: &'static str,
    kind: &'static str,
    /// Where its log begins that no check has read.
    position: usize,
}

impl Operator {
    /// Builds the operator in `e2e/operators/PROJECT` and starts it. `keys` are put before its `wasmop.toml`.
    async fn start(
        cluster: &TestCluster,
        project: &str,
        controller: &'static str,
        kind: &'static str,
        keys: &str,
    ) -> Result<Operator> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("operators").join(project);
        let package = tokio::task::block_in_place(|| build(cluster, &source, controller, keys))?;
        create_crd(cluster, &source).await?;
        let mut options = cluster.host_options(project, vec![package])?;
        let config = cluster.dir().join(format!("{controller}.toml"));
        if config.exists() {
            options.args.extend(["--config".to_owned(), config.display().to_string()]);
        }
        let mut host = Host::spawn(&options)?;
        let suspended = |record: &Record| record.is("suspended", controller);
        tokio::task::block_in_place(|| host.log.wait_for(0, START_TIMEOUT, "first suspend", suspended))?;
        let position = host.log.position()?;
        Ok(Operator { host, cluster: cluster.client.clone(), controller, kind, position })
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.cluster.clone(), NAMESPACE, &kind)
    }

    async fn apply(&self, name: &str, spec: Value) -> Result<()> {
        let object = json!({
            "apiVersion": "operators.wasmop.dev/v1", "kind": self.kind, "metadata": { "name": name }, "spec": spec,
        });
        let api = self.api("operators.wasmop.dev", "v1", self.kind);
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// Waits until it is suspended again.
    fn is_suspended(&mut self) -> Result<()> {
        let suspended = |record: &Record| record.is("suspended", self.controller);
        let wait = || self.host.log.wait_for(self.position, TIMEOUT, "suspend", suspended);
        tokio::task::block_in_place(wait)?;
        self.position = self.host.log.position()?;
        Ok(())
    }

    fn has_no_errors(&mut self) -> Result<()> {
        let errors = self.host.log.records()?.iter().filter(|record| record.text("level") == "ERROR").count();
        ensure!(errors == 0, "{errors} errors in {}", self.host.log.path().display());
        Ok(())
    }
}

/// Builds the package of an operator. Keys are added in a copy of the project's `wasmop.toml`, beside its sources.
fn build(cluster: &TestCluster, source: &Path, controller: &str, keys: &str) -> Result<PathBuf> {
    let package = cluster.dir().join(format!("{controller}.wasm"));
    let project = cluster.dir().join(format!("{controller}-project"));
    copy(source, &project)?;
    let file = project.join("wasmop.toml");
    std::fs::write(&file, format!("{keys}{}", std::fs::read_to_string(&file)?))?;
    let mut command = Command::new(guests::wasmop()?);
    command.arg("build").arg(&project).arg("--output").arg(&package).env("CARGO_TARGET_DIR", guests::cargo_target()?);
    cargo_variables::remove(&mut command);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`wasmop build` failed:\n{said}");
    ensure!(said.contains("it runs its own loop with kube"), "{said}");
    Ok(package)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("an entry has a name")?);
        if path.is_file() {
            std::fs::copy(&path, to)?;
        } else if !path.ends_with("target") {
            copy(&path, &to)?;
        }
    }
    Ok(())
}

async fn create_crd(cluster: &TestCluster, source: &Path) -> Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let text = std::fs::read_to_string(source.join("yaml/crd.yaml"))?;
    let crd: CustomResourceDefinition = serde_norway::from_str(&text).context("reading crd.yaml")?;
    let name = crd.metadata.name.clone().context("a definition has a name")?;
    crds.create(&PostParams::default(), &crd).await?;
    let established = kube::runtime::conditions::is_crd_established();
    tokio::time::timeout(TIMEOUT, kube::runtime::wait::await_condition(crds, &name, established)).await??;
    Ok(())
}

async fn until(what: &str, reached: impl AsyncFn() -> bool) -> Result<()> {
    let wait = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.with_context(|| format!("still missing: {what}"))
}
