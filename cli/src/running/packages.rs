//! Loads package files, from arguments and from the plan, for the controllers to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use wasmop_host::{Deployment, RefusedPackage};
use wasmop_package::Package;

use crate::config::Plan;
use crate::error::{HelpExt, failure, join_help, problem_and_help};
use crate::package_file::{self, Loaded};

/// The packages of the command line.
#[derive(Default)]
pub struct GivenPackages {
    packages: Vec<Package>,
    refused: Vec<Refused>,
}

/// A file that is not a valid package.
struct Refused {
    name: String,
    error: anyhow::Error,
}

impl GivenPackages {
    /// The names of their controllers.
    pub fn names(&self) -> Vec<String> {
        let packages = self.packages.iter().map(|package| package.manifest.name.clone());
        packages.chain(self.refused.iter().map(|refused| refused.name.clone())).collect()
    }
}

/// Reads packages. Two packages must not have the same name, since it also names their state.
pub fn load(files: &[PathBuf]) -> Result<GivenPackages> {
    // With the digest of a valid package.
    let mut named: BTreeMap<String, (&Path, Option<[u8; 32]>)> = BTreeMap::new();
    let mut given = GivenPackages::default();
    for file in files {
        let (name, loaded) = match package_file::load(file)? {
            Loaded::Package(package) => (package.manifest.name.clone(), Ok(*package)),
            Loaded::Refused { name, error } => (name.unwrap_or_else(|| stem(file)), Err(error)),
        };
        let digest = loaded.as_ref().ok().map(|package| package.digest);
        if let Some((other, other_digest)) = named.insert(name.clone(), (file, digest)) {
            let is_same = other == file || (digest.is_some() && digest == other_digest);
            let (message, help) = duplicate(&name, other, file, is_same);
            let of_other = || given.refused.into_iter().find(|refused| refused.name == name);
            return match loaded.err().or_else(|| Some(of_other()?.error)) {
                Some(refused) => Err(refused).or_help(message, help),
                None => Err(failure(message, help).into()),
            };
        }
        match loaded {
            Ok(package) => given.packages.push(package),
            Err(error) => given.refused.push(Refused { name, error }),
        }
    }
    Ok(given)
}

/// The problem and the remedy for two packages of one name.
fn duplicate(name: &str, first: &Path, second: &Path, is_same: bool) -> (String, String) {
    let (first, second) = (first.display(), second.display());
    if !is_same {
        return (
            format!("`{first}` and `{second}` are both named `{name}`"),
            format!(
                "leave one out, or name both in a file for --config: [controllers.{name}] with `package = \"{first}\"`, \
                 and [controllers.{name}-2] with `package = \"{second}\"`"
            ),
        );
    }
    let what = if first.to_string() == second.to_string() {
        format!("`{first}` is given twice")
    } else {
        format!("`{first}` and `{second}` are the same package, `{name}`")
    };
    (
        what,
        format!(
            "leave one out; to run it as two controllers, name them in a file for --config, like [controllers.{name}] \
             and [controllers.{name}-2], each with `package = \"{first}\"`"
        ),
    )
}

/// The name of a controller whose package has none: the file's.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// The packages of the command line, under their own names, and those of the plan. Invalid packages are reported
/// separately; if there are no others, the first one is an error.
pub fn deploy(given: GivenPackages, plan: &Plan) -> Result<(Vec<Deployment>, Vec<RefusedPackage>)> {
    let GivenPackages { packages, mut refused } = given;
    let mut packages: Vec<_> = packages.into_iter().map(|package| (package.manifest.name.clone(), package)).collect();
    for (name, file) in &plan.packages {
        match package_file::load(file)? {
            Loaded::Package(package) => packages.push((name.clone(), *package)),
            Loaded::Refused { error, .. } => refused.push(Refused { name: name.clone(), error }),
        }
    }
    if packages.is_empty() && !refused.is_empty() {
        return Err(refused.swap_remove(0).error);
    }
    let deployment = |(name, package): (String, Package)| {
        let settings = plan.settings.controllers.get(&name).cloned().unwrap_or_default();
        Deployment { name, package: Arc::new(package), settings }
    };
    let refused = refused.into_iter().map(|Refused { name, error }| {
        let (problem, help) = problem_and_help(&error);
        RefusedPackage { name, error: join_help(&problem, &help) }
    });
    Ok((packages.into_iter().map(deployment).collect(), refused.collect()))
}
