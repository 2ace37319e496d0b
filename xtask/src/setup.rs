//! Installs what a fresh clone lacks: parts of the toolchain, the control plane, tools of the tests, and on request TinyGo
//! and componentize-py.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use wasmop_testbed::controlplane::{self, Binaries};

use crate::cargo_tool::{DENY, MACHETE};
use crate::{command, componentize_py, repository, tinygo};

/// Targets of guests and of test components with WASI.
const WASM_TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

#[derive(Args)]
pub struct Setup {
    /// Also find TinyGo on PATH or build it (installs Debian packages)
    #[arg(long)]
    tinygo: bool,
    /// Also find componentize-py, for the test component in Python, on PATH or install it from the Python package index
    #[arg(long)]
    componentize_py: bool,
}

impl Setup {
    /// Runs it, with a line for each thing on stdout.
    ///
    /// # Errors
    ///
    /// Something is missing and cannot be installed.
    pub fn run(self) -> Result<()> {
        toolchain()?;
        println!(
            "toolchain       {}",
            command::output(Command::new("rustc").arg("--version").current_dir(repository::root()))?.trim()
        );
        let binaries = control_plane()?;
        let assets = repository::target().join("kubebuilder-assets");
        binaries.link_into(&assets)?;
        println!("control plane   {}   (as KUBEBUILDER_ASSETS: {})", describe(&binaries).display(), assets.display());
        for tool in [DENY, MACHETE] {
            println!("{:<15} {}", tool.name, tool.install()?.display());
        }
        if self.tinygo {
            println!("tinygo          {}", tinygo::ensure(repository::root())?.display());
        }
        if self.componentize_py {
            let folder = componentize_py::folder(true)?;
            println!("componentize-py {}", folder.map_or("on PATH".into(), |folder| folder.display().to_string()));
        }
        Ok(())
    }
}

fn describe(binaries: &Binaries) -> PathBuf {
    match binaries {
        Binaries::Bundled(program) => program.clone(),
        Binaries::Separate { kube_apiserver, .. } => kube_apiserver.clone(),
    }
}

/// Makes sure that guests can be compiled. `rust-toolchain.toml` names the targets, and rustup installs them unless
/// `RUSTUP_AUTO_INSTALL=0` is set.
///
/// # Errors
///
/// A target is missing and rustup cannot install it.
pub fn toolchain() -> Result<()> {
    WASM_TARGETS.into_iter().try_for_each(target)
}

fn target(name: &str) -> Result<()> {
    let libdir = command::output(
        Command::new("rustc").args(["--print", "target-libdir", "--target", name]).current_dir(repository::root()),
    )
    .context("asking rustc for its targets")?;
    if PathBuf::from(libdir.trim()).is_dir() {
        return Ok(());
    }
    command::run(Command::new("rustup").args(["target", "add", name]).current_dir(repository::root())).with_context(
        || format!("the target {name} is missing\nhelp: install it for the toolchain that rust-toolchain.toml names"),
    )
}

/// Finds the control plane or builds it.
///
/// # Errors
///
/// It cannot be built.
pub fn control_plane() -> Result<Binaries> {
    controlplane::find(&mut |line| eprintln!("{line}"))
}
