//! A host in the test process, on a disk with injected faults, and its HTTP endpoints.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmop_host::status::Overview;
use wasmop_host::status::values::ControllerStatus;
use wasmop_host::{Deployment, HostError, Options};
use wasmop_package::Package;
use wasmop_policy::Policy;
use wasmop_snapshot::faulty_disk::FaultyDisk;

use crate::test_cluster::TIMEOUT;

const POLL: Duration = Duration::from_millis(50);
const SUSPEND_AFTER: Duration = Duration::from_millis(200);

/// A running host.
pub struct InProcessHost {
    /// The name of its first controller.
    name: String,
    pub address: SocketAddr,
    pub disk: Arc<FaultyDisk>,
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), HostError>>,
}

impl InProcessHost {
    /// Runs one controller for each package; there must be at least one. Idle controllers are suspended after a moment.
    pub fn start(packages: Vec<Package>, kubeconfig: &Path, state_dir: &Path) -> Result<InProcessHost> {
        let change = |options| Options { policy: Policy::After(SUSPEND_AFTER), ..options };
        Self::start_with(packages, kubeconfig, state_dir, change)
    }

    /// Runs with the options of `wasmop run` without flags, except for the changes of `change`.
    pub fn start_with(
        packages: Vec<Package>,
        kubeconfig: &Path,
        state_dir: &Path,
        change: impl FnOnce(Options) -> Options + Send + 'static,
    ) -> Result<InProcessHost> {
        let name = packages.first().context("no package")?.manifest.name.clone();
        let listener = wasmop_host::status::http::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let disk = Arc::new(FaultyDisk::default());
        let (end, ended) = oneshot::channel();
        let (kubeconfig, state_dir, bad) = (kubeconfig.to_owned(), state_dir.to_owned(), disk.disk());
        let task = tokio::spawn(async move {
            let sources = wasmop_api::connect::Sources::from_env(Some(kubeconfig), None);
            let deployment = |package: Package| Deployment::new(package.manifest.name.clone(), Arc::new(package));
            let controllers = packages.into_iter().map(deployment).collect();
            let cluster = wasmop_api::connect::load(&sources).await?;
            let options =
                Options { disk: bad, metrics: Some(listener), ..Options::new(controllers, cluster, state_dir) };
            wasmop_host::run(change(options), async {
                let _ = ended.await;
            })
            .await
        });
        Ok(InProcessHost { name, address, disk, end, task })
    }

    /// Stops the host, and waits.
    pub async fn stop(self) -> Result<()> {
        let _ = self.end.send(());
        Ok(tokio::time::timeout(TIMEOUT, self.task).await.context("the host does not stop")???)
    }

    /// Status and body of an endpoint.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.address, path).await
    }

    /// The value of a metric. `series`: its name and labels as they appear in the text.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200, "/metrics: {status} {text}");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(line.map(str::parse).transpose()?)
    }

    /// The overview of the host and its controllers.
    pub async fn overview(&self) -> Result<Overview> {
        let (status, text) = self.get("/api/controllers").await?;
        ensure!(status == 200, "/api/controllers: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub async fn controllers(&self) -> Result<Vec<ControllerStatus>> {
        Ok(self.overview().await?.controllers)
    }

    /// The first controller.
    pub async fn controller(&self) -> Result<ControllerStatus> {
        let controllers = self.controllers().await?;
        controllers.into_iter().find(|c| c.name == self.name).context("no controller")
    }

    /// Waits until `wanted` holds for the first controller.
    pub async fn until(&self, what: &str, wanted: impl Fn(&ControllerStatus) -> bool) -> Result<ControllerStatus> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let controller = self.controller().await?;
            if wanted(&controller) {
                return Ok(controller);
            }
            if Instant::now() > deadline {
                bail!("not {what} after {TIMEOUT:?}: {controller:?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub async fn until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT * 4;
        loop {
            if let Ok((200, _)) = self.get("/readyz").await {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline && !self.task.is_finished(),
                "the host is not ready: {:?}",
                self.get("/readyz").await
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Status and body of a host's endpoint.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.into()))
}
