//! A cluster with the Probe CRD, a fault proxy in front of it, and one host that runs all guests.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use wasmop_testbed::host::{Host, HostOptions};

use crate::fault_proxy::FaultProxy;
use crate::guests::Guest;
use crate::test_cluster::TestCluster;
use crate::wall_clock::WallClock;

/// The deadline for a host to become ready. It compiles packages first, and the Python package has 18 MB.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// A cluster, a fault proxy, and a host that reaches the cluster through the proxy.
pub struct Environment {
    pub cluster: TestCluster,
    pub proxy: FaultProxy,
    /// The wall clock of the hosts.
    pub clock: WallClock,
    guests: Vec<Guest>,
    options: HostOptions,
    host: Mutex<Host>,
    starts: Mutex<u32>,
}

impl Environment {
    /// Starts everything, and waits until every guest is ready.
    pub async fn start(cluster: TestCluster, guests: Vec<Guest>) -> Result<Arc<Environment>> {
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
        let env = Environment { cluster, proxy, clock, guests, options, host: Mutex::new(host), starts: Mutex::new(1) };
        env.wait_ready().await?;
        Ok(Arc::new(env))
    }

    /// The current host.
    pub fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends SIGTERM and waits until the host has ended.
    pub async fn terminate_host(&self) -> Result<()> {
        let mut host = self.host();
        let status = tokio::task::block_in_place(|| host.terminate())?;
        if !status.success() {
            bail!("the host ended with {status} after SIGTERM:\n{}", host.log.tail(15));
        }
        Ok(())
    }

    /// Sends SIGKILL.
    pub fn kill_host(&self) -> Result<()> {
        self.host().kill()
    }

    /// Starts another host on the same state directory, with a log of its own.
    pub async fn restart_host(&self) -> Result<()> {
        self.restart_host_with(&[]).await
    }

    /// Like [`Environment::restart_host`], with more arguments.
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
        tokio::task::block_in_place(|| self.host().wait_ready(&names, READY_TIMEOUT))
    }

    /// Stops everything, and keeps the hosts' logs and state. `None` while the environment is still in use.
    pub fn keep_files(self: Arc<Environment>) -> Option<PathBuf> {
        let env = Arc::into_inner(self)?;
        drop(env.host);
        drop(env.proxy);
        Some(env.cluster.keep_files())
    }
}
