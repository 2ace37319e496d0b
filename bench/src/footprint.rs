//! Memory and disk of N suspended controllers, in a host process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wasmop_host::{Deployment, Options};
use wasmop_package::Package;
use wasmop_policy::Policy;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};

use crate::{Variant, process};
use wasmop_e2e::child_host;
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
}

/// Runs `n` controllers of the given packages, distributed evenly, until stopped.
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
        let sources = wasmop_host::connect::Sources::from_env(Some(args.kubeconfig), None);
        let cluster = wasmop_host::connect::load(&sources).await?;
        let policy = Policy::After(Duration::from_secs(1));
        Ok(Options { policy, ..Options::new(controllers, cluster, args.state_dir) })
    })
}

/// One Probe for each guest, so that every controller has reconciled something. Its status comes out
/// the same for all, so that they do not all write it.
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
    let kubeconfig = &plane.kubeconfig;
    let counts: &[usize] = if quick { &[1, 100] } else { &[1, 100, 1000] };
    for Variant { name: variant, path: package } in variants {
        let name = Package::parse(std::fs::read(package)?)?.manifest.name;
        apply(&PROBE.replace("NAME", &name).replace("name: bench", &format!("name: bench-{variant}")))?;
        let mut before: Option<(usize, process::Memory)> = None;
        for &n in counts {
            eprintln!("footprint: {variant}, {n} controllers");
            let found = measure(package, kubeconfig, n).with_context(|| format!("{variant}, n = {n}"))?;
            let at = (Some(n as u64), None);
            rows.push(variant, at, "pss", "bytes", found.memory.pss as f64);
            rows.push(variant, at, "anonymous", "bytes", found.memory.anonymous as f64);
            rows.push(variant, at, "disk_per_suspended", "bytes", found.disk_bytes as f64 / n as f64);
            rows.push(variant, at, "file_descriptors", "count", found.descriptors as f64);
            rows.push(variant, at, "memory_mappings", "count", found.mappings as f64);
            rows.push(variant, at, "suspend_all_at_sigterm", "ms", found.stop.as_secs_f64() * 1e3);
            if let Some((fewer, less)) = before {
                let slope = (found.memory.pss as f64 - less.pss as f64) / (n - fewer) as f64;
                rows.push(variant, at, "ram_per_suspended", "bytes", slope);
                let slope = (found.memory.anonymous as f64 - less.anonymous as f64) / (n - fewer) as f64;
                rows.push(variant, at, "anonymous_per_suspended", "bytes", slope);
            }
            before = Some((n, found.memory));
        }
    }
    Ok(())
}

struct Found {
    memory: process::Memory,
    disk_bytes: u64,
    descriptors: u64,
    mappings: u64,
    stop: Duration,
}

/// Code stays loaded for ten seconds after the last suspend; then the host is at rest.
const SETTLE: Duration = Duration::from_secs(13);

fn measure(package: &Path, kubeconfig: &Path, n: usize) -> Result<Found> {
    let dir = tempfile::tempdir()?;
    // The first start compiles the package, which leaves the allocator's memory in pieces for as
    // long as that process runs; what a host needs is seen at the next one.
    start(dir.path(), package, kubeconfig, n)?;
    start(dir.path(), package, kubeconfig, n)
}

fn start(state_dir: &Path, package: &Path, kubeconfig: &Path, n: usize) -> Result<Found> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("footprint-host")
        .args(["--n", &n.to_string()])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--state-dir")
        .arg(state_dir)
        .arg("--package")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()?;
    let result = observe(&mut child, n);
    if result.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    result
}

fn observe(child: &mut std::process::Child, n: usize) -> Result<Found> {
    let stdout = child.stdout.take().context("no stdout")?;
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if tx.send(line).is_err() {
                return;
            }
        }
    });
    // All have reconciled and been suspended, and nothing has happened for a while.
    let mut disk = std::collections::BTreeMap::new();
    let mut resident = std::collections::BTreeSet::new();
    let limit = Instant::now() + Duration::from_secs(600);
    loop {
        match rx.recv_timeout(SETTLE) {
            Ok(line) => {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let Some(controller) = event["controller"].as_str().map(String::from) else { continue };
                match event["message"].as_str() {
                    Some("suspended") => {
                        resident.remove(&controller);
                        disk.insert(controller, event["disk_bytes"].as_u64().unwrap_or(0));
                    }
                    // It has nothing to do.
                    Some("controller ready") if event["from"] == "snapshot" => {
                        disk.insert(controller, event["disk_bytes"].as_u64().unwrap_or(0));
                    }
                    Some("resumed" | "controller ready") => {
                        resident.insert(controller);
                    }
                    _ => {}
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if disk.len() == n && resident.is_empty() => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(error) => bail!("the host ended: {error}"),
        }
        if Instant::now() > limit {
            bail!("{} of {n} controllers were suspended in time", disk.len());
        }
    }
    let pid = child.id();
    let memory = process::memory(pid)?;
    let (descriptors, mappings) = process::descriptors_and_mappings(pid)?;
    let started = Instant::now();
    Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
    child.wait()?;
    Ok(Found { memory, disk_bytes: disk.values().sum(), descriptors, mappings, stop: started.elapsed() })
}
