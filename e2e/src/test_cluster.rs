//! A control plane of the test's own, and a client with administrator rights.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;
use wasmop_testbed::controlplane::{self, Binaries, ControlPlane, Lifetime};
use wasmop_testbed::host::HostOptions;

use crate::fault_proxy::FaultProxy;
use crate::guests;
use crate::probe::Probe;

/// The deadline for anything that should happen at once. It is long because the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(90);
/// The idle time before a guest is suspended. It is short, so that a test sees many suspensions.
pub const SUSPEND_AFTER: Duration = Duration::from_millis(300);

const PROBE_CRD: &str = include_str!("../guests/probe-crd.yaml");

/// A running control plane and a client with administrator rights.
pub struct TestCluster {
    pub plane: ControlPlane,
    pub client: Client,
    pub binaries: Binaries,
    dir: TempDir,
}

impl TestCluster {
    pub async fn start() -> Result<TestCluster> {
        Self::start_with(|_| Ok(Vec::new())).await
    }

    /// Starts with more flags of `kube-apiserver`. `flags` may write files into the directory that it gets.
    pub async fn start_with(flags: impl FnOnce(&Path) -> Result<Vec<String>>) -> Result<TestCluster> {
        let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
        let dir = tempfile::Builder::new().prefix("wasmop-e2e-").tempdir()?;
        let flags = flags(dir.path())?;
        let plane = ControlPlane::start_with(&binaries, &dir.path().join("cluster"), Lifetime::Owned, &flags)?;
        let client = client(&plane.kubeconfig).await?;
        Ok(TestCluster { plane, client, binaries, dir })
    }

    /// The directory for files of the test. It is removed when the cluster is dropped.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the control plane, and keeps the files of the test.
    pub fn keep_files(self) -> PathBuf {
        let TestCluster { plane, dir, .. } = self;
        let _ = plane.stop();
        dir.keep()
    }

    /// Creates the Probe CRD and waits until the API server serves it.
    pub async fn create_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let crd = serde_norway::from_str(PROBE_CRD).context("reading probe-crd.yaml")?;
        crds.create(&PostParams::default(), &crd).await?;
        let established = kube::runtime::conditions::is_crd_established();
        tokio::time::timeout(TIMEOUT, kube::runtime::wait::await_condition(crds, "probes.e2e.wasmop.dev", established))
            .await??;
        Ok(())
    }

    /// Creates the Probe CRD without a served version.
    pub async fn create_unserved_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        let mut crd: CustomResourceDefinition = serde_norway::from_str(PROBE_CRD).context("reading probe-crd.yaml")?;
        crd.spec.versions.iter_mut().for_each(|version| version.served = false);
        crds.create(&PostParams::default(), &crd).await?;
        Ok(())
    }

    /// Serves the CRD of [`TestCluster::create_unserved_crd`], and waits until the API server does so.
    pub async fn serve_crd(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        // The API server may write the status at the same time, so a conflict is retried.
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
        tokio::time::timeout(TIMEOUT, served).await.context("the API server does not serve Probes")
    }

    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Api::all(self.client.clone())
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await?;
        Ok(())
    }

    /// The options of a host with a state directory and a log named `name`.
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

    /// The options of a host that reaches the cluster through a proxy.
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
