//! Operators that exist, as packages and natively: build time, reaction, memory, and what they do while nothing changes.
//!
//! All variants run on one control plane, in turn in each round, so that noise meets all of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use wasmop_e2e::operators::Project;
use wasmop_e2e::rows::{Rows, percentile};
use wasmop_e2e::{guests, process, test_cluster};
use wasmop_testbed::cargo_variables;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};
use wasmop_testbed::log::Record;

use crate::measured_host::MeasuredHost;

/// An operator in `e2e/operators` that makes a ConfigMap for each of its objects.
struct Subject {
    variant: &'static str,
    folder: &'static str,
    /// A source file; a change to it makes a build necessary.
    source: &'static str,
    gvk: (&'static str, &'static str, &'static str),
    /// Arguments of the native program, beside those of the package.
    native_args: &'static [&'static str],
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        variant: "rust",
        folder: "rust-kube",
        source: "src/main.rs",
        gvk: ("operators.wasmop.dev", "v1", "Banner"),
        native_args: &[],
    },
    Subject {
        variant: "go",
        folder: "go-kubebuilder",
        source: "cmd/main.go",
        gvk: ("greeter.example.com", "v1", "Greeting"),
        native_args: &["--leader-elect=false", "--health-probe-bind-address=0"],
    },
];

const NAMESPACE: &str = "default";
/// The deadline for one event. The host may compile the package before.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two objects, so that each meets an idle operator.
const PAUSE: Duration = Duration::from_millis(400);
/// From the last object to the measurement of memory: collectors run, and allocators return memory.
const SETTLE: Duration = Duration::from_secs(10);
const SUSPEND_AFTER: Duration = Duration::from_millis(150);

pub fn run(variants: &[String], quick: bool, rows: &mut Rows) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for subject in &SUBJECTS {
        if variants.is_empty() || variants.iter().any(|wanted| wanted == subject.variant) {
            runtime.block_on(measure(subject, quick, rows)).with_context(|| subject.folder)?;
        }
    }
    Ok(())
}

async fn measure(subject: &Subject, quick: bool, rows: &mut Rows) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("wasmop-bench-").tempdir()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/operators").join(subject.folder);
    let copy = dir.path().join(subject.folder);
    copy_project(&source, &copy)?;
    eprintln!("building {} (minutes the first time)", subject.folder);
    let project = Project::build(&copy, None)?;
    let program = project.build_natively(true)?;
    rows.push(subject.variant, NONE, "package_bytes", "bytes", project.package_bytes as f64);
    build_times(subject, &project, if quick { 1 } else { 5 }, rows)?;
    eprintln!("{}: {}", subject.folder, project.mode().name());

    let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
    let plane = ControlPlane::start(&binaries, &dir.path().join("cluster"), Lifetime::Owned)?;
    let cluster = Cluster::new(&plane.kubeconfig, subject, &project).await?;
    let mut found = Found::default();
    let (rounds, objects) = if quick { (1, 5) } else { (4, 25) };
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", subject.folder, round + 1);
        let log = dir.path().join(format!("native-{round}.log"));
        found.natively(&cluster, subject, &project, &program, &log, objects).await?;
        found.resident(&cluster, &project, dir.path(), objects, quick).await?;
        found.suspended(&cluster, &project, dir.path(), objects).await?;
    }
    plane.stop()?;
    found.push(subject.variant, rows);
    Ok(())
}

const NONE: (Option<u64>, Option<u64>) = (None, None);

/// The samples of all rounds.
#[derive(Default)]
struct Found {
    native_reaction: Vec<f64>,
    resident_reaction: Vec<f64>,
    suspended_reaction: Vec<f64>,
    native_anonymous: Vec<f64>,
    native_pss: Vec<f64>,
    resident_anonymous: Vec<f64>,
    suspended_anonymous: Vec<f64>,
    resume: Vec<f64>,
    resume_and_step: Vec<f64>,
    suspended_ram: Vec<f64>,
    idle_steps_per_hour: Vec<f64>,
}

impl Found {
    async fn natively(
        &mut self,
        cluster: &Cluster<'_>,
        subject: &Subject,
        project: &Project,
        program: &Path,
        log: &Path,
        objects: usize,
    ) -> Result<()> {
        let file = fs::File::create(log)?;
        let mut command = Command::new(program);
        command.args(&project.manifest.args).args(subject.native_args).envs(&project.manifest.env);
        command.env("KUBECONFIG", cluster.kubeconfig).current_dir(&project.dir);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut native = Killed(command.spawn().with_context(|| format!("starting {}", program.display()))?);
        let result = cluster.reactions(objects, async || Ok(())).await;
        self.native_reaction.extend(result.with_context(|| format!("the native program; its log: {}", tail(log)))?);
        tokio::time::sleep(SETTLE).await;
        let memory = process::memory(native.0.id())?;
        self.native_anonymous.push(memory.anonymous as f64);
        self.native_pss.push(memory.pss as f64);
        cluster.clean().await?;
        ensure!(native.0.try_wait()?.is_none(), "the native program ended:\n{}", tail(log));
        Ok(())
    }

