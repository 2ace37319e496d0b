//! Large objects with a map function: the peak memory of the host.
//!
//! The host is a separate process, so that its memory can be measured.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::wat_guest::{NAMESPACE, package, spec};
use wasmop_package::manifest::Limits;
use wasmop_testbed::host::Host;

const POLL: Duration = Duration::from_millis(100);
const NAME: &str = "map-whole";
const OBJECTS: usize = 60;
const OBJECT_BYTES: usize = 900_000;
/// Objects that change at once. One controller's account has room for them (8 MiB), so none is dropped.
const GROUP: usize = 8;
const CACHE_MEMORY: &str = "8MiB";
/// The host's allowed growth: 8 MiB in the cache, 8 MiB queued for the event loop, 8 MiB in the controller's account, and
/// copies and buffers of objects that are being read.
const MAX_GROWTH: u64 = 40 << 20;

/// Maps each object to no request, and logs whether the object is large or small.
const GUEST: &str = r#"(module
  (import "wasmop:controller/runtime@0.1.0" "next" (func $next (param i32)))
  (import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
  (import "wasmop:controller/runtime@0.1.0" "done" (func $done (param i64 i32 i64 i32 i32 i32)))
  (import "wasmop:controller/runtime@0.1.0" "mapped" (func $mapped (param i64 i32 i32)))
  (import "wasmop:controller/sys@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "large")
  (data (i32.const 520) "small")
  (data (i32.const 1024) "{spec}")
  (func (export "_initialize"))
  (func $say (param $text i32)
    (call $log (i32.const 2) (i32.const 512) (i32.const 0) (local.get $text) (i32.const 5) (i32.const 0) (i32.const 0)))
  (func (export "wasmop:controller/guest@0.1.0#step") (local $kind i32)
    (loop $again
      (call $next (i32.const 8))
      (local.set $kind (i32.load8_u (i32.const 8)))
      (if (i32.eq (local.get $kind) (i32.const 1))
        (then (drop (call $register (i32.const 1024) (i32.const {spec-len})))))
      (if (i32.eq (local.get $kind) (i32.const 2))
        (then (call $done (i64.load (i32.const 16)) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
      (if (i32.eq (local.get $kind) (i32.const 3))
        (then
          (call $say (select (i32.const 512) (i32.const 520) (i32.gt_u (i32.load (i32.const 28)) (i32.const 100000))))
          (call $mapped (i64.load (i32.const 16)) (i32.const 0) (i32.const 0))))
      (br_if $again (local.get $kind)))))"#;

/// 54 MB of objects pass through a host with an 8 MiB cache.
///
/// In groups, each object is mapped. All at once, the host's memory grows no further.
pub async fn bounded(cluster: &TestCluster) -> Result<()> {
    let watch = format!(
        r#"{{"version":"v1","kind":"ConfigMap","plural":"configmaps","labelSelector":"mapped={NAME}","relation":"map"}}"#
    );
    let spec = spec(NAME, &watch);
    let text = GUEST.replace("{spec-len}", &spec.len().to_string()).replace("{spec}", &spec.replace('"', "\\\""));
    let file = cluster.dir().join(format!("{NAME}.wasm"));
    std::fs::write(&file, package(NAME, &text, Limits::USUAL)?.bytes())?;
    let mut options = cluster.host_options(NAME, vec![file])?;
    options.args = ["--cache-memory", CACHE_MEMORY].map(String::from).into();
    let mut host = Host::spawn(&options)?;
    let passed = pass(cluster, &mut host).await;
    let status = tokio::task::block_in_place(|| host.terminate())?;
    passed.with_context(|| format!("the end of the host's log:\n{}", host.log.tail(8)))?;
    ensure!(status.success(), "the host ended with {status}");
    Ok(())
}

async fn pass(cluster: &TestCluster, host: &mut Host) -> Result<()> {
    let id = host.id().context("the host has ended")?;
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no process id")?;
    let objects = Api::<ConfigMap>::namespaced(cluster.client.clone(), NAMESPACE);
    create(&objects, "marker", 1).await?;
    // The watch works.
    until(host, "small", 1).await?;
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").context("resetting the peak")?;
    let before = status_bytes(id, "VmRSS:")?;

    for n in 0..OBJECTS {
        create(&objects, &format!("mapped{n}"), OBJECT_BYTES).await?;
        if (n + 1) % GROUP == 0 || n + 1 == OBJECTS {
            until(host, "large", n + 1).await?;
        }
    }
    let peak = status_bytes(id, "VmHWM:")?;

    kill_process(pid, Signal::STOP)?;
    let touched = touch_all(&objects).await;
    kill_process(pid, Signal::CONT)?;
    touched?;
    // The host drops objects that the account has no room for, and reconciles all objects of the controller instead.
    touch(&objects, "marker").await?;
    until(host, "small", 2).await?;
    let at_once = count(host, "large")? - OBJECTS;
    let peak_at_once = status_bytes(id, "VmHWM:")?;

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{OBJECTS} objects of {OBJECT_BYTES} bytes with --cache-memory {CACHE_MEMORY}: resident {:.1} MiB before, at its \
         peak {:.1} MiB in groups of {GROUP} and {:.1} MiB at once, when {at_once} were mapped",
        mib(before),
        mib(peak),
        mib(peak_at_once)
    );
    let growth = peak_at_once.saturating_sub(before);
    ensure!(growth < MAX_GROWTH, "it took {:.1} MiB more than before", mib(growth));
    Ok(())
}

async fn create(objects: &Api<ConfigMap>, name: &str, bytes: usize) -> Result<()> {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        labels: Some([("mapped".to_owned(), NAME.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let data = Some([("data".to_owned(), "x".repeat(bytes))].into());
    let object = ConfigMap { metadata, data, ..ConfigMap::default() };
    objects.create(&PostParams::default(), &object).await.with_context(|| format!("creating {name}"))?;
    Ok(())
}

async fn touch_all(objects: &Api<ConfigMap>) -> Result<()> {
    for n in 0..OBJECTS {
        touch(objects, &format!("mapped{n}")).await?;
    }
    Ok(())
}

/// Changes an object's metadata. The watch sends the whole object.
async fn touch(objects: &Api<ConfigMap>, name: &str) -> Result<()> {
    let patch = serde_json::json!({ "metadata": { "annotations": { "touched": "true" } } });
    objects
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("changing {name}"))?;
    Ok(())
}

/// Counts records of the guest with this message.
fn count(host: &mut Host, said: &str) -> Result<usize> {
    Ok(host.log.records()?.iter().filter(|record| record.is(said, NAME)).count())
}

/// Waits until this many objects of this size have been mapped.
async fn until(host: &mut Host, size: &str, objects: usize) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT * 2;
    loop {
        let mapped = count(host, size)?;
        if mapped >= objects {
            return Ok(());
        }
        if let Some(status) = host.ended() {
            bail!("the host ended with {status}");
        }
        ensure!(Instant::now() < deadline, "{mapped} {size} objects were mapped, not {objects}");
        tokio::time::sleep(POLL).await;
    }
}

/// A field of `/proc/PID/status`, converted from kB to bytes.
fn status_bytes(id: u32, field: &str) -> Result<u64> {
    let path = Path::new("/proc").join(id.to_string()).join("status");
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {field} in {}", path.display()))? * 1024)
}
