use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use wasmop_host::snapshot::Durability;
use wasmop_host::snapshot::seal::SealKey;

use crate::logging::{self, LogFormat};
use crate::{running, state_dir, units};

/// Run packages against a cluster, until SIGTERM or Ctrl-C.
///
/// Finds the cluster where kubectl does: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, then the
/// service account of the Pod it runs in. When it is told to stop, it suspends every controller to
/// the state directory, and the next run continues from there.
#[derive(Debug, Parser)]
pub struct Run {
    /// Packages, files that `wasmop build` made.
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<PathBuf>,

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

    /// Suspend a controller that has been idle for this long, like `1s` or `500ms`.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    suspend_after: Duration,

    /// When snapshots are put on disk: `event` (after each suspend), `interval`, `interval=SECONDS` or
    /// `none` (when the kernel does). It decides what a crash of the machine may lose.
    #[arg(long, value_name = "WHEN", default_value = "event", value_parser = durability)]
    durability: Durability,

    /// Encrypt snapshots with the 32 bytes in this file (raw, hexadecimal or base64).
    #[arg(long, value_name = "FILE")]
    encryption_key_file: Option<PathBuf>,

    /// How log lines look, on stderr.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,

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

impl Run {
    pub fn run(self) -> Result<()> {
        logging::start(self.log_format, self.verbose)?;
        let packages = running::load_packages(&self.packages)?;
        let state_dir = match self.state_dir {
            Some(dir) => dir,
            None => state_dir::default_dir()?,
        };
        let request = running::Request {
            packages,
            kubeconfig: self.kubeconfig,
            context: self.context,
            namespace: self.namespace,
            state_dir,
            suspend_after: self.suspend_after,
            durability: self.durability,
            encryption_key: self.encryption_key_file.as_deref().map(SealKey::read).transpose()?,
        };
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(running::run(request))
    }
}
