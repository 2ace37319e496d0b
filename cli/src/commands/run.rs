use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use wasmop_host::snapshot::Durability;
use wasmop_policy::{Policy, PolicyError};

use crate::config::{Flags, Policies};
use crate::logging::LogFormat;
use crate::{running, units};

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

    /// The kubeconfig file.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context to use of the kubeconfig [default: its current one].
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// Watch this namespace only [default: all].
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Where suspended controllers are kept [default: ~/.local/state/wasmop].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// When idle controllers are suspended: `adaptive` (by their history and what a resume costs),
    /// `immediate`, `after=DURATION` or `never`. `CONTROLLER=POLICY` is for one of them; may be given
    /// several times. Goes before what the packages say, if it names the controller [default: adaptive].
    #[arg(long, value_name = "[CONTROLLER=]POLICY", value_parser = PolicyFor::parse)]
    suspend_policy: Vec<PolicyFor>,

    /// The same as `--suspend-policy after=DURATION`, for all controllers, whatever their packages say.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "suspend_policy")]
    suspend_after: Option<Duration>,

    /// Memory that resident controllers may hold together, like `64MiB`; those whose suspending costs
    /// least go first [default: 60 % of the cgroup's limit, if there is one].
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    memory_budget: Option<u64>,

    /// Write down when controllers had something to do, for `wasmop policy simulate`.
    #[arg(long, value_name = "FILE")]
    record_trace: Option<PathBuf>,

    /// When snapshots are put on disk: `event` (after each suspend), `interval`, `interval=SECONDS` or
    /// `none` (when the kernel does). It decides what a crash of the machine may lose [default: event].
    #[arg(long, value_name = "WHEN", value_parser = durability)]
    durability: Option<Durability>,

    /// Encrypt snapshots with the 32 bytes in this file (raw, hexadecimal or base64).
    #[arg(long, value_name = "FILE")]
    encryption_key_file: Option<PathBuf>,

    /// Serve `/metrics`, `/healthz`, `/readyz` and a page with all controllers at this address, like
    /// `127.0.0.1:8080`; without a host (`:8080`) on all interfaces. There is no authentication
    /// [default: not served].
    #[arg(long, value_name = "[HOST]:PORT")]
    metrics_address: Option<String>,

    /// How log lines look, on stderr [default: text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Log more; twice or three times for still more. `WASMOP_LOG` takes a filter instead.
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; write it like `500ms` or `1s`"))
}

fn durability(text: &str) -> Result<Durability, String> {
    text.parse::<Durability>().map_err(|error| error.to_string())
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
        let mut policies = Policies { forced: self.suspend_after.map(Policy::After), ..Policies::default() };
        for PolicyFor { controller, policy } in self.suspend_policy {
            match controller {
                None => policies.all = Some(policy),
                Some(name) => drop(policies.named.insert(name, policy)),
            }
        }
        let flags = Flags {
            kubeconfig: self.kubeconfig,
            context: self.context,
            namespace: self.namespace,
            state_dir: self.state_dir,
            policies,
            memory_budget: self.memory_budget,
            record_trace: self.record_trace,
            durability: self.durability,
            encryption_key_file: self.encryption_key_file,
            metrics_address: self.metrics_address,
            log_format: self.log_format,
            verbose: self.verbose,
        };
        let request =
            running::Request { packages: self.packages, config: self.config, flags, learn: self.learn_permissions };
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(running::run(request))
    }
}
