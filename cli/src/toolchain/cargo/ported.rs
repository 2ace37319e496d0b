//! The crates that cargo builds from ported copies.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Package;
use semver::Version;

use super::config;
use super::failed;
use super::graph::Graph;
use crate::error::failure;
use crate::toolchain::port::{self, Port, Ruling};

/// A crate that cargo builds from a ported copy.
pub struct Ported {
    name: String,
    version: String,
    copy: PathBuf,
    /// It lacks functions in another language.
    pub traps: bool,
}

impl fmt::Display for Ported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.version)
    }
}

impl Ported {
    /// Whether it is the crate of this name and version.
    pub fn is(&self, name: &str, version: &Version) -> bool {
        name == self.name && version.to_string() == self.version
    }

    /// The arguments that make cargo use the copy. Each has its own key, since a build may have several versions of one
    /// crate.
    pub fn arguments(&self) -> [OsString; 4] {
        let key = format!("patch.crates-io.wasmop-{}-{}", self.name, self.version.replace(['.', '+'], "-"));
        let package = toml::Value::String(self.name.clone());
        let package = format!("{key}.package={package}");
        ["--config".into(), package.into(), "--config".into(), config(&format!("{key}.path"), &self.copy)]
    }
}

/// The crates that the build needs in another version, and the rules for that version.
pub fn other_versions<'a>(graph: &'a Graph, known: &'a [Port], build: port::Build<'_>) -> Vec<(&'a Package, &'a Port)> {
    let reachable = graph.reachable().into_iter();
    let replaced = reachable.filter_map(|package| {
        match port::rules_for(known, package.name.as_str(), &package.version, build.unmodified) {
            Ok(Ruling::Replace(port)) => Some((package, port)),
            _ => None,
        }
    });
    replaced.collect()
}

/// Creates the ported copies in `dir`.
pub fn port_crates(graph: &Graph, known: &[Port], dir: &Path, build: port::Build<'_>) -> Result<Vec<Ported>> {
    let mut ported: Vec<Ported> = Vec::new();
    for package in graph.reachable() {
        let name = package.name.as_str();
        let port = match port::rules_for(known, name, &package.version, build.unmodified) {
            Ok(Ruling::AsIs) => continue,
            Ok(Ruling::Apply(port) | Ruling::Replace(port)) => port,
            Err(unknown) => return Err(failed::by_version(graph, package, &unknown).into()),
        };
        if !package.source.as_ref().is_some_and(|source| source.is_crates_io()) {
            return Err(failure(
                format!("{port} comes from {}, not from crates.io", package.manifest_path),
                format!("wasmop builds it for wasm with its own patch: remove yours for `{name}` (see [patch.crates-io] in Cargo.toml)"),
            )
            .into());
        }
        let version = package.version.to_string();
        let source = package.manifest_path.parent().context("a manifest has a directory")?.as_std_path();
        let copy = dir.join(port.copy_name(&package.version, build));
        port.apply(source, &package.version, &copy, build)?;
        ported.push(Ported { name: name.to_owned(), version, copy, traps: port.traps });
    }
    Ok(ported)
}
