//! Programs in, a running control plane out.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::component::Lifetime;
use super::locate::Binaries;
use super::running::{Bundled, ControlPlane};
use super::{start_bundled, start_separate};

impl ControlPlane {
    /// Starts `binaries` with their files in `dir`, and returns once the API server is ready.
    pub fn start(binaries: &Binaries, dir: &Path, lifetime: Lifetime) -> Result<ControlPlane> {
        Self::start_with(binaries, dir, lifetime, &[])
    }

    /// Starts with more flags of `kube-apiserver`, which must not contain spaces.
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
                start_bundled::start(Bundled { program, dir, lifetime, apiserver_flags }, None)
            }
            Binaries::Separate { .. } => start_separate::start(binaries, dir, lifetime, apiserver_flags),
        }
    }

    /// Restarts it after [`ControlPlane::kill`], at the same address and with the stored objects.
    ///
    /// Its certificates are new. Its CA and its tokens stay the same.
    pub fn start_again(&mut self) -> Result<()> {
        let bundled = self.bundled.take().context("a control plane of separate programs cannot be restarted")?;
        let port = self.server.rsplit(':').next().and_then(|port| port.parse().ok()).context("no port")?;
        *self = start_bundled::start(bundled, Some(port))?;
        Ok(())
    }
}
