//! Hosts that share controllers, and the objects of these controllers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use wasmop_api::election::LocalState;
use wasmop_core::election::assigned;
use wasmop_e2e::guests;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::TestCluster;
use wasmop_package::manifest::Manifest;
use wasmop_package::{Package, with_manifest};
use wasmop_testbed::host::{Host, HostOptions};

/// The Lease duration: short, but long enough for a busy machine.
pub const LEASE: Duration = Duration::from_secs(6);
pub const RENEW: Duration = Duration::from_secs(4);
const RETRY: &str = "500ms";
const NAMESPACE: &str = "leases";
const CONTROLLERS: usize = 4;
const OBJECTS: usize = 2;
const POLL: Duration = Duration::from_millis(50);

pub struct Fixture {
    pub cluster: TestCluster,
    /// The names of the controllers.
    pub names: Vec<String>,
    packages: Vec<PathBuf>,
    probes: Api<Probe>,
    leases: Api<Lease>,
}

/// One of the hosts, a candidate in the election of each controller.
pub struct Candidate {
    pub host: Host,
    identity: String,
    options: HostOptions,
}

impl Candidate {
    pub fn identity(&self) -> &str {
        &self.identity
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.host.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("it has ended")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Stops the process (SIGSTOP) without ending it.
    pub fn pause_process(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn resume_process(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Starts the host again on its state directory, with a log of its own.
    pub fn start_again(&mut self) -> Result<()> {
        self.options.log.set_extension("again.log");
        self.host = Host::spawn(&self.options)?;
        Ok(())
    }

    pub async fn until_suspended(&mut self, controllers: &[String]) -> Result<()> {
        let deadline = Instant::now() + LEASE * 2;
        loop {
            let records = self.host.log.records()?;
            let last = |name: &str| {
                records
                    .iter()
                    .rev()
                    .find(|r| r.text("controller") == name && ["suspended", "resumed"].contains(&r.message()))
            };
            if controllers.iter().all(|name| last(name).is_some_and(|r| r.message() == "suspended")) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not all are suspended");
            sleep(POLL).await;
        }
    }
}

impl Fixture {
    /// Creates several controllers from one package, with some objects each.
    pub async fn set_up(cluster: TestCluster) -> Result<Fixture> {
        let guest = tokio::task::block_in_place(|| guests::build("rust", cluster.dir()))?;
        cluster.create_crd().await?;
        cluster.create_namespace(NAMESPACE).await?;
        let package = Package::parse(fs::read(&guest.package)?)?;
        let probes = Api::<Probe>::namespaced(cluster.client.clone(), NAMESPACE);
        let (mut names, mut packages) = (Vec::new(), Vec::new());
        for number in 0..CONTROLLERS {
            let name = format!("shared-{number}");
            let manifest = Manifest { name: name.clone(), ..package.manifest.clone() };
            let path = cluster.dir().join(format!("{name}.wasm"));
            fs::write(&path, with_manifest(package.bytes(), &manifest)?)?;
            for object in 0..OBJECTS {
                let metadata = ObjectMeta {
                    name: Some(format!("{name}-{object}")),
                    labels: Some([("guest".to_owned(), name.clone())].into()),
                    ..ObjectMeta::default()
                };
                let probe = Probe { metadata, spec: spec("child", "0"), status: None };
                probes.create(&PostParams::default(), &probe).await?;
            }
            names.push(name);
            packages.push(path);
        }
        let leases = Api::namespaced(cluster.client.clone(), NAMESPACE);
        Ok(Fixture { cluster, names, packages, probes, leases })
    }

    pub fn all(&self) -> Vec<String> {
        self.names.clone()
    }

    fn state_dir(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(format!("{name}-state"))
    }

    /// Two host names whose identities share the controllers evenly.
    pub fn spread_names(&self) -> Result<[String; 2]> {
        let identity = |name: &str| identity(&self.state_dir(name));
        let first = "host-0";
        for number in 1..64 {
            let second = format!("host-{number}");
            let both = [identity(first)?, identity(&second)?];
            let of_first = |name: &&String| assigned(name, both.iter().map(String::as_str)) == Some(&*both[0]);
            if self.names.iter().filter(of_first).count() == CONTROLLERS / 2 {
                return Ok([first.into(), second]);
            }
        }
        bail!("no two hosts share the controllers evenly")
    }

    /// Starts a host. `kubeconfig` replaces the administrator's.
    pub fn start(&self, name: &str, kubeconfig: Option<&Path>) -> Result<Candidate> {
        let mut options = self.cluster.host_options(name, self.packages.clone())?;
        if let Some(kubeconfig) = kubeconfig {
            options.kubeconfig = kubeconfig.into();
        }
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        options.args = ["--leader-elect", "--leader-elect-resource-namespace", NAMESPACE].map(String::from).into();
        for (flag, value) in
            [("lease-duration", seconds(LEASE)), ("renew-deadline", seconds(RENEW)), ("retry-period", RETRY.into())]
        {
            options.args.extend([format!("--leader-elect-{flag}"), value]);
        }
        let identity = identity(&options.state_dir)?;
        self.share_code(&options.state_dir)?;
        Ok(Candidate { host: Host::spawn(&options)?, identity, options })
    }

    /// Copies compiled packages of other hosts, so that this host need not compile them.
    fn share_code(&self, state_dir: &Path) -> Result<()> {
        let dirs = fs::read_dir(self.cluster.dir())?.filter_map(|entry| Some(entry.ok()?.path()));
        for other in dirs.filter(|path| path.to_string_lossy().ends_with("-state") && path != state_dir) {
            for sub in ["code", "images"] {
                let (from, to) = (other.join(sub), state_dir.join(sub));
                fs::create_dir_all(&to)?;
                for file in fs::read_dir(from).into_iter().flatten().flatten() {
                    fs::copy(file.path(), to.join(file.file_name()))?;
                }
            }
        }
        Ok(())
    }

    /// The controllers that a host gets among these candidates.
    pub fn assigned(&self, candidate: &Candidate, candidates: &[&Candidate]) -> Vec<String> {
        let is_assigned =
            |name: &&String| assigned(name, candidates.iter().map(|m| &*m.identity)) == Some(&candidate.identity);
        self.names.iter().filter(is_assigned).cloned().collect()
    }

    /// The identity that holds each of these controllers; empty if none does.
    async fn holders(&self, controllers: &[String]) -> Result<Vec<String>> {
        let all = self.leases.list(&ListParams::default()).await?.items;
        let holder = |name: &String| {
            let name = Some(format!("wasmop.controller.{name}"));
            let lease = all.iter().find(|lease| lease.metadata.name == name);
            lease.and_then(|lease| lease.spec.clone()?.holder_identity).unwrap_or_default()
        };
        Ok(controllers.iter().map(holder).collect())
    }

    pub async fn until_held_by(&self, candidate: &Candidate, controllers: &[String], timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let holders = self.holders(controllers).await?;
            if holders.iter().all(|holder| *holder == candidate.identity) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not hold {controllers:?} after {timeout:?}, but {holders:?}",
                candidate.identity
            );
            sleep(POLL).await;
        }
    }

    /// Waits until each host holds the controllers assigned to it.
    pub async fn until_shared(&self, candidates: &[&Candidate], timeout: Duration) -> Result<()> {
        for candidate in candidates {
            self.until_held_by(candidate, &self.assigned(candidate, candidates), timeout).await?;
        }
        Ok(())
    }

    /// Changes every object, alternating between controllers.
    pub async fn change(&self, value: &str) -> Result<()> {
        let patch = serde_json::json!({ "spec": spec("child", value) });
        for object in 0..OBJECTS {
            for name in &self.names {
                let name = format!("{name}-{object}");
                self.probes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        Ok(())
    }

    /// Waits until the current spec of every object has been reconciled.
    pub async fn until_current(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let all = self.probes.list(&ListParams::default()).await?.items;
            let late: Vec<_> = all.iter().filter(|p| !p.is_current()).filter_map(|p| p.metadata.name.clone()).collect();
            if late.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{late:?} are not reconciled after {timeout:?}");
            sleep(POLL).await;
        }
    }
}

/// The identity of the host on this state directory.
fn identity(state_dir: &Path) -> Result<String> {
    fs::create_dir_all(state_dir)?;
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(LocalState::open(state_dir, hostname.trim())?.identity().to_string())
}