    async fn resident(
        &mut self,
        cluster: &Cluster<'_>,
        project: &Project,
        dir: &Path,
        objects: usize,
        quick: bool,
    ) -> Result<()> {
        let host = start_host(cluster, project, dir, &["--suspend-policy", "never"])?;
        self.resident_reaction.extend(cluster.reactions(objects, async || Ok(())).await?);
        tokio::time::sleep(SETTLE).await;
        self.resident_anonymous.push(host.memory()?.anonymous as f64);
        let idle = Duration::from_secs(if quick { 10 } else { 60 });
        let [before] = host.metrics(["wasmop_steps_total"]).await?;
        tokio::time::sleep(idle).await;
        let [after] = host.metrics(["wasmop_steps_total"]).await?;
        self.idle_steps_per_hour.push((after - before) * 3600.0 / idle.as_secs_f64());
        cluster.clean().await?;
        host.stop()
    }

    async fn suspended(&mut self, cluster: &Cluster<'_>, project: &Project, dir: &Path, objects: usize) -> Result<()> {
        let after = format!("{}ms", SUSPEND_AFTER.as_millis());
        let mut host = start_host(cluster, project, dir, &["--suspend-after", &after])?;
        // The first object pays for what only a first one needs.
        cluster.reactions(1, async || Ok(())).await?;
        is_suspended(&mut host, &project.name).await?;
        let from = host.log().position()?;
        let reactions = cluster.reactions(objects, async || is_suspended(&mut host, &project.name).await).await?;
        self.suspended_reaction.extend(reactions);
        tokio::time::sleep(SETTLE).await;
        self.suspended_anonymous.push(host.memory()?.anonymous as f64);
        for record in host.log().records()?.iter().skip(from) {
            if record.is("resumed", &project.name) {
                let resume = record.number("resume_us").context("no resume_us")?;
                self.resume.push(resume);
                self.resume_and_step.push(resume + record.number("step_us").context("no step_us")?);
            } else if record.is("suspended", &project.name) {
                self.suspended_ram.push(record.number("ram_bytes").context("no ram_bytes")?);
            }
        }
        cluster.clean().await?;
        host.stop()
    }

    fn push(mut self, variant: &str, rows: &mut Rows) {
        let mut median = |samples: &mut Vec<f64>, metric: &str, unit: &'static str| {
            samples.sort_by(f64::total_cmp);
            let value = percentile(samples, 50);
            rows.push(variant, NONE, metric, unit, value);
            value
        };
        let native = median(&mut self.native_reaction, "reaction_native_p50", "ms");
        let resident = median(&mut self.resident_reaction, "reaction_resident_p50", "ms");
        let suspended = median(&mut self.suspended_reaction, "reaction_suspended_p50", "ms");
        median(&mut self.resume, "resume_p50", "µs");
        median(&mut self.resume_and_step, "resume_first_step_p50", "µs");
        median(&mut self.suspended_ram, "suspended_ram", "bytes");
        median(&mut self.idle_steps_per_hour, "idle_steps_per_hour", "");
        let native_memory = median(&mut self.native_anonymous, "native_anonymous", "bytes");
        median(&mut self.native_pss, "native_pss", "bytes");
        let with = median(&mut self.resident_anonymous, "host_resident_anonymous", "bytes");
        let without = median(&mut self.suspended_anonymous, "host_suspended_anonymous", "bytes");
        let mut ratio = |metric: &str, value: f64| rows.push(variant, NONE, metric, "ratio", value);
        ratio("reaction_resident_ratio", resident / native);
        ratio("reaction_suspended_ratio", suspended / native);
        ratio("active_anonymous_ratio", (with - without) / native_memory);
    }
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host with the package. Compiled code is kept between two hosts, but not what the controller knows.
fn start_host(cluster: &Cluster<'_>, project: &Project, dir: &Path, args: &[&str]) -> Result<MeasuredHost> {
    for known in ["controllers", "watches"] {
        let known = dir.join("host-state").join(known);
        if known.exists() {
            fs::remove_dir_all(&known).with_context(|| format!("removing {}", known.display()))?;
        }
    }
    MeasuredHost::start((dir, "host"), cluster.kubeconfig, &[(&project.name, &project.package)], args)
}

/// Waits until the controller is suspended, and nothing resumes it for a moment.
async fn is_suspended(host: &mut MeasuredHost, name: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let about = |record: &&Record| record.is("suspended", name) || record.is("resumed", name);
        let records = host.log().records()?;
        let count = records.len();
        let is_suspended = records.iter().rev().find(about).is_some_and(|last| last.message() == "suspended");
        tokio::time::sleep(SUSPEND_AFTER).await;
        if is_suspended && host.log().position()? == count {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{name} is not suspended:\n{}", host.log().tail(10));
    }
}

