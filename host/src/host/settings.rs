//! What can change while the host runs: suspend policies, the memory budget, the room for watched objects, grants.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tracing::level_filters::LevelFilter;
use wasmop_core::permissions::Grant;
use wasmop_core::step::EventKind;
use wasmop_core::watch::NamespaceLimit;
use wasmop_policy::Policy;
use wasmop_vm::wasi::WasiGrant;

use super::{Host, HostError};

/// Of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// When idle instances are suspended, where neither [`ControllerSettings`] nor the package says.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: as many as there are.
    pub memory_budget: Option<u64>,
    /// Bytes that whole objects of watches may take; `None`: as many as there are.
    pub cache_memory: Option<u64>,
    /// The most detailed level of a controller's own lines that is passed on, where nobody gave it a level; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// By name. A controller that is not among them stays as it is.
    pub controllers: BTreeMap<String, ControllerSettings>,
}

/// Of one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerSettings {
    /// Instead of the package's own policy and the host's.
    pub policy: Option<Policy>,
    pub grant: Grant,
    /// Of the machine, for a package of the soft tier. `None`: nothing. Followed at the start only.
    pub wasi: Option<Arc<WasiGrant>>,
    /// Environment variables, which take precedence over the package's. Followed at the start only.
    pub env: BTreeMap<String, String>,
    /// Arguments in place of the package's. Followed at the start only.
    pub args: Option<Vec<String>>,
    /// The most detailed level it logs at. Followed at the start only.
    pub log_level: Option<LevelFilter>,
    /// It watches objects of these namespaces only, and of kinds without namespaces; empty: of all. Followed at the
    /// start only.
    pub namespaces: NamespaceLimit,
}

impl Host {
    /// Goes on with other settings, or, if they make no sense here, with those it has.
    pub(super) fn apply(&mut self, settings: Settings) {
        let accounts = settings.controllers.iter().filter(|(_, c)| c.grant.service_account.is_some());
        let refused = self
            .check_budget(settings.memory_budget)
            .and_then(|()| check_identity(self.impersonates, accounts.map(|(name, _)| name.as_str())));
        if let Err(error) = refused {
            let text = error.to_string();
            let (problem, help) = text.split_once("\nhelp: ").unwrap_or((&text, ""));
            tracing::error!(problem, help, "the new settings are refused, those from before stay in force");
            return;
        }
        let Settings { policy, memory_budget, cache_memory, guest_log_level, mut controllers } = settings;
        self.limit_objects(cache_memory);
        (self.policy, self.memory_budget, self.guest_log_level) = (policy, memory_budget, guest_log_level);
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            let Some(ControllerSettings { policy, grant, .. }) = controllers.remove(&*slot.name) else { continue };
            slot.deciding.policy = policy.or(slot.package.manifest.suspend_policy).unwrap_or(self.policy);
            if slot.grant() != grant {
                self.grant(index, grant);
            }
        }
        self.keep_budget();
        tracing::info!("new settings are in force");
    }

    /// From now on a controller may do this and no more; what lasts ends and has to be asked for again.
    fn grant(&mut self, index: u32, grant: Grant) {
        let slot = &mut self.slots[index as usize];
        slot.permissions = slot.permissions.granting(grant.rules).granting_external(grant.external).into();
        slot.service_account = grant.service_account;
        let streams: Vec<u64> = slot.requests.iter().filter(|(_, r)| r.stream).map(|(call, _)| *call).collect();
        for call in streams {
            if let Some(request) = slot.requests.remove(&call) {
                request.task.abort();
                let why = Bytes::from_static(b"wasmop: what this controller is granted has changed");
                slot.controller.answer(call, EventKind::Failed, 0, why);
            }
        }
        tracing::info!(controller = &*slot.name, "its grant has changed");
        self.rewatch(index);
    }
}

/// The API server knows one impersonation a request. `accounts`: the controllers that are to have one.
pub(super) fn check_identity<'a>(
    impersonates: bool,
    mut accounts: impl Iterator<Item = &'a str>,
) -> Result<(), HostError> {
    match accounts.next().filter(|_| impersonates) {
        Some(name) => Err(HostError::Impersonating { name: name.into() }),
        None => Ok(()),
    }
}
