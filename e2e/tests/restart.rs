//! Objects that are reconciled after a host restart: 1,000 controllers of two packages, each with the same ten objects.
//!
//! The test plays the API server. The host is this program again, as a separate process that can be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wasmop_e2e::child_host;
use wasmop_e2e::fake_cluster::{FakeCluster, RequestCounts};
use wasmop_e2e::part::{self, Part};
use wasmop_host::{Deployment, Options};
use wasmop_package::Package;
use wasmop_package::manifest::{Language, Manifest, PolicyRule, Sdk, Toolchain};
use wasmop_policy::Policy;
use wasmop_snapshot::Durability;

const COLUMN: &str = "result";
/// Controllers of each package.
const CONTROLLERS: usize = 500;
const OBJECTS: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(180);

/// Objects with this prefix show that all earlier changes have been handled. They are not counted.
const SENTINEL: &str = "sentinel-";

/// Registers for ConfigMaps, and reconciles each without any action.
const GUEST: &str = r#"(module
  (import "wasmop:controller/runtime@0.1.0" "next" (func $next (param i32)))
  (import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
  (import "wasmop:controller/runtime@0.1.0" "done" (func $done (param i64 i32 i64 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{\"name\":\"maps\",\"primary\":{\"version\":\"v1\",\"kind\":\"ConfigMap\",\"plural\":\"configmaps\"}}")
  (func (export "_initialize"))
  (func (export "wasmop:controller/guest@0.1.0#step") (local $kind i32)
    (loop $again
      (call $next (i32.const 8))
      (local.set $kind (i32.load8_u (i32.const 8)))
      (if (i32.eq (local.get $kind) (i32.const 1))
        (then (drop (call $register (i32.const 1024) (i32.const 83)))))
      (if (i32.eq (local.get $kind) (i32.const 2))
        (then (call $done (i64.load (i32.const 16)) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
      (br_if $again (local.get $kind)))))"#;

fn package(name: &str, version: &str) -> Result<Package> {
    let rule = PolicyRule {
        api_groups: vec!["".into()],
        resources: vec!["configmaps".into()],
        verbs: vec!["list".into(), "watch".into()],
        ..PolicyRule::default()
    };
    let manifest = Manifest {
        permissions: vec![rule],
        ..Manifest::new(name, version, Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
    };
    Ok(Package::parse(wasmop_package::assemble(&wat::parse_str(GUEST)?, &manifest)?)?)
}

/// The child process: a host with the packages in these versions.
fn host(server: &str, state_dir: &Path, versions: [&str; 2]) -> Result<()> {
    let mut controllers = Vec::new();
    for (name, version) in ["steady", "upgraded"].into_iter().zip(versions) {
        let package = Arc::new(package(name, version)?);
        controllers.extend((0..CONTROLLERS).map(|i| Deployment::new(format!("{name}-{i}"), package.clone())));
    }
    let cluster = kube::Config::new(server.parse()?);
    child_host::run(async {
        Ok(Options {
            policy: Policy::After(Duration::from_millis(100)),
            durability: Durability::None,
            ..Options::new(controllers, cluster, state_dir.into())
        })
    })
}

/// A host, and the state that its log shows.
struct Host {
    child: Child,
    lines: Receiver<String>,
    /// Reconciles by controller and object.
    reconciled: BTreeMap<(String, String), u64>,
    suspended: BTreeSet<String>,
}

impl Host {
    fn start(server: &str, state_dir: &Path, versions: [&str; 2]) -> Result<Host> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["host", server])
            .arg(state_dir)
            .args(versions)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Host { child, lines, reconciled: BTreeMap::new(), suspended: BTreeSet::new() })
    }

    /// Reads the log until `enough` holds.
    fn until(&mut self, what: &str, enough: impl Fn(&Host) -> bool) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !enough(self) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.read(&line)?,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "not {what} in time; {} objects reconciled, {} suspended",
                        self.reconciled.len(),
                        self.suspended.len()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the host ended by itself before it was {what}"),
            }
        }
        Ok(())
    }

    fn read(&mut self, line: &str) -> Result<()> {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        // An upgraded package starts without memory.
        let is_upgrade = text("message").starts_with("snapshot rejected") && text("controller").starts_with("upgraded");
        ensure!(is_upgrade || !["WARN", "ERROR"].contains(&&*text("level")), "the host logs a problem: {line}");
        match record["message"].as_str() {
            Some("reconciled") => *self.reconciled.entry((text("controller"), text("object"))).or_default() += 1,
            Some("suspended") => drop(self.suspended.insert(text("controller"))),
            Some("resumed") => drop(self.suspended.remove(&text("controller"))),
            Some("controller ready") if record["from"] == "snapshot" => drop(self.suspended.insert(text("controller"))),
            _ => {}
        }
        Ok(())
    }

    /// Waits until every controller has reconciled a new object.
    fn pass(&mut self, cluster: &FakeCluster) -> Result<()> {
        let name = format!("{SENTINEL}{}", cluster.counts().objects);
        cluster.put(&name);
        let sentinel = format!("default/{name}");
        self.until("through", |host| {
            host.reconciled.keys().filter(|(_, object)| *object == sentinel).count() == 2 * CONTROLLERS
        })
    }

    /// Checks that each controller has reconciled each of `objects` once if `expected` holds, and never otherwise.
    fn check(
        &mut self,
        cluster: &FakeCluster,
        expected: impl Fn(&str, &str) -> bool,
        objects: &[String],
    ) -> Result<()> {
        // The first sentinel may be part of the list, which precedes deletions. The second one follows them.
        self.pass(cluster)?;
        self.pass(cluster)?;
        self.until("suspended", |host| host.suspended.len() == 2 * CONTROLLERS)?;
        let mut wrong = Vec::new();
        let mut count = 0;
        for name in ["steady", "upgraded"] {
            for controller in (0..CONTROLLERS).map(|i| format!("{name}-{i}")) {
                for object in objects {
                    let times = self.reconciled.get(&(controller.clone(), object.clone())).copied().unwrap_or_default();
                    let wanted = u64::from(expected(name, object));
                    count += times;
                    if times != wanted {
                        wrong.push(format!("{controller} {object}: {times} times instead of {wanted}"));
                    }
                }
            }
        }
        let is_ours = |object: &String| objects.contains(object) || object.contains(SENTINEL);
        let of_others = self.reconciled.keys().find(|(_, object)| !is_ours(object));
        ensure!(of_others.is_none(), "an unexpected object was reconciled: {of_others:?}");
        ensure!(wrong.is_empty(), "{} are wrong, {} for one", wrong.len(), wrong[0]);
        println!("  {count} reconciles");
        Ok(())
    }

    fn terminate(&mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs all restarts on an API server that streams lists, or that pages them.
fn scenario(cluster: &FakeCluster, streams_lists: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let objects: Vec<String> = (0..=OBJECTS).map(|i| format!("default/map-{i}")).collect();
    for i in 0..OBJECTS {
        cluster.put(&format!("map-{i}"));
    }
    let server = cluster.url();
    let start = |versions| Host::start(&server, dir.path(), versions);

    println!("first start: every object");
    let mut host = start(["1.0.0", "1.0.0"])?;
    let last = &*objects[OBJECTS];
    host.check(cluster, |_, object| object != last, &objects)?;
    host.terminate()?;

    println!("nothing has changed: no object");
    let mut host = start(["1.0.0", "1.0.0"])?;
    host.until("ready", |host| host.suspended.len() == 2 * CONTROLLERS)?;
    host.check(cluster, |_, _| false, &objects)?;
    host.terminate()?;

    println!("one changed, one deleted, one new during the downtime: these three objects");
    cluster.put("map-1");
    cluster.delete("map-2");
    cluster.put("map-10");
    let three = |_: &str, object: &str| ["default/map-1", "default/map-2", "default/map-10"].contains(&object);
    let mut host = start(["1.0.0", "1.0.0"])?;
    host.check(cluster, three, &objects)?;
    drop(host); // kill

    println!("three changed after SIGKILL: these three objects");
    for name in ["map-3", "map-4", "map-10"] {
        cluster.put(name);
    }
    // As after a long downtime: the next host cannot continue the watch of the last one.
    cluster.expire();
    let three = |_: &str, object: &str| ["default/map-3", "default/map-4", "default/map-10"].contains(&object);
    let mut host = start(["1.0.0", "1.0.0"])?;
    host.check(cluster, three, &objects)?;

    println!("the watch breaks and its version is too old: no object");
    host.reconciled.clear();
    cluster.expire();
    host.check(cluster, |_, _| false, &objects)?;
    host.terminate()?;

    println!("one package is upgraded, and one object changed: all of its objects, and the changed one");
    cluster.put("map-5");
    let mut host = start(["1.0.0", "1.0.1"])?;
    let upgraded = |name: &str, object: &str| match name {
        "upgraded" => object != "default/map-2",
        _ => object == "default/map-5",
    };
    host.check(cluster, upgraded, &objects)?;
    host.terminate()?;

    println!("the watch journal is lost: every object");
    std::fs::remove_dir_all(dir.path().join("watches"))?;
    let mut host = start(["1.0.0", "1.0.1"])?;
    host.check(cluster, |_, object| object != "default/map-2", &objects)?;
    host.terminate()?;

    let RequestCounts { lists, streamed_lists, watches, .. } = cluster.counts();
    println!("  {lists} paged lists, {streamed_lists} streamed lists, {watches} other watches");
    match streams_lists {
        true => ensure!(lists == 0, "{lists} paged lists"),
        false => ensure!(streamed_lists <= 7, "{streamed_lists} streamed lists by seven hosts"),
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, server, state_dir, steady, upgraded] = &arguments[..]
        && command == "host"
    {
        return match host(server, Path::new(state_dir), [steady, upgraded]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    part::main("restart", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    for (row, streams_lists) in [("with streamed lists", true), ("with paged lists", false)] {
        let check = async {
            let cluster = FakeCluster::start(streams_lists).await?;
            // The cluster runs on the runtime's threads while this one waits.
            tokio::task::block_in_place(|| scenario(&cluster, streams_lists))
        };
        part.row(row, COLUMN, check).await;
    }
    Ok(())
}
