//! The kube-rs operator in `e2e/operators/rust-kube`: host-driven, and guest-driven because it reads its `Controller`'s
//! store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::json;
use wasmop_e2e::guests;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_testbed::cargo_variables;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;

const COLUMN: &str = super::COLUMN;
const NAME: &str = "banner";
const NAMESPACE: &str = "default";
const CRD: &str = include_str!("../../operators/rust-kube/yaml/crd.yaml");
/// Modes of the operator, and the reasons for them.
const HOST_DRIVEN: (&str, Option<&str>) = ("host-driven", None);
const GUEST_DRIVEN: (&str, Option<&str>) = ("guest-driven", Some("the program calls Controller::store"));
const GUEST_DRIVEN_BY_CHOICE: (&str, Option<&str>) = ("guest-driven", Some("the project asks for it"));
/// The deadline for the first suspend. The host compiles the package before.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Idle hosts are watched for this long.
const IDLE: Duration = Duration::from_secs(20);

/// Builds and runs the operator in both modes.
pub async fn run(part: &Part, cluster: &TestCluster) -> Result<()> {
    create_crd(cluster).await?;
    let package = cluster.dir().join("forced.wasm");
    let forced = build(&package, &["--mode", "guest-driven"], GUEST_DRIVEN_BY_CHOICE);
    part.row("Rust: a project may ask for the guest-driven mode", COLUMN, forced).await;
    part.row("Rust: it may not ask for a mode that cannot be", COLUMN, refuses_to_be_host_driven(cluster)).await;
    let fallback: [&str; 2] = ["--features", "store"];
    for (mode, flags, expected) in [("host-driven", &[][..], HOST_DRIVEN), ("guest-driven", &fallback, GUEST_DRIVEN)] {
        let package = cluster.dir().join(format!("{mode}.wasm"));
        let row = |what: &str| format!("Rust, {mode}: {what}");
        let built = build(&package, flags, expected);
        part.step(&row("an unmodified program builds, and its files stay as they are"), COLUMN, built).await;
        if part.has_failures() {
            return Ok(());
        }
        let mut operator = Operator::start(cluster, cluster.host_options(mode, vec![package])?)?;
        let creates = operator.creates();
        part.step(&row("it reconciles a new object, with a finalizer and a status"), COLUMN, creates).await;
        part.row(&row("it is suspended, and resumes for a change"), COLUMN, operator.resumes_for_a_change()).await;
        part.row(&row("it repairs an owned object that somebody changed"), COLUMN, operator.repairs()).await;
        part.row(&row("it requeues while it is suspended"), COLUMN, operator.requeues()).await;
        part.row(&row("it stays suspended without a reason to resume"), COLUMN, operator.stays_suspended()).await;
        part.row(&row("it continues after a kill of the host"), COLUMN, operator.continues_after_a_kill()).await;
        part.row(&row("it cleans up a deleted object"), COLUMN, operator.cleans_up()).await;
    }
    Ok(())
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("operators/rust-kube")
}

