//! What shared and filtered watches save: derived watches, and changes that a controller made itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use wasmop_e2e::probe::{self, Probe};
use wasmop_e2e::rows::Rows;
use wasmop_e2e::wat_guest::Code;
use wasmop_e2e::{guests, process, test_cluster};
use wasmop_package::manifest::Limits;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};

use crate::measured_host::MeasuredHost;

/// Namespaces, each with a controller of its own ConfigMaps.
const TEAMS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// A host that made no step for this long has nothing left to do.
const QUIET: Duration = Duration::from_secs(3);

/// Of all controllers.
const COUNTERS: [&str; 3] =
    ["controller_runtime_reconcile_total", "wasmop_resumes_total", "rest_client_requests_total"];

pub fn run(quick: bool, rows: &mut Rows) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::Builder::new().prefix("wasmop-bench-").tempdir()?;
    let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
    let plane = ControlPlane::start(&binaries, &dir.path().join("cluster"), Lifetime::Owned)?;
    runtime.block_on(async {
        let client = test_cluster::client(&plane.kubeconfig).await?;
        let bench = Bench { client, plane: &plane, dir: dir.path(), quick };
        bench.derived(rows).await.context("derived watches")?;
        bench.own_writes(rows).await.context("own writes")
    })
}

struct Bench<'a> {
    client: Client,
    plane: &'a ControlPlane,
    dir: &'a Path,
    quick: bool,
}