/// The cluster and the operator's objects in it.
struct Cluster<'a> {
    kubeconfig: &'a Path,
    client: Client,
    objects: Api<DynamicObject>,
    kind: ApiResource,
}

impl<'a> Cluster<'a> {
    async fn new(kubeconfig: &'a Path, subject: &Subject, project: &Project) -> Result<Cluster<'a>> {
        let client = test_cluster::client(kubeconfig).await?;
        let crds = Api::all(client.clone());
        for crd in &project.manifest.crds {
            let crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
                serde_norway::from_str(crd).context("reading a CRD")?;
            let name = crd.metadata.name.clone().unwrap_or_default();
            crds.create(&PostParams::default(), &crd).await?;
            let established = kube::runtime::conditions::is_crd_established();
            kube::runtime::wait::await_condition(crds.clone(), &name, established).await?;
        }
        let (group, version, kind) = subject.gvk;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let objects = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
        Ok(Cluster { kubeconfig, client, objects, kind })
    }

    /// Creates objects one after the other, and returns for each the time until its ConfigMap exists, in milliseconds,
    /// sorted. `idle` waits until the operator is ready for the next.
    async fn reactions(&self, count: usize, mut idle: impl AsyncFnMut() -> Result<()>) -> Result<Vec<f64>> {
        let (sender, mut children) = mpsc::unbounded_channel();
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), NAMESPACE);
        let version = maps.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
        let version = version.context("a list without version")?;
        let watching = tokio::spawn(async move {
            let events = maps.watch(&WatchParams::default(), &version).await?;
            pin_mut!(events);
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(map) = event? {
                    let seen = Instant::now();
                    let owners = map.metadata.owner_references.unwrap_or_default();
                    owners.into_iter().for_each(|owner| drop(sender.send((owner.uid, seen))));
                }
            }
            Ok::<(), anyhow::Error>(())
        });
        let mut times = Vec::new();
        let mut seen = HashMap::new();
        for number in 0..count {
            let object: DynamicObject = serde_json::from_value(json!({
                "apiVersion": self.kind.api_version, "kind": self.kind.kind,
                "metadata": { "generateName": "bench-" }, "spec": { "text": format!("text {number}") },
            }))?;
            let begun = Instant::now();
            let made = self.objects.create(&PostParams::default(), &object).await?;
            let uid = made.metadata.uid.context("an object without UID")?;
            while !seen.contains_key(&uid) {
                match tokio::time::timeout(PATIENCE, children.recv()).await {
                    Ok(Some((owner, at))) => drop(seen.insert(owner, at)),
                    Ok(None) => bail!("the watch of ConfigMaps ended"),
                    Err(_) => bail!("no ConfigMap after {PATIENCE:?}"),
                }
            }
            times.push(seen[&uid].duration_since(begun).as_secs_f64() * 1e3);
            tokio::time::sleep(PAUSE).await;
            idle().await?;
        }
        watching.abort();
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Deletes all objects, and waits until the operator has let go of them.
    async fn clean(&self) -> Result<()> {
        self.objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let begun = Instant::now();
        while !self.objects.list(&ListParams::default()).await?.items.is_empty() {
            ensure!(begun.elapsed() < PATIENCE, "objects still exist after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// Measures builds after a change of one source file.
fn build_times(subject: &Subject, project: &Project, rounds: u32, rows: &mut Rows) -> Result<()> {
    let file = project.dir.join(subject.source);
    let source = fs::read_to_string(&file)?;
    let (mut native, mut packaged) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each build meets a source that it has not seen.
        fs::write(&file, format!("{source}\n// {round} {}\n", std::process::id()))?;
        let begun = Instant::now();
        project.build_natively(true)?;
        native.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let mut build = Command::new(guests::wasmop()?);
        build.arg("build").current_dir(&project.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        cargo_variables::remove(&mut build);
        ensure!(build.status()?.success(), "`wasmop build` failed in {}", project.dir.display());
        packaged.push(begun.elapsed().as_secs_f64());
    }
    let mut ratios: Vec<f64> = packaged.iter().zip(&native).map(|(packaged, native)| packaged / native).collect();
    for samples in [&mut native, &mut packaged, &mut ratios] {
        samples.sort_by(f64::total_cmp);
    }
    rows.push(subject.variant, NONE, "build_native_p50", "s", percentile(&native, 50));
    rows.push(subject.variant, NONE, "build_package_p50", "s", percentile(&packaged, 50));
    rows.push(subject.variant, NONE, "build_ratio_p50", "ratio", percentile(&ratios, 50));
    Ok(())
}

/// Copies the files of a project, without what was built.
fn copy_project(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let copy: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                copy_project(&entry.path(), &copy)?;
            }
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