/// The files of the project, without those below `target`.
fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut next = vec![source()];
    while let Some(dir) = next.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                next.push(path);
            } else if path.is_file() {
                files.insert(path.clone(), std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

/// Builds the operator, without changes to its project, and checks its mode and the reason for it.
async fn build(package: &Path, flags: &[&str], expected: (&str, Option<&str>)) -> Result<()> {
    let before = files()?;
    let output = wasmop_build(package, flags)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`wasmop build` failed:\n{said}");
    ensure!(files()? == before, "the build changed files of the project");
    let package: serde_json::Value = serde_json::from_slice(&output.stdout).context("the output of `wasmop build`")?;
    let found = (package["mode"].as_str().unwrap_or_default(), package["modeReason"].as_str());
    ensure!(found == expected, "it is {found:?}, not {expected:?}:\n{said}");
    Ok(())
}

async fn refuses_to_be_host_driven(cluster: &TestCluster) -> Result<()> {
    let package = cluster.dir().join("refused.wasm");
    let output = wasmop_build(&package, &["--mode", "host-driven", "--features", "store"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && !package.exists(), "it was built:\n{said}");
    ensure!(said.contains("cannot be host-driven: the program calls Controller::store"), "{said}");
    Ok(())
}

fn wasmop_build(package: &Path, flags: &[&str]) -> Result<Output> {
    let mut command = Command::new(guests::wasmop()?);
    command.args(["build", "--json"]).args(flags).arg("--output").arg(package).arg(source());
    command.env("CARGO_TARGET_DIR", guests::cargo_target()?);
    cargo_variables::remove(&mut command);
    Ok(tokio::task::block_in_place(|| command.output())?)
}

async fn create_crd(cluster: &TestCluster) -> Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let crd: CustomResourceDefinition = serde_norway::from_str(CRD).context("reading crd.yaml")?;
    crds.create(&PostParams::default(), &crd).await?;
    let established = kube::runtime::conditions::is_crd_established();
    let name = "banners.operators.wasmop.dev";
    tokio::time::timeout(TIMEOUT, kube::runtime::wait::await_condition(crds, name, established)).await??;
    Ok(())
}

/// The running operator and its objects.
struct Operator {
    options: HostOptions,
    host: Host,
    banners: Api<DynamicObject>,
    config_maps: Api<ConfigMap>,
}

impl Operator {
    fn start(cluster: &TestCluster, options: HostOptions) -> Result<Operator> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("operators.wasmop.dev", "v1", "Banner"));
        let mut host = Host::spawn(&options)?;
        // It has listed its objects and waits for changes.
        let suspended = |record: &Record| record.is("suspended", NAME);
        tokio::task::block_in_place(|| host.log.wait_for(0, START_TIMEOUT, "first suspend", suspended))?;
        Ok(Operator {
            options,
            host,
            banners: Api::namespaced_with(cluster.client.clone(), NAMESPACE, &kind),
            config_maps: Api::namespaced(cluster.client.clone(), NAMESPACE),
        })
    }

    async fn apply(&self, name: &str, spec: serde_json::Value) -> Result<()> {
        let banner = json!({
            "apiVersion": "operators.wasmop.dev/v1", "kind": "Banner", "metadata": { "name": name }, "spec": spec,
        });
        self.banners.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&banner)).await?;
        Ok(())
    }

    /// Waits until the ConfigMap of a banner has this text.
    async fn until_text(&self, name: &str, expected: &str) -> Result<()> {
        let name = format!("banner-{name}");
        let reached = async {
            loop {
                let found = self.config_maps.get_opt(&name).await?;
                let text = found.and_then(|found| found.data).and_then(|mut data| data.remove("text"));
                if text.as_deref() == Some(expected) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached).await.with_context(|| format!("{name} is not {expected:?}"))?
    }

    async fn draws(&self, name: &str) -> Result<u64> {
        let banner = self.banners.get(name).await?;
        Ok(banner.data["status"]["draws"].as_u64().unwrap_or_default())
    }

    fn wait_for(&mut self, position: usize, message: &str) -> Result<()> {
        let wanted = |record: &Record| record.is(message, NAME);
        tokio::task::block_in_place(|| self.host.log.wait_for(position, TIMEOUT, message, wanted)).map(drop)
    }

    fn count(&mut self, position: usize, message: &str) -> Result<usize> {
        Ok(self.host.log.records()?.iter().skip(position).filter(|record| record.is(message, NAME)).count())
    }

    async fn creates(&mut self) -> Result<()> {
        self.apply("first", json!({ "text": "hello", "repeat": 2 })).await?;
        self.until_text("first", "hello\nhello").await?;
        let settled = async {
            while self.draws("first").await? == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(TIMEOUT, settled).await.context("there is no status")??;
        let banner = self.banners.get("first").await?;
        ensure!(banner.metadata.finalizers.is_some_and(|finalizers| !finalizers.is_empty()), "there is no finalizer");
        Ok(())
    }

    async fn resumes_for_a_change(&mut self) -> Result<()> {
        for round in 0..5 {
            let text = format!("round {round}");
            let position = self.suspended().await?;
            self.apply("first", json!({ "text": text })).await?;
            self.until_text("first", &text).await?;
            self.wait_for(position, "resumed")?;
        }
        Ok(())
    }

    /// Waits until the operator is suspended and stays so for a moment. Returns the position in the log.
    async fn suspended(&mut self) -> Result<usize> {
        let reached = async {
            loop {
                let position = self.host.log.position()?;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                let last = self.host.log.records()?.iter().rev().find(|record| {
                    ["resumed", "suspended"].contains(&record.message()) && record.text("controller") == NAME
                });
                let is_suspended = last.is_some_and(|record| record.message() == "suspended");
                if is_suspended && self.count(position, "resumed")? == 0 {
                    return self.host.log.position();
                }
            }
        };
        tokio::time::timeout(TIMEOUT, reached).await.context("the operator is not suspended")?
    }

    async fn repairs(&mut self) -> Result<()> {
        self.apply("first", json!({ "text": "mine" })).await?;
        self.until_text("first", "mine").await?;
        self.suspended().await?;
        let edit = json!({ "data": { "text": "theirs" } });
        self.config_maps.patch("banner-first", &PatchParams::default(), &Patch::Merge(&edit)).await?;
        self.until_text("first", "mine").await?;
        self.suspended().await?;
        self.config_maps.delete("banner-first", &DeleteParams::default()).await?;
        self.until_text("first", "mine").await
    }

    async fn requeues(&mut self) -> Result<()> {
        self.apply("clock", json!({ "text": "tick", "refreshSeconds": 3 })).await?;
        self.until_text("clock", "tick").await?;
        let position = self.host.log.position()?;
        let before = self.draws("clock").await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after = self.draws("clock").await?;
        ensure!((2..=8).contains(&(after - before)), "{} draws in 10 s", after - before);
        ensure!(self.count(position, "suspended")? >= 2, "it was not suspended between draws");
        self.banners.delete("clock", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn stays_suspended(&mut self) -> Result<()> {
        let position = self.suspended().await?;
        tokio::time::sleep(IDLE).await;
        let resumes = self.count(position, "resumed")?;
        ensure!(resumes <= 1, "{resumes} resumes in {IDLE:?}");
        Ok(())
    }

    async fn continues_after_a_kill(&mut self) -> Result<()> {
        self.apply("first", json!({ "text": "before" })).await?;
        self.until_text("first", "before").await?;
        self.suspended().await?;
        let draws = self.draws("first").await?;
        self.host.kill()?;
        self.apply("first", json!({ "text": "while it was down" })).await?;
        let mut options = self.options.clone();
        options.log.set_extension("second.log");
        self.host = Host::spawn(&options)?;
        self.until_text("first", "while it was down").await?;
        self.apply("first", json!({ "text": "after" })).await?;
        self.until_text("first", "after").await?;
        let settled = self.suspended().await?;
        let now = self.draws("first").await?;
        if now <= draws {
            bail!("the count went from {draws} to {now}: its memory was lost");
        }
        let errors = self.host.log.records()?.iter().take(settled).filter(|record| record.text("level") == "ERROR");
        ensure!(errors.count() == 0, "errors in {}", self.host.log.path().display());
        Ok(())
    }

    async fn cleans_up(&mut self) -> Result<()> {
        self.suspended().await?;
        self.banners.delete("first", &DeleteParams::default()).await?;
        let gone = async {
            while self.banners.get_opt("first").await?.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(TIMEOUT, gone).await.context("the finalizer is still there")?
    }
}
