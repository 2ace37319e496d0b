//! The settings that can change while the host runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use wasmop_api::environment::HubEnvironment;
use wasmop_core::control_loop::{self, Authorization, BudgetTooSmall, ControlLoop};
use wasmop_core::permissions::Grant;
use wasmop_core::watch::NamespaceLimit;
use wasmop_policy::Policy;
use wasmop_vm::wasi::WasiGrant;

use crate::options::HostError;

/// Settings of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Decides when to suspend idle instances, where neither [`ControllerSettings`] nor the package has a policy.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: unlimited.
    pub memory_budget: Option<u64>,
    /// Bytes that whole objects of watches may take; `None`: unlimited.
    pub cache_memory: Option<u64>,
    /// Most detailed level of log lines from controllers without their own level; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// Settings by name of the controller. Controllers without an entry keep theirs.
    pub controllers: BTreeMap<String, ControllerSettings>,
}

/// Settings of one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerSettings {
    /// Takes precedence over the policies of the package and the host.
    pub policy: Option<Policy>,
    /// The granted permissions, and the ServiceAccount to impersonate.
    pub grant: Grant,
    /// The directories and other WASI resources granted to a package of the soft tier; `None`: none. Read at the start
    /// only.
    pub wasi: Option<Arc<WasiGrant>>,
    /// Environment variables, which take precedence over the package's. Read at the start only.
    pub env: BTreeMap<String, String>,
    /// Arguments in place of the package's. Read at the start only.
    pub args: Option<Vec<String>>,
    /// Most detailed level of its log lines. Read at the start only.
    pub log_level: Option<LevelFilter>,
    /// The namespaces that it watches, in addition to cluster-scoped kinds; empty: all. Read at the start only.
    pub namespaces: NamespaceLimit,
}

impl Settings {
    /// The part that the control loop follows, if it makes sense for this host.
    pub(crate) fn checked(
        self,
        control: &ControlLoop<HubEnvironment>,
        impersonates: bool,
    ) -> Result<control_loop::Settings, HostError> {
        check_budget(control, self.memory_budget)?;
        let accounts = self.controllers.iter().filter(|(_, c)| c.grant.service_account.is_some());
        check_impersonation(impersonates, accounts.map(|(name, _)| name.as_str()))?;
        let controllers = self.controllers.into_iter();
        Ok(control_loop::Settings {
            policy: self.policy,
            memory_budget: self.memory_budget,
            cache_memory: self.cache_memory,
            guest_log_level: self.guest_log_level,
            controllers: controllers
                .map(|(name, ControllerSettings { policy, grant, .. })| (name, Authorization { policy, grant }))
                .collect(),
        })
    }
}

/// Refuses a budget that is too small for a single instance.
pub(crate) fn check_budget(control: &ControlLoop<HubEnvironment>, budget: Option<u64>) -> Result<(), HostError> {
    control.check_budget(budget).map_err(|BudgetTooSmall { budget, name, needed }| HostError::Budget {
        budget,
        name,
        needed,
    })
}

/// The API server allows one impersonation a request. `accounts`: names of the controllers with a ServiceAccount.
pub(crate) fn check_impersonation<'a>(
    impersonates: bool,
    mut accounts: impl Iterator<Item = &'a str>,
) -> Result<(), HostError> {
    match accounts.next().filter(|_| impersonates) {
        Some(name) => Err(HostError::Impersonating { name: name.into() }),
        None => Ok(()),
    }
}
