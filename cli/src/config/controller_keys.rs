//! The keys of `[controllers.NAME]`, and the grant that they describe.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use wasmop_core::permissions::Grant;
use wasmop_core::permissions::external::ExternalGrant;
use wasmop_core::service_account::ServiceAccount;
use wasmop_package::external::HostPattern;
use wasmop_policy::Policy;

use super::keys::keys;
use super::namespaces;
use super::wasi::WasiKeys;
use crate::environment;
use crate::rules::RuleKeys;
use crate::toml_file::value::{AllOr, Granted, Text, written};

keys! {
    /// The keys of one controller.
    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    pub struct ControllerKeys {
        /// The package file. Without it, the command line names the package. A plan compares it.
        live package: Option<PathBuf>,

        /// The namespaces to watch, in place of the host's.
        #[serde(deserialize_with = "namespaces::read")]
        restart namespace: Option<Vec<String>>,

        /// Environment variables, in place of the package's.
        #[serde(deserialize_with = "environment::variables")]
        restart env: Option<BTreeMap<String, String>> = BTreeMap::new(),

        /// Arguments, in place of the package's.
        #[serde(deserialize_with = "environment::arguments")]
        restart args: Option<Vec<String>>,

        /// The most detailed level that the controller logs at.
        #[serde(deserialize_with = "written")]
        restart log_level: Option<LevelFilter>,

        /// When it is suspended.
        #[serde(deserialize_with = "written")]
        live suspend_policy: Option<Policy>,

        /// The ServiceAccount that its requests impersonate.
        #[serde(deserialize_with = "written")]
        live service_account: Option<ServiceAccount>,

        /// RBAC rules that limit the package's permissions.
        live grant: Option<AllOr<RuleKeys>>,

        /// External hosts that limit those of the package.
        live external_hosts: Option<AllOr<Text<HostPattern>>>,

        /// Addresses that are not public and that the names of external hosts may resolve to.
        live private_addresses: Option<Vec<Text<IpNet>>>,

        /// Files of the machine, for a controller of the soft tier.
        restart wasi: Option<WasiKeys> = WasiKeys::default(),
    }
}

impl ControllerKeys {
    /// The owner's grant for the controller.
    pub fn to_grant(&self) -> Grant {
        let rules = match &self.grant {
            None | Some(AllOr::All) => None,
            Some(AllOr::Only(rules)) => Some(rules.iter().map(RuleKeys::to_rule).collect()),
        };
        let hosts = match &self.external_hosts {
            None | Some(AllOr::All) => None,
            Some(AllOr::Only(hosts)) => Some(hosts.iter().map(|Text(host)| host.clone()).collect()),
        };
        let private_addresses = self.private_addresses.iter().flatten().map(|Text(range)| *range).collect();
        Grant {
            rules,
            external: ExternalGrant { hosts, private_addresses },
            service_account: self.service_account.clone().map(Into::into),
        }
    }
}

impl Granted for RuleKeys {
    const LIST: &'static str = "a list of tables, `[[{path}]]`";
    const HELP: &'static str = "write `grant = \"all\"`, `grant = []` for nothing, or [[{path}]] rules";
}

impl Granted for Text<HostPattern> {
    const LIST: &'static str = "a list of strings";
    const HELP: &'static str = "write `external-hosts = \"all\"`, `[]` for none, or a list of hosts";
}
