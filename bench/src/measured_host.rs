//! A host as its own process, with its memory, processor time, metrics and log.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasmop_e2e::process::{self, Memory};
use wasmop_e2e::{guests, in_process_host};
use wasmop_testbed::controlplane::Lifetime;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Log;

/// For compiling large packages.
const READY: Duration = Duration::from_secs(600);

/// A running host.
pub struct MeasuredHost {
    host: Host,
    address: SocketAddr,
}

impl MeasuredHost {
    /// Starts it, and waits until the controllers of these names and packages are ready. Its files are in `dir`, and begin
    /// with `name`.
    pub fn start(
        (dir, name): (&Path, &str),
        kubeconfig: &Path,
        controllers: &[(&str, &Path)],
        args: &[&str],
    ) -> Result<MeasuredHost> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--metrics-address".into(), address.to_string()]);
        let options = HostOptions {
            program: guests::wasmop()?,
            packages: controllers.iter().map(|(_, package)| PathBuf::from(package)).collect(),
            kubeconfig: kubeconfig.to_owned(),
            state_dir: dir.join(format!("{name}-state")),
            suspend_after: None,
            args,
            env: Vec::new(),
            log: dir.join(format!("{name}.log")),
            output: None,
            current_dir: None,
            lifetime: Lifetime::Owned,
        };
        let mut host = Host::spawn(&options)?;
        let names: Vec<&str> = controllers.iter().map(|(name, _)| *name).collect();
        host.wait_ready(&names, READY)?;
        Ok(MeasuredHost { host, address })
    }

    pub fn log(&mut self) -> &mut Log {
        &mut self.host.log
    }

    pub fn memory(&self) -> Result<Memory> {
        process::memory(self.id()?)
    }

    pub fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.id()?)
    }

    /// The sums of these metrics over their labels.
    pub async fn metrics<const N: usize>(&self, names: [&str; N]) -> Result<[f64; N]> {
        let (status, text) = in_process_host::get(self.address, "/metrics").await?;
        ensure!(status == 200, "/metrics: {status} {text}");
        Ok(names.map(|name| {
            let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        }))
    }

    /// SIGTERM.
    pub fn stop(mut self) -> Result<()> {
        self.host.terminate()?;
        Ok(())
    }

    fn id(&self) -> Result<u32> {
        self.host.id().context("the host ended")
    }
}
