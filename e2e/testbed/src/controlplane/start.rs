//! Programs in, a running control plane and its admin kubeconfig out.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::{Binaries, separate};
use crate::process::Process;

/// How long a control plane may take until it answers.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the processes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the `ControlPlane` is dropped, or this process ends.
    Owned,
    /// Until somebody stops them; also past a Ctrl-C in the terminal.
    Detached,
}

/// A running control plane.
pub struct ControlPlane {
    /// Admin credentials.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:PORT`
    pub server: String,
    /// In the order in which they are to be stopped.
    pub(crate) processes: Vec<Process>,
    /// How to start it anew; `None`: not supported.
    pub(crate) bundled: Option<Bundled>,
}

/// The program with all components, and what it is started with.
pub(crate) struct Bundled {
    program: PathBuf,
    dir: PathBuf,
    lifetime: Lifetime,
    apiserver_flags: Vec<String>,
}

impl ControlPlane {
    /// Starts `binaries` with their files in `dir`, and returns when the API server is ready.
    pub fn start(binaries: &Binaries, dir: &Path, lifetime: Lifetime) -> Result<ControlPlane> {
        Self::start_with(binaries, dir, lifetime, &[])
    }

    /// With further flags of `kube-apiserver`, which must not have spaces.
    pub fn start_with(
        binaries: &Binaries,
        dir: &Path,
        lifetime: Lifetime,
        apiserver_flags: &[String],
    ) -> Result<ControlPlane> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        match binaries {
            Binaries::Bundled(program) => {
                let (program, dir, apiserver_flags) = (program.clone(), dir.to_owned(), apiserver_flags.to_vec());
                Bundled { program, dir, lifetime, apiserver_flags }.start(None)
            }
            Binaries::Separate { .. } => separate::start(binaries, dir, lifetime, apiserver_flags),
        }
    }

    pub fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Process::id).collect()
    }

    /// SIGKILL, whatever it is doing.
    pub fn kill(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::kill)
    }

    /// Starts it again, after [`ControlPlane::kill`], at the same address and with what it had stored. Its certificates
    /// are new; its CA and tokens are the old ones.
    pub fn start_again(&mut self) -> Result<()> {
        let bundled = self.bundled.take().context("a control plane of separate programs can't be started anew")?;
        let port = self.server.rsplit(':').next().and_then(|port| port.parse().ok()).context("no port")?;
        *self = bundled.start(Some(port))?;
        Ok(())
    }

    /// Leaves the processes running; only for `Lifetime::Detached`.
    pub fn detach(mut self) {
        self.processes.iter_mut().for_each(Process::detach);
    }

    pub fn stop(mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::stop)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // One after the other: an API server without its etcd takes long to end.
        for process in &mut self.processes {
            let _ = process.stop();
        }
    }
}

pub(crate) fn spawn(
    name: &'static str,
    mut command: Command,
    log: &Path,
    lifetime: Lifetime,
) -> Result<std::process::Child> {
    let log_file = fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
    if lifetime == Lifetime::Detached {
        command.process_group(0);
    }
    command
        .stderr(log_file)
        .spawn()
        .map_err(|error| anyhow!("{name} cannot be started: {}: {error}", command.get_program().display()))
}

impl Bundled {
    /// `port`: `None` for a free one.
    fn start(self, port: Option<u16>) -> Result<ControlPlane> {
        let Bundled { program, dir, lifetime, apiserver_flags } = &self;
        let kubeconfig = dir.join("kubeconfig");
        let log = dir.join("controlplane.log");
        let mut command = Command::new(program);
        command.arg("-dir").arg(dir).arg("-kubeconfig").arg(&kubeconfig).stdout(Stdio::piped());
        command.arg("-port").arg(port.unwrap_or_default().to_string());
        command.arg("-apiserver-args").arg(apiserver_flags.join(" "));
        if *lifetime == Lifetime::Owned {
            // Its end of the pipe closes however this process ends.
            command.arg("-until-stdin-closes").stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        let mut child = spawn("the control plane", command, &log, *lifetime)?;
        let stdout = child.stdout.take().expect("piped");
        let process = Process::new("control plane", child, STOP_TIMEOUT);

        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(server) = line.strip_prefix("READY ").and_then(|rest| rest.split(' ').next()) else {
            bail!("the control plane did not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
        };
        let server = server.to_owned();
        Ok(ControlPlane { kubeconfig, server, processes: vec![process], bundled: Some(self) })
    }
}
