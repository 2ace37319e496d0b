//! A project: a directory with a `wasmop.toml`, which is the same for every language.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wasmop_package::external::HostPattern;
use wasmop_package::manifest::{Language, Limits, PolicyRule, Toolchain};
use wasmop_policy::Policy;

use crate::error::{HelpExt, failure};

pub mod build_options;
pub mod crds;
mod file;
mod language;

pub use build_options::BuildOptions;
pub use language::{builds, default_toolchain, language_name, language_of, toolchain_name};

/// The project file's name.
pub const FILE_NAME: &str = "wasmop.toml";

/// A project: its directory and the checked contents of its `wasmop.toml`.
#[derive(Debug)]
pub struct Project {
    dir: PathBuf,
    /// `wasmop.toml`, as shown in errors.
    file: PathBuf,
    pub name: String,
    pub version: String,
    pub language: Language,
    pub toolchain: Toolchain,
    /// The cargo binary to build; the only one if not given.
    pub bin: Option<String>,
    /// The cargo example to build in place of a binary.
    pub example: Option<String>,
    /// Globs of the project's own port rules for crates.
    pub port: Vec<String>,
    /// The Go main package, relative to the project's directory.
    pub package: String,
    /// Options for the compiler.
    pub options: BuildOptions,
    /// The component that `command` makes, relative to the project's directory.
    pub component: String,
    /// A program and its arguments, run in the project's directory; may be empty.
    pub command: Vec<String>,
    pub permissions: Vec<PolicyRule>,
    pub external_hosts: Vec<HostPattern>,
    pub limits: Limits,
    /// When it is suspended, unless its owner decides.
    pub suspend_policy: Option<Policy>,
    /// Its environment variables; those of its owner take precedence.
    pub env: BTreeMap<String, String>,
    /// Its arguments, unless its owner gives some.
    pub args: Vec<String>,
    /// Globs, relative to the project's directory.
    crds: Vec<String>,
    /// A program that prints CustomResourceDefinitions, and its arguments; may be empty.
    crds_command: Vec<String>,
}

impl Project {
    /// Reads the project in `dir`.
    pub fn load(dir: &Path) -> Result<Project> {
        let file = if dir == Path::new(".") { PathBuf::from(FILE_NAME) } else { dir.join(FILE_NAME) };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !dir.exists() => {
                return Err(failure(
                    format!("there is no directory `{}`", dir.display()),
                    "give the directory of a project, one with a `wasmop.toml`",
                )
                .into());
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                let problem =
                    format!("`{}` is not there, so `{}` is not a wasmop project", file.display(), dir.display());
                return Err(failure(problem, how_to_get_a_project(dir)).into());
            }
            Err(error) => {
                return Err(error)
                    .or_help(format!("cannot read `{}`", file.display()), "it must be a file you may read, in UTF-8");
            }
        };
        Project::from_text(dir, file, &text)
    }

    /// Reads the text of a project file. Errors name it as `file`.
    pub fn from_text(dir: &Path, file: PathBuf, text: &str) -> Result<Project> {
        let absolute = std::path::absolute(dir).with_context(|| format!("cannot find `{}`", dir.display()))?;
        Ok(file::parse(absolute, file, text)?)
    }

    /// The project's directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `<project>/target/wasmop`, the directory for the package and intermediate files. Creates it.
    pub fn work_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("target").join("wasmop");
        std::fs::create_dir_all(&dir).or_help(
            format!("cannot make the directory `{}`", dir.display()),
            "the project's directory must be writable",
        )?;
        Ok(dir)
    }
}

/// The remedy for a directory without a project file.
fn how_to_get_a_project(dir: &Path) -> String {
    if !["Cargo.toml", "go.mod"].iter().any(|name| dir.join(name).is_file()) {
        return "run this in a project's directory or name one; `wasmop new` makes a project".to_owned();
    }
    let command =
        if dir == Path::new(".") { "wasmop init".to_owned() } else { format!("wasmop init {}", dir.display()) };
    format!("`{command}` writes one for this project")
}
