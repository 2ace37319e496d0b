//! TOML into a [`Config`]. `docs/config.md` has every key; a test compares.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use toml::de::DeTable;
use wasmop_core::permissions::Grant;
use wasmop_core::service_account::ServiceAccount;
use wasmop_package::manifest::{Limits, PolicyRule};
use wasmop_policy::Policy;

use super::election::ElectionKeys;
use super::{Config, Controller, HostKeys, external, namespaces, wasi};
use crate::error::{Failure, HelpExt};
use crate::logging::LogFormat;
use crate::project::{DNS_LABEL_HELP, dns_label_problem};
use crate::toml_table::{Source, Table};
use crate::{environment, limits, rules, units};

pub(super) const KEYS: [&str; 24] = [
    "kubeconfig",
    "context",
    "namespace",
    "state-dir",
    "suspend-policy",
    "memory-budget",
    "cache-memory",
    "record-trace",
    "durability",
    "encryption-key-file",
    "external-ca-file",
    "metrics-address",
    "otlp-endpoint",
    "shutdown-timeout",
    "log-format",
    "leader-elect",
    "leader-elect-lease-duration",
    "leader-elect-renew-deadline",
    "leader-elect-retry-period",
    "leader-elect-resource-name",
    "leader-elect-resource-namespace",
    "verbose",
    "limits",
    "controllers",
];
pub(super) const CONTROLLER_KEYS: [&str; 11] = [
    "package",
    "namespace",
    "env",
    "args",
    "log-level",
    "suspend-policy",
    "service-account",
    "grant",
    "external-hosts",
    "private-addresses",
    "wasi",
];

/// Names the top level in errors.
const TOP: &str = "the configuration file";
const MAX_VERBOSE: u8 = 3;
const SEE_DOCS: &str = "correct the TOML; docs/config.md shows every key";

/// Reads a configuration file.
pub fn load(file: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(file).or_help(
        format!("cannot read the configuration file `{}`", file.display()),
        "it must be a TOML file you may read; docs/config.md shows one",
    )?;
    let absolute = std::path::absolute(file).with_context(|| format!("cannot find `{}`", file.display()))?;
    Ok(parse(file, absolute.parent().unwrap_or(Path::new("/")), &text)?)
}

/// `dir`: what paths are relative to.
pub(super) fn parse(file: &Path, dir: &Path, text: &str) -> Result<Config, Failure> {
    let source = Source { file, text };
    let document = DeTable::parse(text)
        .map_err(|error| source.failure(error.span().unwrap_or_default(), error.message(), SEE_DOCS))?;
    let top = Table::top(source, TOP, document.get_ref());
    top.only(&KEYS)?;
    let path = |key| Ok::<_, Failure>(top.string(key)?.map(|path| dir.join(path)));
    let text = |key| Ok::<_, Failure>(top.string(key)?.map(str::to_owned));
    let host = HostKeys {
        kubeconfig: path("kubeconfig")?,
        context: text("context")?,
        namespace: namespaces::read(&top)?,
        state_dir: path("state-dir")?,
        memory_budget: top.parsed("memory-budget", "write a number and a unit, like `64MiB`", units::parse_bytes)?,
        cache_memory: top.parsed("cache-memory", "write a number and a unit, like `32MiB`", units::parse_bytes)?,
        record_trace: path("record-trace")?,
        durability: top.parsed("durability", "write `event`, `interval=SECONDS` or `none`", str::parse)?,
        encryption_key_file: path("encryption-key-file")?,
        external_ca_file: path("external-ca-file")?,
        metrics_address: top.parsed("metrics-address", "write it like `127.0.0.1:8080`", units::parse_address)?,
        otlp_endpoint: text("otlp-endpoint")?,
        shutdown_timeout: top.parsed(
            "shutdown-timeout",
            "write a number and a unit, like `25s`",
            units::parse_duration,
        )?,
        log_format: top.parsed("log-format", "write `text` or `json`", |format| {
            LogFormat::from_str(format, false).map_err(|_| format!("`{format}` is not a log format"))
        })?,
        election: ElectionKeys::read(&top)?,
    };
    let verbose = top.number("verbose", MAX_VERBOSE)?;
    let mut config = Config { host, suspend_policy: policy(&top)?, verbose, ..Config::default() };
    if let Some(table) = top.table("limits", "[limits]")? {
        config.limits = Some(limits::read(&table, Limits::NONE)?);
    }
    if let Some(controllers) = top.table("controllers", "[controllers]")? {
        for name in controllers.keys() {
            if let Some(problem) = dns_label_problem(name) {
                return Err(controllers.bad_value(name, format!("the name {problem}"), DNS_LABEL_HELP));
            }
            config.controllers.insert(name.to_owned(), controller(&controllers, name, dir)?);
        }
    }
    Ok(config)
}

fn policy(table: &Table<'_>) -> Result<Option<Policy>, Failure> {
    table.parsed("suspend-policy", "write `adaptive`, `immediate`, `after=1s` or `never`", str::parse)
}

fn controller(controllers: &Table<'_>, name: &str, dir: &Path) -> Result<Controller, Failure> {
    let shown = format!("[controllers.{name}]");
    let place = controllers.place(name);
    let table = controllers.required_table(name, &shown)?;
    table.only(&CONTROLLER_KEYS)?;
    let service_account =
        table.parsed("service-account", "write it as NAMESPACE/NAME", str::parse::<ServiceAccount>)?;
    let shown = format!("[controllers.{name}.wasi]");
    let wasi = table.table("wasi", &shown)?.map(|table| wasi::read(&table, name, dir)).transpose()?;
    let package: Option<PathBuf> = table.string("package")?.map(|path| dir.join(path));
    Ok(Controller {
        place,
        package,
        suspend_policy: policy(&table)?,
        grant: Grant {
            rules: grant(&table, name)?,
            external: external::read(&table)?,
            service_account: service_account.map(Into::into),
        },
        wasi: wasi.unwrap_or_default(),
        env: environment::table(&table, &format!("[controllers.{name}.env]"))?,
        args: environment::args(&table)?,
        namespaces: namespaces::read(&table)?,
        log_level: table.parsed("log-level", environment::LOG_LEVEL_HELP, environment::log_level)?,
    })
}

/// `None`: all that the package asks for.
fn grant(table: &Table<'_>, name: &str) -> Result<Option<Arc<[PolicyRule]>>, Failure> {
    const ALL: &str = "all";
    if !table.keys().any(|key| key == "grant") {
        return Ok(None);
    }
    let shown = format!("[[controllers.{name}.grant]]");
    if table.is_string("grant") {
        let text = table.required("grant", ALL)?;
        let help = format!("write `grant = \"{ALL}\"`, `grant = []` for nothing, or {shown} rules");
        return if text == ALL {
            Ok(None)
        } else {
            Err(table.bad_value("grant", format!("`{text}` is no grant"), help))
        };
    }
    let rules = table.tables("grant", &shown)?.iter().map(rules::read).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(rules.into()))
}

#[cfg(test)]
mod tests;
