//! Memory and disk space of N suspended controllers, in a separate host process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wasmop_host::{Deployment, Options};
use wasmop_package::manifest::Manifest;
use wasmop_package::{Package, with_manifest};
use wasmop_policy::Policy;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};

use crate::guests::Variant;
use wasmop_e2e::child_host;
use wasmop_e2e::process;
use wasmop_e2e::rows::Rows;

#[derive(clap::Args)]
pub struct HostArgs {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    state_dir: PathBuf,
    #[arg(long)]
    n: usize,
    #[arg(long = "package")]
    packages: Vec<PathBuf>,
    /// Suspend nothing before the end
    #[arg(long)]
    resident: bool,
}

/// Runs `n` controllers, distributed evenly over the packages, until a signal arrives.
pub fn host(args: HostArgs) -> Result<()> {
    let packages = args
        .packages
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
            Ok(Arc::new(Package::parse(bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let controllers = (0..args.n)
        .map(|i| {
            let package = packages[i % packages.len()].clone();
            Deployment::new(format!("{}-{i}", package.manifest.name), package)
        })
        .collect();
    drop(packages);
    child_host::run(async {
        let sources = wasmop_api::connect::Sources::from_env(Some(args.kubeconfig), None);
        let cluster = wasmop_api::connect::load(&sources).await?;
        let policy = if args.resident { Policy::Never } else { Policy::After(Duration::from_secs(1)) };
        Ok(Options { policy, ..Options::new(controllers, cluster, args.state_dir) })
    })
}

/// One Probe for each guest, so that every controller reconciles something. All controllers of a guest compute the same
/// status, so only the first one writes it.
const PROBE: &str = r#"
apiVersion: e2e.wasmop.dev/v1
kind: Probe
metadata: {name: bench, namespace: default, labels: {guest: NAME}}
spec: {action: heap, count: 0}
"#;

pub fn run(variants: &[Variant], quick: bool, rows: &mut Rows) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
    let plane = ControlPlane::start(&binaries, &dir.path().join("cluster"), Lifetime::Owned)?;
    let apply = |yaml: &str| -> Result<()> {
        let file = dir.path().join("apply.yaml");
        std::fs::write(&file, yaml)?;
        let mut kubectl = binaries.kubectl();
        kubectl.arg("--kubeconfig").arg(&plane.kubeconfig).args(["apply", "-f"]).arg(&file).stdout(Stdio::null());
        if !kubectl.status()?.success() {
            bail!("kubectl apply failed");
        }
        Ok(())
    };
    apply(include_str!("../../e2e/guests/probe-crd.yaml"))?;
    let bench = Bench { kubeconfig: &plane.kubeconfig, quick };
    for Variant { name: variant, path } in variants {
        let name = Package::parse(std::fs::read(path)?)?.manifest.name;
        apply(&PROBE.replace("NAME", &name).replace("name: bench", &format!("name: bench-{variant}")))?;
        bench.measure(variant, std::slice::from_ref(path), &COUNTS, rows)?;
    }
    bench.measure("mixed", &mixed(variants, dir.path())?, &MIXED_COUNTS, rows)
}

const COUNTS: [usize; 3] = [1, 100, 1_000];
const MIXED_COUNTS: [usize; 3] = [100, 1_000, 10_000];
/// The largest count with `--quick`.
const QUICK: usize = 100;
const MIXED_PACKAGES: usize = 10;
/// Controllers that are all resident when the host stops. Address space and mappings of a process limit the number.
const RESIDENT: usize = 100;

/// Packages of all guests in turn. The host compiles each, and each has its own base image.
fn mixed(variants: &[Variant], dir: &Path) -> Result<Vec<PathBuf>> {
    let package = |n: usize| {
        let package = Package::parse(std::fs::read(&variants[n % variants.len()].path)?)?;
        let manifest = Manifest { version: format!("0.0.{n}"), ..package.manifest.clone() };
        let path = dir.join(format!("mixed-{n}.wasm"));
        std::fs::write(&path, with_manifest(package.bytes(), &manifest)?)?;
        Ok(path)
    };
    (0..MIXED_PACKAGES).map(package).collect()
}

struct Bench<'a> {
    kubeconfig: &'a Path,
    quick: bool,
}

impl Bench<'_> {
    fn measure(&self, variant: &str, packages: &[PathBuf], counts: &[usize], rows: &mut Rows) -> Result<()> {
        let mut before: Option<(usize, process::Memory)> = None;
        for &n in counts.iter().filter(|n| !self.quick || **n <= QUICK) {
            eprintln!("footprint: {variant}, {n} controllers");
            let dir = tempfile::tempdir()?;
            let start = |state_dir: &Path, resident| {
                let host = Measured { state_dir, packages, kubeconfig: self.kubeconfig, n, resident };
                host.start().with_context(|| format!("{variant}, n = {n}"))
            };
            // The first start compiles the packages, which fragments the allocator's memory while that process lives. The
            // second one shows what a host needs.
            start(dir.path(), false)?;
            let found = start(dir.path(), false)?;
            let at = (Some(n as u64), None);
            rows.push(variant, at, "pss", "bytes", found.memory.pss as f64);
            rows.push(variant, at, "anonymous", "bytes", found.memory.anonymous as f64);
            rows.push(variant, at, "disk_per_suspended", "bytes", found.disk_bytes as f64 / n as f64);
            rows.push(variant, at, "file_descriptors", "count", found.descriptors as f64);
            rows.push(variant, at, "memory_mappings", "count", found.mappings as f64);
            rows.push(variant, at, "start_again", "ms", found.start.as_secs_f64() * 1e3);
            rows.push(variant, at, "stop_all_suspended", "ms", found.stop.as_secs_f64() * 1e3);
            if n == RESIDENT {
                // In a new state directory: a start from snapshots resumes none of them.
                let found = start(tempfile::tempdir()?.path(), true)?;
                rows.push(variant, at, "suspend_all_at_sigterm", "ms", found.stop.as_secs_f64() * 1e3);
            }
            if let Some((fewer, less)) = before {
                let slope = (found.memory.pss as f64 - less.pss as f64) / (n - fewer) as f64;
                rows.push(variant, at, "ram_per_suspended", "bytes", slope);
                let slope = (found.memory.anonymous as f64 - less.anonymous as f64) / (n - fewer) as f64;
                rows.push(variant, at, "anonymous_per_suspended", "bytes", slope);
            }
            before = Some((n, found.memory));
        }
        Ok(())
    }
}

