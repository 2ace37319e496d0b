//! Flags and a configuration file into one plan. A flag goes before the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use wasmop_core::election::Group;
use wasmop_core::permissions::Grant;
use wasmop_core::watch::{LimitPlace, NamespaceLimit};
use wasmop_host::{ControllerSettings, Settings};
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_vm::wasi::WasiGrant;

use super::{Config, HostKeys};
use crate::error::{Failure, failure};
use crate::logging;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub host: HostKeys,
    pub policies: Policies,
    pub verbose: u8,
    /// For all controllers.
    pub env: BTreeMap<String, String>,
    /// For the only controller; empty: not given.
    pub args: Vec<String>,
}

/// When controllers are suspended.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    pub all: Option<Policy>,
    /// Whatever anybody else says.
    pub forced: Option<Policy>,
    pub named: BTreeMap<String, Policy>,
}

/// What a host is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub host: HostKeys,
    pub verbose: u8,
    /// No controller has more.
    pub limits: Limits,
    /// Controllers whose package the file names.
    pub packages: BTreeMap<String, PathBuf>,
    /// The hosts it shares controllers with, if any.
    pub election: Option<Group>,
    /// For all controllers.
    pub settings: Settings,
}

impl Plan {
    /// `given`: names of the packages on the command line. `default_budget`: for when nobody says.
    pub fn new(flags: &Flags, config: &Config, given: &[String], default_budget: Option<u64>) -> Result<Plan, Failure> {
        let given: BTreeSet<&String> = given.iter().collect();
        let mut packages = BTreeMap::new();
        for (name, controller) in &config.controllers {
            match &controller.package {
                // The one on the command line goes before it.
                _ if given.contains(name) => {}
                Some(package) => drop(packages.insert(name.clone(), package.clone())),
                None => {
                    return Err(failure(
                        format!(
                            "{}: [controllers.{name}] has no `package`, and no package on the command line has that name",
                            controller.place
                        ),
                        "add `package = \"FILE\"`, relative to the configuration file, or give the package as an argument",
                    ));
                }
            }
        }
        let names: BTreeSet<&String> = packages.keys().chain(given).collect();
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
        let host = flags.host.or(&config.host);
        let namespaces: BTreeSet<String> = host.namespace.iter().cloned().collect();
        let namespaces = NamespaceLimit {
            names: namespaces.into_iter().collect(),
            said_in: if flags.host.namespace.is_empty() { LimitPlace::File } else { LimitPlace::Flag },
        };
        let controllers = names.into_iter().map(|name| {
            let of_file = config.controllers.get(name);
            let of_flags = flags.policies.forced.or_else(|| flags.policies.named.get(name).copied());
            let policy = of_flags.or_else(|| of_file?.suspend_policy);
            let grant = of_file.map_or_else(Grant::all, |controller| controller.grant.clone());
            let wasi = of_file.map(|controller| &controller.wasi).filter(|wasi| **wasi != WasiGrant::default());
            let mut env = of_file.map(|controller| controller.env.clone()).unwrap_or_default();
            env.extend(flags.env.clone());
            let of_flags = (!flags.args.is_empty()).then(|| flags.args.clone());
            let settings = ControllerSettings {
                policy,
                grant,
                wasi: wasi.cloned().map(Into::into),
                env,
                args: of_flags.or_else(|| of_file?.args.clone()),
                log_level: of_file.and_then(|controller| controller.log_level),
                namespaces: match of_file {
                    Some(controller) if !controller.namespaces.is_empty() => {
                        NamespaceLimit { names: controller.namespaces.clone().into(), said_in: LimitPlace::Controller }
                    }
                    _ => namespaces.clone(),
                },
            };
            (name.clone(), settings)
        });
        let verbose = match flags.verbose {
            0 => config.verbose.unwrap_or_default(),
            verbose => verbose,
        };
        let settings = Settings {
            policy: flags.policies.all.or(config.suspend_policy).unwrap_or_default(),
            memory_budget: host.memory_budget.or(default_budget),
            cache_memory: host.cache_memory,
            guest_log_level: logging::guest_level(verbose),
            controllers: controllers.collect(),
        };
        Ok(Plan {
            election: host.election.group()?,
            host,
            verbose,
            limits: config.limits.unwrap_or(Limits::NONE),
            packages,
            settings,
        })
    }
}

#[cfg(test)]
mod tests;
