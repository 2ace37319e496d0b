//! Package files, from arguments and from the plan, into controllers to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use wasmop_host::Deployment;
use wasmop_package::Package;

use crate::config::Plan;
use crate::error::failure;
use crate::package_file;

/// Reads packages; two may not have the same name, which is also that of their state.
pub fn load(files: &[PathBuf]) -> Result<Vec<Package>> {
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    let mut packages = Vec::new();
    for file in files {
        let package = package_file::load(file)?;
        let name = package.manifest.name.clone();
        if let Some(other) = names.insert(name.clone(), file) {
            return Err(failure(
                format!("`{}` and `{}` are both named `{name}`", other.display(), file.display()),
                "run one of them, or give one another name in its wasmop.toml and build it again",
            )
            .into());
        }
        packages.push(package);
    }
    Ok(packages)
}

/// The packages of the command line, under their own names, and those that the plan adds.
pub fn deploy(given: Vec<Package>, plan: &Plan) -> Result<Vec<Deployment>> {
    let mut packages: Vec<_> = given.into_iter().map(|package| (package.manifest.name.clone(), package)).collect();
    for (name, file) in &plan.packages {
        packages.push((name.clone(), package_file::load(file)?));
    }
    let deployment = |(name, package): (String, Package)| {
        let settings = plan.settings.controllers.get(&name).cloned().unwrap_or_default();
        Deployment { name, package: Arc::new(package), settings }
    };
    Ok(packages.into_iter().map(deployment).collect())
}
