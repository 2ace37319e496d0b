use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use wasmop_policy::{Policy, PolicyError};

use crate::config::{Flags, HostKeys, Policies};
use crate::{environment, running, units};

/// Run packages against a cluster, until SIGTERM or Ctrl-C.
///
/// Looks for the cluster where kubectl does: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, then the
/// service account of its own Pod. On shutdown it suspends every controller to the state
/// directory, and the next run continues from there.
#[derive(Debug, Parser)]
pub struct Run {
    /// Packages, files that `wasmop build` made.
    #[arg(required_unless_present = "config", value_name = "PACKAGE")]
    packages: Vec<PathBuf>,

    /// A TOML file with settings, packages, and a grant for each controller. Flags take precedence over it.
    /// On SIGHUP the host reads it again.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Allow every well-formed request, and at the end print the `[[permissions]]` that each controller
    /// needed. Broader requests, such as `pods/exec`, stay denied.
    #[arg(long)]
    learn_permissions: bool,

    /// When to suspend idle controllers: `adaptive` (by their history and the cost of a resume),
    /// `immediate`, `after=DURATION` or `never`. `CONTROLLER=POLICY` sets it for one controller and takes
    /// precedence over its package. May be given several times [default: adaptive].
    #[arg(long, value_name = "[CONTROLLER=]POLICY", value_parser = PolicyFor::parse)]
    suspend_policy: Vec<PolicyFor>,

    /// The same as `--suspend-policy after=DURATION` for all controllers. It takes precedence over the packages.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "suspend_policy")]
    suspend_after: Option<Duration>,

    /// Set an environment variable for all controllers. It takes precedence over the configuration file and the
    /// packages. May be given several times.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = environment::variable)]
    env: Vec<(String, String)>,

    /// Arguments for the controller, in place of the package's. Only with a single controller.
    #[arg(last = true, value_name = "ARGUMENT")]
    args: Vec<String>,

    #[command(flatten)]
    host: HostKeys,

    /// Log more; up to three times. `WASMOP_LOG` takes a filter instead.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// How long the runtime waits for its threads after the host has ended.
const LAST_THREADS: Duration = Duration::from_millis(100);

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; write it like `500ms` or `1s`"))
}

/// A policy, for one controller or for all.
#[derive(Clone, Debug)]
struct PolicyFor {
    controller: Option<String>,
    policy: Policy,
}

impl PolicyFor {
    fn parse(text: &str) -> Result<PolicyFor, String> {
        let whole = match text.parse() {
            Ok(policy) => return Ok(PolicyFor { controller: None, policy }),
            Err(error) => error,
        };
        // `after=soon` is a bad policy, not one of a controller named `after`.
        let named = text.split_once('=').filter(|(controller, _)| *controller != "after");
        let (controller, policy) = named.ok_or_else(|| PolicyError::to_string(&whole))?;
        let policy = policy.parse().map_err(|error: PolicyError| error.to_string())?;
        Ok(PolicyFor { controller: Some(controller.into()), policy })
    }
}

impl Run {
    pub fn run(self) -> Result<()> {
        let mut host = self.host;
        host.verbose = (self.verbose > 0).then_some(self.verbose);
        let mut policies = Policies { forced: self.suspend_after.map(Policy::After), ..Policies::default() };
        for PolicyFor { controller, policy } in self.suspend_policy {
            match controller {
                None => host.suspend_policy = Some(policy),
                Some(name) => drop(policies.named.insert(name, policy)),
            }
        }
        let flags = Flags { host, policies, env: self.env.into_iter().collect(), args: self.args };
        let request =
            running::Request { packages: self.packages, config: self.config, flags, learn: self.learn_permissions };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
        let result = runtime.block_on(running::run(request));
        // A thread that resolves a host name may wait for a silent server. Nothing needs its result now.
        runtime.shutdown_timeout(LAST_THREADS);
        result
    }
}
