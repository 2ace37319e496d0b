//! What a controller may do, and as whom.

use std::sync::Arc;

use crate::permissions::{Grant, Permissions};
use crate::service_account::ServiceAccount;
use crate::watch::NamespaceLimit;

/// What a controller may do, and where.
pub(in crate::control_loop) struct Authority {
    pub permissions: Arc<Permissions>,
    /// As whom its requests are made; `None`: as the host.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// The namespaces whose objects it watches; empty: all.
    pub namespaces: NamespaceLimit,
}

impl Authority {
    pub fn grant(&self) -> Grant {
        Grant {
            rules: self.permissions.granted().cloned(),
            external: self.permissions.external_granted().clone(),
            service_account: self.service_account.clone(),
        }
    }
}
