//! A control plane with the Probe CRD, a fault proxy before it, and a host that runs all guests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;
use wasmop_testbed::controlplane::{self, Binaries, ControlPlane, Lifetime};
use wasmop_testbed::host::{Host, HostOptions};

use crate::fault_proxy::FaultProxy;
use crate::guests::{self, Guest};
use crate::probe::Probe;
use crate::wall_clock::WallClock;

/// For anything that should happen at once: long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// For a host to be ready: it compiles packages first, and that of Python is 18 MB.
const COMPILED: Duration = Duration::from_secs(600);
/// How long a guest is idle before it is suspended; short, so that a test sees many.
pub const SUSPEND_AFTER: Duration = Duration::from_millis(300);

const PROBE_CRD: &str = include_str!("../guests/probe-crd.yaml");

/// A running control plane and a client that is its administrator.
pub struct Cluster {
    pub plane: ControlPlane,
    pub client: Client,
    pub binaries: Binaries,
    dir: TempDir,
}

impl Cluster {
    pub async fn start() -> Result<Cluster> {
        Self::start_with(|_| Ok(Vec::new())).await
    }

    /// With further flags of `kube-apiserver`; `flags` may put files into the directory that it is given.
    pub async fn start_with(flags: impl FnOnce(&Path) -> Result<Vec<String>>) -> Result<Cluster> {
        let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
        let dir = tempfile::Builder::new().prefix("wasmop-e2e-").tempdir()?;
        let flags = flags(dir.path())?;
        let plane = ControlPlane::start_with(&binaries, &dir.path().join("cluster"), Lifetime::Owned, &flags)?;
        let client = client(&plane.kubeconfig).await?;
        Ok(Cluster { plane, client, binaries, dir })
    }

    /// For whatever the test writes; removed at its end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the control plane; what the test has written stays, for when something went wrong.
    pub fn keep_files(self) -> PathBuf {
        let Cluster { plane, dir, .. } = self;
        let _ = plane.stop();
        dir.keep()
    }

    /// Creates the Probe CRD and waits until the API server serves it.
    pub async fn create_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let crd = serde_norway::from_str(PROBE_CRD).context("reading probe-crd.yaml")?;
        crds.create(&PostParams::default(), &crd).await?;
        let established = kube::runtime::conditions::is_crd_established();
        tokio::time::timeout(
            PATIENCE,
            kube::runtime::wait::await_condition(crds, "probes.e2e.wasmop.dev", established),
        )
        .await??;
        Ok(())
    }

    /// Creates the Probe CRD with no version that is served.
    pub async fn create_unserved_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let mut crd: CustomResourceDefinition = serde_norway::from_str(PROBE_CRD).context("reading probe-crd.yaml")?;
        crd.spec.versions.iter_mut().for_each(|version| version.served = false);
        crds.create(&PostParams::default(), &crd).await?;
        Ok(())
    }

    /// Has the API server serve what [`Cluster::create_unserved_crd`] has made, and waits until it does.
    pub async fn serve_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        // The API server writes its status at about the same time.
        loop {
            let mut crd = crds.get("probes.e2e.wasmop.dev").await?;
            crd.spec.versions.iter_mut().for_each(|version| version.served = true);
            match crds.replace("probes.e2e.wasmop.dev", &PostParams::default(), &crd).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let probes = Api::<Probe>::all(self.client.clone());
        let served = async {
            while probes.list_metadata(&ListParams::default().limit(1)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.context("the API server does not serve Probes")
    }

    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Api::all(self.client.clone())
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await?;
        Ok(())
    }

    /// What to start a host with: its own state directory and log, named `name`.
    pub fn host_options(&self, name: &str, packages: Vec<PathBuf>) -> Result<HostOptions> {
        Ok(HostOptions {
            program: guests::wasmop()?,
            packages,
            kubeconfig: self.plane.kubeconfig.clone(),
            state_dir: self.dir().join(format!("{name}-state")),
            suspend_after: Some(SUSPEND_AFTER),
            args: Vec::new(),
            env: Vec::new(),
            log: self.dir().join(format!("{name}.log")),
            output: None,
            current_dir: None,
            lifetime: Lifetime::Owned,
        })
    }

    /// The same for a host that reaches the cluster through a proxy.
    pub fn proxied_options(&self, proxy: &FaultProxy, name: &str, packages: Vec<PathBuf>) -> Result<HostOptions> {
        let kubeconfig = self.dir().join("proxy.kubeconfig");
        std::fs::write(&kubeconfig, proxy.kubeconfig())?;
        Ok(HostOptions { kubeconfig, ..self.host_options(name, packages)? })
    }
}

/// A client with the credentials of a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A cluster, a fault proxy, and a host that reaches the cluster through it.
pub struct World {
    pub cluster: Cluster,
    pub proxy: FaultProxy,
    /// The hosts'.
    pub clock: WallClock,
    guests: Vec<Guest>,
    options: HostOptions,
    host: Mutex<Host>,
    starts: Mutex<u32>,
}

impl World {
    /// Starts everything, and waits until the host has all guests ready.
    pub async fn start(cluster: Cluster, guests: Vec<Guest>) -> Result<Arc<World>> {
        cluster.create_crd().await?;
        for guest in &guests {
            cluster.create_namespace(guest.name).await?;
        }
        let proxy = FaultProxy::start(cluster.client.clone()).await?;
        let packages = guests.iter().map(|guest| guest.package.clone()).collect();
        let mut options = cluster.proxied_options(&proxy, "host", packages)?;
        let clock = WallClock::new(cluster.dir())?;
        options.env = clock.environment();
        let host = Host::spawn(&options)?;
        let world = World { cluster, proxy, clock, guests, options, host: Mutex::new(host), starts: Mutex::new(1) };
        world.wait_ready().await?;
        Ok(Arc::new(world))
    }

    /// The host that is running now.
    pub fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate_host(&self) -> Result<()> {
        let mut host = self.host();
        let status = tokio::task::block_in_place(|| host.terminate())?;
        if !status.success() {
            bail!("the host ended with {status} after SIGTERM:\n{}", host.log.tail(15));
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill_host(&self) -> Result<()> {
        self.host().kill()
    }

    /// Starts a host anew on the same state directory. Its log begins anew, too.
    pub async fn restart_host(&self) -> Result<()> {
        self.restart_host_with(&[]).await
    }

    /// With more arguments.
    pub async fn restart_host_with(&self, args: &[String]) -> Result<()> {
        let number = {
            let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
            *starts += 1;
            *starts
        };
        let mut options =
            HostOptions { log: self.cluster.dir().join(format!("host-{number}.log")), ..self.options.clone() };
        options.args.extend_from_slice(args);
        *self.host() = Host::spawn(&options)?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        let names: Vec<_> = self.guests.iter().map(|guest| guest.name).collect();
        tokio::task::block_in_place(|| self.host().wait_ready(&names, COMPILED))
    }

    /// Where the hosts' logs are, for when something went wrong; kept from being removed.
    pub fn keep_files(self: Arc<World>) -> Option<PathBuf> {
        let world = Arc::into_inner(self)?;
        drop(world.host);
        drop(world.proxy);
        Some(world.cluster.keep_files())
    }
}
