//! What shared and filtered watches save: derived watches, and changes that a controller made itself.

use std::fs;
use std::net::{SocketAddr, TcpListener};
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
use wasmop_e2e::{guests, in_process_host, process, test_cluster};
use wasmop_package::manifest::Limits;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};
use wasmop_testbed::host::{Host, HostOptions};

/// Namespaces, each with a controller of its own ConfigMaps.
const TEAMS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// A host that made no step for this long has nothing left to do.
const QUIET: Duration = Duration::from_secs(3);

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
        let wide = self.package("all-maps", "")?;
        let narrow = (0..TEAMS)
            .map(|team| self.package(&format!("maps-{team}"), &format!(r#""namespace":"team-{team}","#)))
            .collect::<Result<Vec<_>>>()?;
        let both: Vec<PathBuf> = std::iter::once(&wide).chain(&narrow).cloned().collect();
        let without = self.open_watches().await?;
        for (variant, packages) in [("wide", vec![wide]), ("namespaced", narrow), ("both", both)] {
            eprintln!("{variant}");
            let host = self.host(variant, packages, &["--suspend-policy", "immediate"])?;
            host.settled().await?;
            let at = (Some((TEAMS * maps_per_team) as u64), None);
            rows.push(variant, at, "open_watches", "", self.open_watches().await? - without);
            rows.push(variant, at, "host_pss", "bytes", process::memory(host.id()?)?.pss as f64);
            let (host_before, server_before) = (process::cpu_time(host.id()?)?, self.server_cpu()?);
            let changes = self.change_maps(if self.quick { 1 } else { 50 }).await?;
            host.settled().await?;
            let per_change = |cpu: Duration| cpu.as_secs_f64() * 1e6 / changes as f64;
            rows.push(variant, at, "host_cpu", "µs/change", per_change(process::cpu_time(host.id()?)? - host_before));
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
    fn package(&self, name: &str, scope: &str) -> Result<PathBuf> {
        let spec = format!(
            r#"{{"name":"maps",{scope}"primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps","cached":true}}}}"#
        );
        let code = Code { spec: Some(spec), reconcile: "(call $finish (local.get $task))", ..Code::default() };
        let path = self.dir.join(format!("{name}.wasm"));
        fs::write(&path, code.package(name, Limits::default())?.bytes())?;
        Ok(path)
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
            let host = self.host(variant, vec![guest.package.clone()], &args)?;
            host.settled().await?;
            let before = host.figures().await?;
            let cpu_before = process::cpu_time(host.id()?)?;
            for round in 0..rounds {
                for number in 0..objects {
                    let patch = json!({ "spec": { "value": format!("{variant} {round}") } });
                    let name = format!("own-{number}");
                    probes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
                    wait_until_current(&probes, &name).await?;
                }
            }
            host.settled().await?;
            let after = host.figures().await?;
            let cpu = process::cpu_time(host.id()?)? - cpu_before;
            for (metric, before, after) in [
                ("reconciles", before.reconciles, after.reconciles),
                ("resumes", before.resumes, after.resumes),
                ("requests", before.requests, after.requests),
            ] {
                rows.push(variant, at, metric, "per change", (after - before) / changes);
            }
            rows.push(variant, at, "host_cpu", "µs/change", cpu.as_secs_f64() * 1e6 / changes);
            host.stop()?;
        }
        Ok(())
    }

    fn host(&self, name: &str, packages: Vec<PathBuf>, args: &[&str]) -> Result<Running> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--metrics-address".into(), address.to_string()]);
        let names: Vec<String> =
            packages.iter().filter_map(|package| Some(package.file_stem()?.to_string_lossy().into_owned())).collect();
        let options = HostOptions {
            program: guests::wasmop()?,
            packages,
            kubeconfig: self.plane.kubeconfig.clone(),
            state_dir: self.dir.join(format!("{name}-state")),
            suspend_after: None,
            args,
            env: Vec::new(),
            log: self.dir.join(format!("{name}.log")),
            output: None,
            current_dir: None,
            lifetime: Lifetime::Owned,
        };
        let mut host = Host::spawn(&options)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        host.wait_ready(&names, PATIENCE)?;
        Ok(Running { host, address })
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

struct Running {
    host: Host,
    address: SocketAddr,
}

/// Counters of a host, of all controllers.
#[derive(Clone, Copy, PartialEq)]
struct Figures {
    steps: f64,
    reconciles: f64,
    resumes: f64,
    requests: f64,
}

impl Running {
    fn id(&self) -> Result<u32> {
        self.host.id().context("the host ended")
    }

    /// Waits until the host makes no more steps.
    async fn settled(&self) -> Result<()> {
        let begun = Instant::now();
        let (mut figures, mut since) = (self.figures().await?, Instant::now());
        while since.elapsed() < QUIET {
            ensure!(begun.elapsed() < PATIENCE, "the host still makes steps after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            let next = self.figures().await?;
            if next != figures {
                (figures, since) = (next, Instant::now());
            }
        }
        Ok(())
    }

    async fn figures(&self) -> Result<Figures> {
        let (status, text) = in_process_host::get(self.address, "/metrics").await?;
        ensure!(status == 200, "/metrics: {status} {text}");
        let sum = |name: &str| {
            let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok(Figures {
            steps: sum("wasmop_steps_total"),
            reconciles: sum("controller_runtime_reconcile_total"),
            resumes: sum("wasmop_resumes_total"),
            requests: sum("rest_client_requests_total"),
        })
    }

    fn stop(mut self) -> Result<()> {
        self.host.terminate()?;
        Ok(())
    }
}
