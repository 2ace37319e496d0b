use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use wasmop_policy::{Policy, PolicyError};

use crate::config::{Flags, HostKeys, Policies};
use crate::{environment, running, units};

/// Run packages against a cluster, until SIGTERM or Ctrl-C.
///
/// Finds the cluster where kubectl does: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, then the
/// service account of the Pod it runs in. When it is told to stop, it suspends every controller to
/// the state directory, and the next run continues from there.
#[derive(Debug, Parser)]
pub struct Run {
    /// Packages, files that `wasmop build` made.
    #[arg(required_unless_present = "config", value_name = "PACKAGE")]
    packages: Vec<PathBuf>,

    /// A TOML file with all of this, packages, and what each controller is granted. Flags go before it.
    /// SIGHUP has it read again.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Allow controllers every well-formed request, and at the end print the `[[permissions]]` that each of
    /// them needed. What reaches further than an object, like `pods/exec`, is refused as ever.
    #[arg(long)]
    learn_permissions: bool,

    /// When idle controllers are suspended: `adaptive` (by their history and what a resume costs),
    /// `immediate`, `after=DURATION` or `never`. `CONTROLLER=POLICY` is for one of them; may be given
    /// several times. Goes before what the packages say, if it names the controller [default: adaptive].
    #[arg(long, value_name = "[CONTROLLER=]POLICY", value_parser = PolicyFor::parse)]
    suspend_policy: Vec<PolicyFor>,

    /// The same as `--suspend-policy after=DURATION`, for all controllers, whatever their packages say.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "suspend_policy")]
    suspend_after: Option<Duration>,

    /// Set an environment variable of all controllers, in place of what the configuration file and the packages
    /// say; may be given several times.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = environment::variable)]
    env: Vec<(String, String)>,

    /// Arguments of the controller, in place of the package's, if there is just one.
    #[arg(last = true, value_name = "ARGUMENT")]
    args: Vec<String>,

    #[command(flatten)]
    host: HostKeys,

    /// Log more; twice or three times for still more. `WASMOP_LOG` takes a filter instead.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// After the host has ended, threads that still run have so much time.
const LAST_THREADS: Duration = Duration::from_millis(100);

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; write it like `500ms` or `1s`"))
}

/// A policy, and for which controller if not for all.
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
        // All that matters has ended; a thread that resolves a name may wait for a silent server for a long time.
        runtime.shutdown_timeout(LAST_THREADS);
        result
    }
}
