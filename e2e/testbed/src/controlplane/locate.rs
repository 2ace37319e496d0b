//! Locates the programs of a control plane: in the environment, otherwise the bundled one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::bundle;

/// Programs to start a control plane with.
#[derive(Clone, Debug)]
pub enum Binaries {
    /// The bundled program, which contains all components.
    Bundled(PathBuf),
    /// `etcd`, `kube-apiserver` and `kubectl` as separate programs.
    Separate { etcd: PathBuf, kube_apiserver: PathBuf, kubectl: PathBuf },
}

/// Finds programs, or builds the bundled one, which takes minutes the first time. `progress` gets messages about the
/// build.
pub fn find(progress: &mut dyn FnMut(&str)) -> Result<Binaries> {
    if let Some(dir) = env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty()) {
        return Binaries::in_directory(Path::new(&dir))
            .context("KUBEBUILDER_ASSETS is set, but cannot be used\nhelp: unset it to use the bundled control plane");
    }
    if let (Some(etcd), Some(kube_apiserver), Some(kubectl)) =
        (on_path("etcd"), on_path("kube-apiserver"), on_path("kubectl"))
    {
        return Ok(Binaries::Separate { etcd, kube_apiserver, kubectl });
    }
    Ok(Binaries::Bundled(bundle::ensure(progress)?))
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

impl Binaries {
    /// The programs of a directory laid out as for controller-runtime's envtest.
    pub fn in_directory(dir: &Path) -> Result<Binaries> {
        let program = |name: &str| {
            let path = dir.join(name);
            if !path.is_file() {
                bail!("{} is not a file", path.display());
            }
            Ok(path)
        };
        Ok(Binaries::Separate {
            etcd: program("etcd")?,
            kube_apiserver: program("kube-apiserver")?,
            kubectl: program("kubectl")?,
        })
    }

    /// Whether a controller manager collects garbage and creates the Pods of workloads.
    pub fn has_controller_manager(&self) -> bool {
        matches!(self, Binaries::Bundled(_))
    }

    /// `kubectl`, of the same version as a bundled control plane.
    pub fn kubectl(&self) -> Command {
        match self {
            Binaries::Bundled(program) => {
                let mut command = Command::new(program);
                command.arg("kubectl");
                command
            }
            Binaries::Separate { kubectl, .. } => Command::new(kubectl),
        }
    }

    /// Links the programs into `dir`, which other suites can use as KUBEBUILDER_ASSETS.
    pub fn link_into(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let links: Vec<(&str, &Path)> = match self {
            Binaries::Bundled(program) => ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]
                .map(|name| (name, program.as_path()))
                .to_vec(),
            Binaries::Separate { etcd, kube_apiserver, kubectl } => {
                vec![("etcd", etcd), ("kube-apiserver", kube_apiserver), ("kubectl", kubectl)]
            }
        };
        for (name, target) in links {
            let link = dir.join(name);
            if link.symlink_metadata().is_ok() {
                std::fs::remove_file(&link).with_context(|| format!("replacing {}", link.display()))?;
            }
            std::os::unix::fs::symlink(target, &link).with_context(|| format!("creating {}", link.display()))?;
        }
        Ok(())
    }
}
