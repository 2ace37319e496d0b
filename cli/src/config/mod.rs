//! The host's configuration: a file and the flags of `wasmop run` into what the host is to do.
//!
//! ```text
//! file ── read ──► Config ─┐
//! flags ───────────────────┴─ plan ──► Plan ── running ──► a host
//!                                        └──── reload ───► what changes at SIGHUP, and what needs a restart
//! ```

mod election;
mod external;
mod namespaces;
mod plan;
mod read;
mod reload;
mod wasi;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use wasmop_core::permissions::Grant;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_snapshot::Durability;
use wasmop_vm::wasi::WasiGrant;

pub use plan::{Flags, Plan, Policies};
pub use read::load;

use self::election::ElectionKeys;
use crate::logging::LogFormat;
use crate::units;

/// What both the command line and the file can say of a host. In a file paths are relative to it; here they are
/// absolute.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct HostKeys {
    /// The kubeconfig file.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context to use of the kubeconfig [default: its current one].
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,

    /// Watch this namespace only, of kinds that have namespaces; several by commas, or given several times
    /// [default: all].
    #[arg(long, short, value_name = "NAMESPACE", value_delimiter = ',', value_parser = namespaces::parse)]
    pub namespace: Vec<String>,

    /// Where suspended controllers are kept [default: ~/.local/state/wasmop].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Memory that resident controllers may hold together, like `64MiB`; those whose suspending costs
    /// least go first [default: 60 % of the cgroup's limit, if there is one].
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub memory_budget: Option<u64>,

    /// Memory that whole objects of watches may take, like `32MiB`: of the rest only metadata is kept, and they are read
    /// from the API server [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub cache_memory: Option<u64>,

    /// Write down when controllers had something to do, for `wasmop policy simulate`.
    #[arg(long, value_name = "FILE")]
    pub record_trace: Option<PathBuf>,

    /// When snapshots are put on disk: `event` (after each suspend), `interval`, `interval=SECONDS` or
    /// `none` (when the kernel does). It decides what a crash of the machine may lose [default: event].
    #[arg(long, value_name = "WHEN")]
    pub durability: Option<Durability>,

    /// Encrypt snapshots with the 32 bytes in this file (raw, hexadecimal or base64).
    #[arg(long, value_name = "FILE")]
    pub encryption_key_file: Option<PathBuf>,

    /// A file of PEM certificates by which external hosts may be known, besides the system's.
    #[arg(long, value_name = "FILE")]
    pub external_ca_file: Option<PathBuf>,

    /// Serve `/metrics`, `/healthz`, `/readyz` and a page with all controllers at this address, like
    /// `127.0.0.1:8080`; without a host (`:8080` or `8080`) on all interfaces. There is no authentication
    /// [default: not served].
    #[arg(long, value_name = "[HOST]:PORT", value_parser = units::parse_address)]
    pub metrics_address: Option<String>,

    /// Send traces of reconciles to the OpenTelemetry collector at this address, as OTLP over HTTP, like
    /// `http://127.0.0.1:4318`; `/v1/traces` is added [default: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` as it is, or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or not sent].
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Longest time that steps under way, suspending and the disk may take once the host is to end; whoever is not
    /// suspended by then continues from the last snapshot [default: 25s].
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
    pub shutdown_timeout: Option<Duration>,

    /// How log lines look, on stderr [default: text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,

    #[command(flatten)]
    pub election: ElectionKeys,
}

impl HostKeys {
    /// What is said here, and what is not, as it is said there.
    pub fn or(&self, other: &HostKeys) -> HostKeys {
        fn first<T: Clone>(here: &Option<T>, there: &Option<T>) -> Option<T> {
            here.as_ref().or(there.as_ref()).cloned()
        }
        HostKeys {
            kubeconfig: first(&self.kubeconfig, &other.kubeconfig),
            context: first(&self.context, &other.context),
            namespace: if self.namespace.is_empty() { &other.namespace } else { &self.namespace }.clone(),
            state_dir: first(&self.state_dir, &other.state_dir),
            memory_budget: self.memory_budget.or(other.memory_budget),
            cache_memory: self.cache_memory.or(other.cache_memory),
            record_trace: first(&self.record_trace, &other.record_trace),
            durability: self.durability.or(other.durability),
            encryption_key_file: first(&self.encryption_key_file, &other.encryption_key_file),
            external_ca_file: first(&self.external_ca_file, &other.external_ca_file),
            metrics_address: first(&self.metrics_address, &other.metrics_address),
            otlp_endpoint: first(&self.otlp_endpoint, &other.otlp_endpoint),
            shutdown_timeout: self.shutdown_timeout.or(other.shutdown_timeout),
            log_format: self.log_format.or(other.log_format),
            election: self.election.or(&other.election),
        }
    }
}

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub host: HostKeys,
    pub suspend_policy: Option<Policy>,
    /// As often as `-v` would be given.
    pub verbose: Option<u8>,
    /// No controller has more.
    pub limits: Option<Limits>,
    pub controllers: BTreeMap<String, Controller>,
}

/// A `[controllers.NAME]`.
#[derive(Clone, Debug)]
pub struct Controller {
    /// `file:line`, for errors.
    pub place: String,
    /// `None`: its package is on the command line.
    pub package: Option<PathBuf>,
    pub suspend_policy: Option<Policy>,
    pub grant: Grant,
    /// Of the machine.
    pub wasi: WasiGrant,
    pub env: BTreeMap<String, String>,
    /// `None`: the package's.
    pub args: Option<Vec<String>>,
    pub log_level: Option<LevelFilter>,
    /// In place of the host's; empty: those.
    pub namespaces: Vec<String>,
}
