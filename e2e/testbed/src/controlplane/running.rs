//! A running control plane: its processes and its admin kubeconfig.

use std::path::PathBuf;

use anyhow::Result;

use super::component::Lifetime;
use crate::process::Process;

/// A running control plane.
pub struct ControlPlane {
    /// The kubeconfig of an administrator.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:PORT`
    pub server: String,
    /// The processes, in the order in which they must be stopped.
    pub(crate) processes: Vec<Process>,
    /// What a restart needs. `None` if this control plane cannot be restarted.
    pub(crate) bundled: Option<Bundled>,
}

/// The bundled program, and its arguments.
pub(crate) struct Bundled {
    pub program: PathBuf,
    pub dir: PathBuf,
    pub lifetime: Lifetime,
    pub apiserver_flags: Vec<String>,
}

impl ControlPlane {
    pub fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Process::id).collect()
    }

    /// Sends SIGKILL to every process.
    pub fn kill(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::kill)
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
        // In order: an API server without its etcd takes long to stop.
        for process in &mut self.processes {
            let _ = process.stop();
        }
    }
}