impl Bench<'_> {
    /// A controller of all ConfigMaps, controllers of one namespace each, and both in one host.
    async fn derived(&self, rows: &mut Rows) -> Result<()> {
        let maps_per_team = if self.quick { 10 } else { 100 };
        for team in 0..TEAMS {
            let name = Some(format!("team-{team}"));
            let namespace =
                Namespace { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..Namespace::default() };
            Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
            for number in 0..maps_per_team {
                let metadata = ObjectMeta { name: Some(format!("map-{number}")), ..ObjectMeta::default() };
                let data = Some([("data".to_owned(), "x".repeat(1024))].into());
                let map = ConfigMap { metadata, data, ..ConfigMap::default() };
                let maps = Api::namespaced(self.client.clone(), &format!("team-{team}"));
                maps.create(&PostParams::default(), &map).await?;
            }
        }
        let wide = vec![self.package("all-maps", "")?];
        let narrow = (0..TEAMS)
            .map(|team| self.package(&format!("maps-{team}"), &format!(r#""namespace":"team-{team}","#)))
            .collect::<Result<Vec<_>>>()?;
        let both = [&wide[..], &narrow].concat();
        let without = self.open_watches().await?;
        for (variant, controllers) in [("wide", wide), ("namespaced", narrow), ("both", both)] {
            eprintln!("{variant}");
            let host = self.host(variant, &controllers, &["--suspend-policy", "immediate"])?;
            settled(&host).await?;
            let at = (Some((TEAMS * maps_per_team) as u64), None);
            rows.push(variant, at, "open_watches", "", self.open_watches().await? - without);
            rows.push(variant, at, "host_pss", "bytes", host.memory()?.pss as f64);
            let (host_before, server_before) = (host.cpu_time()?, self.server_cpu()?);
            let changes = self.change_maps(if self.quick { 1 } else { 50 }).await?;
            settled(&host).await?;
            let per_change = |cpu: Duration| cpu.as_secs_f64() * 1e6 / changes as f64;
            rows.push(variant, at, "host_cpu", "µs/change", per_change(host.cpu_time()? - host_before));
            rows.push(variant, at, "server_cpu", "µs/change", per_change(self.server_cpu()? - server_before));
            host.stop()?;
        }
        Ok(())
    }

    /// Changes one ConfigMap in each namespace, again and again, and returns how many changes these are.
    async fn change_maps(&self, rounds: usize) -> Result<usize> {
        for round in 0..rounds {
            for team in 0..TEAMS {
                let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &format!("team-{team}"));
                let stamp = format!("{round} {:?}", std::time::SystemTime::now());
                let patch = json!({ "data": { "round": stamp } });
                maps.patch("map-0", &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        Ok(rounds * TEAMS)
    }

    /// Watches of ConfigMaps at the API server.
    async fn open_watches(&self) -> Result<f64> {
        let text = self.client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let lines = text.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{"));
        let watches =
            lines.filter(|line| line.contains(r#"resource="configmaps""#) && line.contains(r#"verb="WATCH""#));
        Ok(watches.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// The processor time of the control plane.
    fn server_cpu(&self) -> Result<Duration> {
        self.plane.process_ids().into_iter().map(process::cpu_time).sum()
    }

    /// A controller of whole ConfigMaps in a few hundred bytes of code.
    fn package(&self, name: &str, scope: &str) -> Result<(String, PathBuf)> {
        let spec = format!(
            r#"{{"name":"maps",{scope}"primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps","cached":true}}}}"#
        );
        let code = Code { spec: Some(spec), reconcile: "(call $finish (local.get $task))", ..Code::default() };
        let path = self.dir.join(format!("{name}.wasm"));
        fs::write(&path, code.package(name, Limits::default())?.bytes())?;
        Ok((name.to_owned(), path))
    }

    /// The same controller, with its own writes left out and not.
    async fn own_writes(&self, rows: &mut Rows) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let crd = serde_norway::from_str(include_str!("../../e2e/guests/probe-crd.yaml"))?;
        crds.create(&PostParams::default(), &crd).await?;
        let established = kube::runtime::conditions::is_crd_established();
        kube::runtime::wait::await_condition(crds, "probes.e2e.wasmop.dev", established).await?;
        let guest = guests::build("rust", self.dir)?;
        let (objects, rounds): (u32, u32) = if self.quick { (5, 2) } else { (20, 20) };
        let probes = Api::<Probe>::namespaced(self.client.clone(), "default");
        for number in 0..objects {
            let mut probe = Probe::new(&format!("own-{number}"), probe::spec("child", "first"));
            probe.metadata.labels = Some([("guest".to_owned(), guest.name.to_owned())].into());
            probes.create(&PostParams::default(), &probe).await?;
        }
        let changes = f64::from(objects * rounds);
        let at = (Some(objects.into()), None);
        for (variant, args) in [("left-out", &[][..]), ("seen", &["--env", "SEE_OWN_WRITES=yes"][..])] {
            eprintln!("own writes {variant}");
            let args = [&["--suspend-policy", "immediate"], args].concat();
            let host = self.host(variant, &[(guest.name.to_owned(), guest.package.clone())], &args)?;
            settled(&host).await?;
            let before = host.metrics(COUNTERS).await?;
            let cpu_before = host.cpu_time()?;
            for round in 0..rounds {
                for number in 0..objects {
                    let patch = json!({ "spec": { "value": format!("{variant} {round}") } });
                    let name = format!("own-{number}");
                    probes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
                    wait_until_current(&probes, &name).await?;
                }
            }
            settled(&host).await?;
            let after = host.metrics(COUNTERS).await?;
            let cpu = host.cpu_time()? - cpu_before;
            for (number, metric) in ["reconciles", "resumes", "requests"].into_iter().enumerate() {
                rows.push(variant, at, metric, "per change", (after[number] - before[number]) / changes);
            }
            rows.push(variant, at, "host_cpu", "µs/change", cpu.as_secs_f64() * 1e6 / changes);
            host.stop()?;
        }
        Ok(())
    }

    fn host(&self, variant: &str, controllers: &[(String, PathBuf)], args: &[&str]) -> Result<MeasuredHost> {
        let controllers: Vec<(&str, &Path)> = controllers.iter().map(|(name, path)| (&**name, &**path)).collect();
        MeasuredHost::start((self.dir, variant), &self.plane.kubeconfig, &controllers, args)
    }
}

/// Waits until the status belongs to the spec.
async fn wait_until_current(probes: &Api<Probe>, name: &str) -> Result<()> {
    let begun = Instant::now();
    while !probes.get(name).await?.is_current() {
        ensure!(begun.elapsed() < PATIENCE, "{name} is not reconciled after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Waits until the host makes no more steps.
async fn settled(host: &MeasuredHost) -> Result<()> {
    let begun = Instant::now();
    let steps = async || host.metrics(["wasmop_steps_total"]).await;
    let (mut before, mut since) = (steps().await?, Instant::now());
    while since.elapsed() < QUIET {
        ensure!(begun.elapsed() < PATIENCE, "the host still makes steps after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let next = steps().await?;
        if next != before {
            (before, since) = (next, Instant::now());
        }
    }
    Ok(())
}
