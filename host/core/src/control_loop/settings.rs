//! What can change while the host runs: suspend policies, the memory budget, room for watched objects, grants.

use std::collections::BTreeMap;

use tracing::level_filters::LevelFilter;
use wasmop_policy::Policy;

use super::parts::SlotId;
use super::{ControlLoop, Environment};
use crate::permissions::Grant;

/// Settings that the loop follows while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// When idle instances are suspended, where neither the owner nor the package says so for a controller.
    pub policy: Policy,
    /// Bytes that instances may hold; `None`: unlimited.
    pub memory_budget: Option<u64>,
    /// Bytes that whole objects of watches may take; `None`: unlimited.
    pub cache_memory: Option<u64>,
    /// The most detailed level of a controller's own lines that is logged, for controllers without a level of their
    /// own; `None`: all.
    pub guest_log_level: Option<LevelFilter>,
    /// By name. A controller that is not among them stays as it is.
    pub controllers: BTreeMap<String, Authorization>,
}

/// Settings of one controller that the loop follows while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorization {
    /// Takes precedence over the package's own policy and the host's.
    pub policy: Option<Policy>,
    /// What it may do, and as whom.
    pub grant: Grant,
}

/// A memory budget that not even one instance fits into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetTooSmall {
    /// The budget in bytes.
    pub budget: u64,
    /// A controller whose instance needs more.
    pub name: String,
    /// Bytes that it holds when it has just started.
    pub needed: u64,
}

impl<E: Environment> ControlLoop<E> {
    /// Refuses a budget that not even one instance fits into.
    ///
    /// # Errors
    ///
    /// Names the first controller that needs more.
    pub fn check_budget(&self, budget: Option<u64>) -> Result<(), BudgetTooSmall> {
        let Some(budget) = budget else { return Ok(()) };
        for (_, slot) in self.slots.iter() {
            if let Some(needed) = slot.package.base_data_bytes.filter(|needed| *needed > budget) {
                return Err(BudgetTooSmall { budget, name: slot.name.to_string(), needed });
            }
        }
        Ok(())
    }

    /// Continues with other settings.
    pub(super) fn apply(&mut self, settings: Settings) {
        let Settings { policy, memory_budget, cache_memory, guest_log_level, mut controllers } = settings;
        self.limit_objects(cache_memory);
        (self.policy, self.memory_budget, self.guest_log_level) = (policy, memory_budget, guest_log_level);
        for id in self.slots.ids() {
            self.touched.insert(id);
            let slot = &mut self.slots[id];
            let Some(Authorization { policy, grant }) = controllers.remove(&*slot.name) else { continue };
            slot.suspension.policy = policy.or(slot.package.suspend_policy).unwrap_or(self.policy);
            if slot.authority.grant() != grant {
                self.grant(id, grant);
            }
        }
        self.keep_budget();
        tracing::info!("new settings are in force");
    }

    /// From now on whole objects of watches may take so many bytes.
    pub fn limit_objects(&mut self, bytes: Option<u64>) {
        self.cache_memory = bytes;
        self.environment.limit_objects(bytes);
    }

    /// From now on a controller may do this and no more. Open streams end and have to be asked for again.
    fn grant(&mut self, id: SlotId, grant: Grant) {
        let authority = &mut self.slots[id].authority;
        authority.permissions = authority.permissions.granting(grant.rules).granting_external(grant.external).into();
        authority.service_account = grant.service_account;
        self.fail_streams(id, "wasmop: what this controller is granted has changed");
        tracing::info!(controller = &*self.slots[id].name, "its grant has changed");
        self.rewatch(id);
    }
}
