//! Memory of a host by number of objects in the cluster, compared with native controllers. Each reconciles all ConfigMaps and
//! does nothing with them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::guests;
use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use wasmop_e2e::process;
use wasmop_e2e::rows::Rows;
use wasmop_e2e::test_cluster;
use wasmop_e2e::wat_guest::Code;
use wasmop_package::manifest::Limits;
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};

/// ConfigMaps besides those of an empty cluster.
const COUNTS: [usize; 3] = [0, 1_000, 20_000];
const QUICK_COUNTS: [usize; 2] = [0, 1_000];
/// The size of each in bytes.
const DATA: usize = 1024;
/// The number of concurrent create requests.
const AT_ONCE: usize = 64;
/// From the last reconcile to the measurement: collectors run, and allocators return memory.
const SETTLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// Every controller prints a line with this word for each reconcile.
const RECONCILED: &str = "reconciled";

/// The controller in a few hundred bytes of code. `watch` adds fields to its watch.
fn package(name: &str, watch: &str, dir: &Path) -> Result<PathBuf> {
    let spec =
        format!(r#"{{"name":"maps","primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps"{watch}}}}}"#);
    let code = Code { spec: Some(spec), reconcile: "(call $finish (local.get $task))", ..Code::default() };
    let path = dir.join(format!("{name}.wasm"));
    // The benchmark counts reconciles by their log lines, so none may be dropped.
    let limits = Limits { log_bytes_per_second: 1 << 30, ..Limits::default() };
    std::fs::write(&path, code.package(name, limits)?.bytes())?;
    Ok(path)
}

#[derive(clap::Args)]
pub struct TwinArgs {
    kubeconfig: PathBuf,
}

/// The native controller in Rust: kube's `Controller`, which caches whole objects.
pub fn twin(args: TwinArgs) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let maps = Api::<ConfigMap>::all(test_cluster::client(&args.kubeconfig).await?);
        let reconcile = async |map: Arc<ConfigMap>, _: Arc<()>| {
            println!("{RECONCILED} {}", map.metadata.name.as_deref().unwrap_or_default());
            Ok::<Action, std::convert::Infallible>(Action::await_change())
        };
        Controller::new(maps, watcher::Config::default())
            .shutdown_on_signal()
            .run(reconcile, |_, _, _| Action::await_change(), Arc::new(()))
            .for_each(|_| std::future::ready(()))
            .await;
        Ok(())
    })
}

pub fn run(quick: bool, rows: &mut Rows) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
    let plane = ControlPlane::start(&binaries, &dir.path().join("cluster"), Lifetime::Owned)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = runtime.block_on(test_cluster::client(&plane.kubeconfig))?;
    let controller_runtime = build_controller_runtime(dir.path())?;
    let metadata = package("metadata", "", dir.path())?;
    let cached = package("cached", r#","cached":true"#, dir.path())?;
    let mut there = 0;
    let mut first: Vec<(&str, u64)> = Vec::new();
    for &count in if quick { &QUICK_COUNTS[..] } else { &COUNTS[..] } {
        eprintln!("objects: {count}");
        runtime.block_on(create(&client, there..count))?;
        there = count;
        let program = std::env::current_exe()?;
        let host = |package: &Path| {
            let mut command = Command::new(&program);
            command.arg("footprint-host").arg("--kubeconfig").arg(&plane.kubeconfig).args(["--n", "1", "--package"]);
            command.arg(package).arg("--state-dir").arg(package.with_extension(format!("{count}.state")));
            command
        };
        let mut kube = Command::new(&program);
        kube.arg("objects-twin").arg(&plane.kubeconfig);
        let mut variants = vec![("wasmop", host(&metadata)), ("wasmop-cached", host(&cached)), ("kube-rs", kube)];
        if let Some(program) = &controller_runtime {
            let mut go = Command::new(program);
            go.arg(&plane.kubeconfig);
            variants.push(("controller-runtime", go));
        }
        for (name, command) in variants {
            let memory = measure(command, count).with_context(|| format!("{name}, {count} objects"))?;
            let at = (Some(count as u64), None);
            rows.push(name, at, "pss", "bytes", memory.pss as f64);
            match first.iter().find(|(of, _)| *of == name) {
                None => first.push((name, memory.pss)),
                Some((_, none)) => {
                    let more = memory.pss.saturating_sub(*none) as f64;
                    rows.push(name, at, "pss_per_object", "bytes", more / count as f64);
                }
            }
        }
    }
    Ok(())
}

/// Builds the native controller in Go, or says why its rows are left out.
fn build_controller_runtime(out: &Path) -> Result<Option<PathBuf>> {
    if !guests::has(&std::env::var_os("PATH").unwrap_or_default(), "go") {
        eprintln!("controller-runtime is left out: no `go` on PATH");
        return Ok(None);
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("controller-runtime");
    let program = out.join("controller-runtime");
    eprintln!("building {} (minutes the first time)", source.display());
    let mut go = Command::new("go");
    go.arg("build").args(controlplane::TEST_FLAGS).arg("-o").arg(&program).arg(".");
    let status = go.current_dir(source).env("CGO_ENABLED", "0").status();
    ensure!(status.context("go cannot be started")?.success(), "go build failed");
    Ok(Some(program))
}

async fn create(client: &Client, numbers: std::ops::Range<usize>) -> Result<()> {
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let mut creating = JoinSet::new();
    for number in numbers {
        if creating.len() >= AT_ONCE {
            creating.join_next().await.context("nothing is being created")???;
        }
        let maps = maps.clone();
        creating.spawn(async move {
            let metadata = ObjectMeta { name: Some(format!("object-{number}")), ..ObjectMeta::default() };
            let data = Some([("data".to_owned(), format!("{number:0DATA$}"))].into());
            let map = ConfigMap { metadata, data, ..ConfigMap::default() };
            maps.create(&PostParams::default(), &map).await.map(drop)
        });
    }
    while let Some(created) = creating.join_next().await {
        created??;
    }
    Ok(())
}

/// The memory of the process after it reconciled `count` objects.
fn measure(mut command: Command, count: usize) -> Result<process::Memory> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let seen = reconciles(&mut child)?;
    let measured = look(&child, &seen, count);
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process(pid, Signal::TERM);
    }
    child.wait()?;
    measured
}

fn look(child: &Child, seen: &Receiver<()>, count: usize) -> Result<process::Memory> {
    let deadline = Instant::now() + PATIENCE;
    for reconciled in 0..count {
        if seen.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            bail!("{reconciled} of {count} objects were reconciled in {PATIENCE:?}, or before it exited");
        }
    }
    while seen.recv_timeout(SETTLE).is_ok() {}
    process::memory(child.id())
}

/// Receives a message for each reconcile.
fn reconciles(child: &mut Child) -> Result<Receiver<()>> {
    let output = BufReader::new(child.stdout.take().context("no output")?);
    let (tx, seen) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok).filter(|line| line.contains(RECONCILED)) {
            drop(line);
            // Drains the pipe to its end even if nobody receives.
            let _ = tx.send(());
        }
    });
    Ok(seen)
}
