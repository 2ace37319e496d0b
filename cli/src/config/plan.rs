//! Combines flags and the configuration file into one plan. Flags take precedence over the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use wasmop_core::election::Group;
use wasmop_core::permissions::Grant;
use wasmop_core::watch::{LimitPlace, NamespaceLimit};
use wasmop_host::{ControllerSettings, Settings};
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_vm::wasi::WasiGrant;

use super::wasi::WasiKeys;
use super::{Config, Controller, ControllerKeys, HostKeys};
use crate::error::{Failure, failure};
use crate::logging;

/// The flags of `wasmop run`.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub host: HostKeys,
    pub policies: Policies,
    /// For all controllers.
    pub env: BTreeMap<String, String>,
    /// For the only controller; empty: not given.
    pub args: Vec<String>,
}

/// The suspend policies of the command line that take precedence over `[controllers.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// For all controllers.
    pub forced: Option<Policy>,
    pub named: BTreeMap<String, Policy>,
}

/// What a host runs, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Flags and the file together.
    pub host: HostKeys,
    /// As many `-v` flags.
    pub verbose: u8,
    /// The most that any controller may have.
    pub limits: Limits,
    /// Controllers whose package the file names.
    pub packages: BTreeMap<String, PathBuf>,
    /// Flags and the file together, for every controller.
    controllers: BTreeMap<String, ControllerKeys>,
    /// The hosts it shares controllers with, if any.
    pub election: Option<Group>,
    /// The settings that a running host can change.
    pub settings: Settings,
}

impl Plan {
    /// `given` are the names of the packages on the command line. `default_budget` is the memory budget if neither
    /// flags nor the file have one.
    pub fn new(flags: &Flags, config: &Config, given: &[String], default_budget: Option<u64>) -> Result<Plan, Failure> {
        let packages = packages(config, given)?;
        let names: BTreeSet<&String> = packages.keys().chain(given).collect();
        check_names(flags, &names)?;
        let controllers: BTreeMap<String, ControllerKeys> = names
            .into_iter()
            .map(|name| (name.clone(), controller_keys(flags, name, config.controllers.get(name))))
            .collect();
        let host = flags.host.clone().or(config.host.clone());
        let namespaces = NamespaceLimit {
            names: unique(host.namespace.as_deref().unwrap_or_default()).into(),
            said_in: if flags.host.namespace.is_none() { LimitPlace::File } else { LimitPlace::Flag },
        };
        let verbose = host.verbose.unwrap_or_default();
        let settings = Settings {
            policy: host.suspend_policy.unwrap_or_default(),
            memory_budget: host.memory_budget.or(default_budget),
            cache_memory: host.cache_memory,
            guest_log_level: logging::guest_level(verbose),
            controllers: controllers
                .iter()
                .map(|(name, keys)| (name.clone(), controller_settings(keys, &namespaces)))
                .collect(),
        };
        let limits = host.limits.as_ref().map_or(Limits::NONE, |limits| limits.over(Limits::NONE));
        Ok(Plan { election: host.election_group()?, host, verbose, limits, packages, controllers, settings })
    }

    /// The keys of the file that differ from `running` and need a restart of the host.
    pub fn needs_restart(&self, running: &Plan) -> Vec<String> {
        let mut keys = self.host.restart_keys(&running.host);
        let names: BTreeSet<_> = self.packages.keys().chain(running.packages.keys()).collect();
        for name in names {
            match (self.packages.get(name), running.packages.get(name)) {
                (Some(now), Some(before)) if now == before => {}
                (Some(_), Some(_)) => keys.push(format!("controllers.{name}.package")),
                // It is new, or gone.
                _ => keys.push(format!("controllers.{name}")),
            }
        }
        for (name, controller) in &self.controllers {
            let Some(before) = running.controllers.get(name) else { continue };
            keys.extend(controller.restart_keys(before).into_iter().map(|key| format!("controllers.{name}.{key}")));
        }
        keys
    }
}

/// The packages that the file names. A package on the command line takes precedence over one of the same name.
fn packages(config: &Config, given: &[String]) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut packages = BTreeMap::new();
    for (name, Controller { place, keys }) in &config.controllers {
        match &keys.package {
            _ if given.contains(name) => {}
            Some(package) => drop(packages.insert(name.clone(), package.clone())),
            None => {
                return Err(failure(
                    format!(
                        "{place}: [controllers.{name}] has no `package`, and no package on the command line has that name"
                    ),
                    "add `package = \"FILE\"`, relative to the configuration file, or give the package as an argument",
                ));
            }
        }
    }
    Ok(packages)
}

/// Refuses flags that do not fit the names of the controllers.
fn check_names(flags: &Flags, names: &BTreeSet<&String>) -> Result<(), Failure> {
    if names.is_empty() {
        return Err(failure(
            "there is no package to run",
            "name packages as arguments, or in the configuration file as [controllers.NAME] with `package = \"FILE\"`",
        ));
    }
    if let Some(unknown) = flags.policies.named.keys().find(|name| !names.contains(name)) {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        return Err(failure(
            format!("--suspend-policy names the controller `{unknown}`, and no package has that name"),
            format!("the packages are {}", names.join(", ")),
        ));
    }
    if !flags.args.is_empty() && names.len() != 1 {
        return Err(failure(
            format!("arguments after `--` are for one controller, and there are {}", names.len()),
            "give each its `args` under [controllers.NAME] in the configuration file",
        ));
    }
    Ok(())
}

/// Flags and the file together for one controller.
fn controller_keys(flags: &Flags, name: &str, in_file: Option<&Controller>) -> ControllerKeys {
    let of_flags = ControllerKeys {
        suspend_policy: flags.policies.forced.or_else(|| flags.policies.named.get(name).copied()),
        args: (!flags.args.is_empty()).then(|| flags.args.clone()),
        ..ControllerKeys::default()
    };
    let mut keys = of_flags.or(in_file.map(|controller| controller.keys.clone()).unwrap_or_default());
    // Each variable takes precedence by itself.
    keys.env.get_or_insert_default().extend(flags.env.clone());
    keys
}

/// `namespaces` are those of the host.
fn controller_settings(keys: &ControllerKeys, namespaces: &NamespaceLimit) -> ControllerSettings {
    let grant: Grant = keys.to_grant();
    let wasi = keys.wasi.as_ref().map(WasiKeys::to_grant).filter(|wasi| *wasi != WasiGrant::default());
    ControllerSettings {
        policy: keys.suspend_policy,
        grant,
        wasi: wasi.map(Into::into),
        env: keys.env.clone().unwrap_or_default(),
        args: keys.args.clone(),
        log_level: keys.log_level,
        namespaces: match &keys.namespace {
            Some(names) => NamespaceLimit { names: names.clone().into(), said_in: LimitPlace::Controller },
            None => namespaces.clone(),
        },
    }
}

fn unique(names: &[String]) -> Vec<String> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
