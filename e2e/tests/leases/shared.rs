//! Hosts that share controllers, and the objects of these.

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
use wasmop_e2e::world::Cluster;
use wasmop_package::manifest::Manifest;
use wasmop_package::{Package, with_manifest};
use wasmop_testbed::host::{Host, HostOptions};

/// Short, and long enough for a machine that is busy with other things.
pub const LEASE: Duration = Duration::from_secs(6);
pub const RENEW: Duration = Duration::from_secs(4);
const RETRY: &str = "500ms";
const NAMESPACE: &str = "leases";
const CONTROLLERS: usize = 4;
const OBJECTS: usize = 2;
const POLL: Duration = Duration::from_millis(50);

pub struct Shared {
    pub cluster: Cluster,
    /// Of the controllers.
    pub names: Vec<String>,
    packages: Vec<PathBuf>,
    probes: Api<Probe>,
    leases: Api<Lease>,
}

/// One of the hosts.
pub struct Member {
    pub host: Host,
    identity: String,
    options: HostOptions,
}

impl Member {
    pub fn identity(&self) -> &str {
        &self.identity
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.host.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("it has ended")?;
        Ok(kill_process(pid, signal)?)
    }

    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// On its state directory; its log begins anew.
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

impl Shared {
    /// Controllers of one source under different names, with some objects each.
    pub async fn set_up(cluster: Cluster) -> Result<Shared> {
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
        Ok(Shared { cluster, names, packages, probes, leases })
    }

    pub fn all(&self) -> Vec<String> {
        self.names.clone()
    }

    fn state_dir(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(format!("{name}-state"))
    }

    /// Names of two hosts that each get half of the controllers: what the hosts will be called depends on it.
    pub fn spread_names(&self) -> Result<[String; 2]> {
        let identity = |name: &str| Ok::<_, anyhow::Error>(identity(&self.state_dir(name))?.to_string());
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

    /// `kubeconfig`: instead of the administrator's.
    pub fn start(&self, name: &str, kubeconfig: Option<&Path>) -> Result<Member> {
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
        Ok(Member { host: Host::spawn(&options)?, identity, options })
    }

    /// What another host has compiled need not be compiled once more.
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

    /// Controllers that a host gets among `members`.
    pub fn assigned(&self, member: &Member, members: &[&Member]) -> Vec<String> {
        let is_its = |name: &&String| assigned(name, members.iter().map(|m| &*m.identity)) == Some(&member.identity);
        self.names.iter().filter(is_its).cloned().collect()
    }

    /// Who holds each of these controllers; empty: nobody.
    async fn holders(&self, controllers: &[String]) -> Result<Vec<String>> {
        let all = self.leases.list(&ListParams::default()).await?.items;
        let holder = |name: &String| {
            let name = Some(format!("wasmop.controller.{name}"));
            let lease = all.iter().find(|lease| lease.metadata.name == name);
            lease.and_then(|lease| lease.spec.clone()?.holder_identity).unwrap_or_default()
        };
        Ok(controllers.iter().map(holder).collect())
    }

    pub async fn until_held_by(&self, member: &Member, controllers: &[String], patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let holders = self.holders(controllers).await?;
            if holders.iter().all(|holder| *holder == member.identity) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not hold {controllers:?} after {patience:?}, but {holders:?}",
                member.identity
            );
            sleep(POLL).await;
        }
    }

    /// Until each host holds what it is to get.
    pub async fn until_shared(&self, members: &[&Member], patience: Duration) -> Result<()> {
        for member in members {
            self.until_held_by(member, &self.assigned(member, members), patience).await?;
        }
        Ok(())
    }

    /// Changes every object, some in between others.
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

    /// Until every object has been reconciled as it is now.
    pub async fn until_current(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let all = self.probes.list(&ListParams::default()).await?.items;
            let late: Vec<_> = all.iter().filter(|p| !p.is_current()).filter_map(|p| p.metadata.name.clone()).collect();
            if late.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{late:?} are not reconciled after {patience:?}");
            sleep(POLL).await;
        }
    }
}

/// As the host on this directory will be called.
fn identity(state_dir: &Path) -> Result<String> {
    fs::create_dir_all(state_dir)?;
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(LocalState::open(state_dir, hostname.trim())?.identity().to_string())
}
