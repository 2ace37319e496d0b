//! Builds a project's sources into a core WebAssembly module or a component, with the project's toolchain.
//!
//! Each toolchain is one file with one function, `build_core`. It finds the tool, or explains how to install it. It runs
//! the tool through [`Request::run`], and reads the module.

mod advice;
mod cargo;
mod component;
mod go;
mod port;
mod tinygo;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use wasmop_package::manifest::{Mode, Sdk, Toolchain};

use crate::error::{Failure, failure};
use crate::output::Step;
use crate::process;
use crate::project::Project;
use crate::scaffold::SDK_DIR;

/// The input of a toolchain.
pub struct Request<'a> {
    pub project: &'a Project,
    /// Keep function names and DWARF, for traps that show file and line.
    pub debug: bool,
    /// The running step, for progress messages.
    pub step: &'a Step,
}

/// Finds the dependency that is to blame for a symptom of a module.
pub type Blame = Box<dyn Fn(&str) -> Option<Failure>>;

/// The output of a toolchain.
pub struct Core {
    /// The core module, for `wasm32-wasip1`; or a component of the controller world.
    pub module: Vec<u8>,
    /// The SDK of the project, as locked.
    pub sdk: Sdk,
    /// Whose loop runs the reconciles.
    pub mode: Mode,
    /// Why it is the program's, if it could have been the host's.
    pub mode_reason: Option<String>,
    /// The program does not use an SDK of wasmop.
    pub unmodified: bool,
    /// Finds the dependency that keeps the module from working, by an import of the module or by its error.
    pub blame: Option<Blame>,
}

impl Request<'_> {
    /// The project's directory, absolute. The tools run there.
    pub fn dir(&self) -> &Path {
        self.project.dir()
    }

    /// `<project>/target/wasmop`, for intermediate files. Creates it.
    pub fn work_dir(&self) -> Result<std::path::PathBuf> {
        self.project.work_dir()
    }

    /// Runs a tool and returns its stdout. The last line of its stderr is the progress; all of it is shown if the tool
    /// fails. An interrupt kills the tool.
    pub fn run(&self, command: &mut Command) -> Result<Vec<u8>> {
        process::run(command, self.step)
    }
}

/// Checks that the copy of the SDK that `manifest` refers to exists. A `.gitignore` of hidden files leaves it out.
fn need_sdk_copy(dir: &Path, manifest: &str, language: &str) -> Result<()> {
    let copy = Path::new(SDK_DIR).join(language);
    let refers = std::fs::read_to_string(dir.join(manifest)).is_ok_and(|text| text.contains(&*copy.to_string_lossy()));
    if !refers || dir.join(&copy).is_dir() {
        return Ok(());
    }
    Err(failure(
        format!("the SDK that {manifest} refers to is not there: `{}`", dir.join(copy).display()),
        format!(
            "it is meant to be committed with the project (`git add -f {SDK_DIR}`); `wasmop new NAME --lang {language} --path DIR` makes another copy, in DIR/{SDK_DIR}"
        ),
    )
    .into())
}

/// Builds the project's sources.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    match request.project.toolchain {
        Toolchain::Cargo => cargo::build_core(request),
        Toolchain::Go => go::build_core(request),
        Toolchain::Tinygo => tinygo::build_core(request),
        Toolchain::Component => component::build_core(request),
    }
}