struct Found {
    memory: process::Memory,
    disk_bytes: u64,
    descriptors: u64,
    mappings: u64,
    /// From the start until all controllers are ready.
    start: Duration,
    /// From SIGTERM until the exit.
    stop: Duration,
}

/// The host keeps code loaded for ten seconds after the last suspend. Then it is at rest.
const SETTLE: Duration = Duration::from_secs(13);

/// A host to measure.
struct Measured<'a> {
    state_dir: &'a Path,
    packages: &'a [PathBuf],
    kubeconfig: &'a Path,
    n: usize,
    resident: bool,
}

impl Measured<'_> {
    fn start(&self) -> Result<Found> {
        let mut host = Command::new(std::env::current_exe()?);
        host.arg("footprint-host").args(["--n", &self.n.to_string()]);
        host.arg("--kubeconfig").arg(self.kubeconfig).arg("--state-dir").arg(self.state_dir);
        for package in self.packages {
            host.arg("--package").arg(package);
        }
        if self.resident {
            host.arg("--resident");
        }
        let started = Instant::now();
        let mut child = host.stdout(Stdio::piped()).spawn()?;
        let result = self.observe(&mut child, started);
        if result.is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
        result
    }

    fn observe(&self, child: &mut std::process::Child, started: Instant) -> Result<Found> {
        let n = self.n;
        let stdout = child.stdout.take().context("no stdout")?;
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        // Waits until all have reconciled, all are suspended, and the log is silent for a while.
        let mut disk = std::collections::BTreeMap::new();
        let mut resident = std::collections::BTreeSet::new();
        let mut ready = std::collections::BTreeSet::new();
        let mut start = Duration::ZERO;
        let limit = Instant::now() + Duration::from_secs(1200);
        loop {
            match rx.recv_timeout(SETTLE) {
                Ok(line) => {
                    let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                    let Some(controller) = event["controller"].as_str().map(String::from) else { continue };
                    if event["message"] == "controller ready" && ready.insert(controller.clone()) {
                        start = started.elapsed();
                    }
                    match event["message"].as_str() {
                        Some("suspended") => {
                            resident.remove(&controller);
                            disk.insert(controller, event["disk_bytes"].as_u64().unwrap_or(0));
                        }
                        // It starts suspended.
                        Some("controller ready") if event["from"] == "snapshot" => {
                            disk.insert(controller, event["disk_bytes"].as_u64().unwrap_or(0));
                        }
                        Some("resumed" | "controller ready") => {
                            resident.insert(controller);
                        }
                        _ => {}
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                    if ready.len() == n && (self.resident || (disk.len() == n && resident.is_empty())) =>
                {
                    break;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(error) => bail!("the host exited: {error}"),
            }
            if Instant::now() > limit {
                bail!("{} of {n} controllers were suspended in time", disk.len());
            }
        }
        let pid = child.id();
        let memory = process::memory(pid)?;
        let (descriptors, mappings) = process::descriptors_and_mappings(pid)?;
        let signalled = Instant::now();
        Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
        child.wait()?;
        Ok(Found { memory, disk_bytes: disk.values().sum(), descriptors, mappings, start, stop: signalled.elapsed() })
    }
}
