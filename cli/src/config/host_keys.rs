//! The keys of a host: flags of `wasmop run`, and the top level of the configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use wasmop_host::SHUTDOWN_TIMEOUT;
use wasmop_policy::Policy;
use wasmop_snapshot::Durability;

use super::controller_keys::ControllerKeys;
use super::keys::keys;
use super::namespaces;
use crate::limits::LimitKeys;
use crate::logging::LogFormat;
use crate::toml_file::value::{Text, Written, number, written};
use crate::units;

/// The most that `verbose` can be; more adds nothing.
const MAX_VERBOSE: u64 = 3;

keys! {
    /// The keys of a host. A key with `#[arg(skip)]` has no flag, or a flag in another form.
    #[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    pub struct HostKeys {
        /// The kubeconfig file.
        #[arg(long, value_name = "FILE")]
        restart kubeconfig: Option<PathBuf>,

        /// The kubeconfig context to use [default: its current context].
        #[arg(long, value_name = "CONTEXT")]
        restart context: Option<String>,

        /// Watch only these namespaces, separated by commas; may be given several times. Kinds without namespaces are
        /// always watched [default: all].
        #[arg(long, short, value_name = "NAMESPACE", value_delimiter = ',', value_parser = namespaces::parse)]
        #[serde(deserialize_with = "namespaces::read")]
        restart namespace: Option<Vec<String>>,

        /// The directory for suspended controllers [default: ~/.local/state/wasmop].
        #[arg(long, value_name = "DIR")]
        restart state_dir: Option<PathBuf>,

        /// The suspend policy of controllers without their own.
        #[arg(skip)]
        #[serde(deserialize_with = "written")]
        live suspend_policy: Option<Policy>,

        /// Memory for all resident controllers together, like `64MiB`. Above it, the host suspends those that cost
        /// least to suspend and resume [default: 60 % of the cgroup's limit, if there is one].
        #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
        #[serde(deserialize_with = "size")]
        live memory_budget: Option<u64>,

        /// Memory for whole objects in watch caches, like `32MiB`. Beyond it the host caches only metadata, and reads
        /// objects from the API server [default: unlimited].
        #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
        #[serde(deserialize_with = "size")]
        live cache_memory: Option<u64>,

        /// Record when controllers had work, for `wasmop policy simulate`.
        #[arg(long, value_name = "FILE")]
        restart record_trace: Option<PathBuf>,

        /// When snapshots are flushed to disk: `event` (after each suspend), `interval`, `interval=SECONDS` or `none`
        /// (left to the kernel). It decides what a crash of the machine can lose [default: event].
        #[arg(long, value_name = "WHEN")]
        #[serde(deserialize_with = "written")]
        restart durability: Option<Durability> = Durability::default(),

        /// Encrypt snapshots with the 32 bytes in this file (raw, hexadecimal or base64).
        #[arg(long, value_name = "FILE")]
        restart encryption_key_file: Option<PathBuf>,

        /// PEM certificates to trust for external hosts, in addition to the system's.
        #[arg(long, value_name = "FILE")]
        restart external_ca_file: Option<PathBuf>,

        /// Serve `/metrics`, `/healthz`, `/readyz` and a page with all controllers at this address, like
        /// `127.0.0.1:8080`. Without a host (`:8080` or `8080`) it listens on all interfaces. There is no
        /// authentication [default: not served].
        #[arg(long, value_name = "[HOST]:PORT", value_parser = units::parse_address)]
        #[serde(deserialize_with = "address")]
        restart metrics_address: Option<String>,

        /// Send traces of reconciles to the OpenTelemetry collector at this address, as OTLP over HTTP, like
        /// `http://127.0.0.1:4318`; `/v1/traces` is added [default: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` as it is, or
        /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or not sent].
        #[arg(long, value_name = "URL")]
        restart otlp_endpoint: Option<String>,

        /// Time limit for a graceful shutdown: running steps, suspends and disk writes. A controller that is not
        /// suspended by then continues from its last snapshot [default: 25s].
        #[arg(long, value_name = "DURATION", value_parser = units::parse_duration)]
        #[serde(deserialize_with = "written")]
        restart shutdown_timeout: Option<Duration> = SHUTDOWN_TIMEOUT,

        /// The format of log lines, on stderr [default: text].
        #[arg(long, value_enum, value_name = "FORMAT")]
        #[serde(deserialize_with = "written")]
        restart log_format: Option<LogFormat> = LogFormat::default(),

        /// As many `-v` flags.
        #[arg(skip)]
        #[serde(deserialize_with = "verbosity")]
        live verbose: Option<u8>,

        /// The most that any controller may have.
        #[arg(skip)]
        restart limits: Option<LimitKeys>,

        /// Share the controllers with other hosts that run the same ones. Leases in the cluster decide which host runs
        /// which. All hosts need the same `--leader-elect-...` flags.
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        restart leader_elect: Option<bool> = false,

        /// How long a Lease is valid without renewal, in whole seconds. After it, other hosts take over
        /// [default: 15s].
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        #[serde(deserialize_with = "written")]
        restart leader_elect_lease_duration: Option<Duration>,

        /// How long a host tries to renew its Lease before it stops its controllers; less than the Lease's duration
        /// [default: 10s].
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        #[serde(deserialize_with = "written")]
        restart leader_elect_renew_deadline: Option<Duration>,

        /// How often a host renews its Lease and checks the other hosts [default: 2s].
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        #[serde(deserialize_with = "written")]
        restart leader_elect_retry_period: Option<Duration>,

        /// The name of the group of hosts, a DNS label. The names of their Leases begin with it [default: wasmop].
        #[arg(long, value_name = "NAME")]
        restart leader_elect_resource_name: Option<String>,

        /// The namespace of the Leases [default: the Pod's, that of the kubeconfig's context, or default].
        #[arg(long, value_name = "NAMESPACE")]
        restart leader_elect_resource_namespace: Option<String>,

        /// `[controllers.NAME]`. A reload compares the controllers one by one.
        #[arg(skip)]
        live controllers: Option<BTreeMap<Text<ControllerName>, ControllerKeys>>,
    }
}

/// A controller's name in the configuration file, a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControllerName(pub String);

impl Written for ControllerName {
    const HELP: &'static str = crate::dns_label::DNS_LABEL_HELP;

    fn parse(text: &str) -> Result<ControllerName, String> {
        match crate::dns_label::dns_label_problem(text) {
            Some(problem) => Err(format!("the name {problem}")),
            None => Ok(ControllerName(text.to_owned())),
        }
    }
}

/// A duration on the command line, whose error shows the format.
fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; {}", Duration::HELP))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    crate::toml_file::value::from_text(deserializer, units::SIZE_HELP, units::parse_bytes).map(Some)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let help = "write it like `127.0.0.1:8080`";
    crate::toml_file::value::from_text(deserializer, help, units::parse_address).map(Some)
}

fn verbosity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let help = format!("give a whole number from 0 to {MAX_VERBOSE}");
    Ok(number(deserializer, 0..=MAX_VERBOSE, &help)?.and_then(|number| u8::try_from(number).ok()))
}
