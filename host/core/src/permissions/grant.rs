//! What an owner grants a controller.

use std::sync::Arc;

use wasmop_package::manifest::PolicyRule;

use super::external::ExternalGrant;
use crate::service_account::ServiceAccount;

/// What an owner grants a controller. A request is allowed if the package asks for it and the owner grants it. As a
/// ServiceAccount, the API server's RBAC must allow it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Rules; `None`: everything that the package asks for.
    pub rules: Option<Arc<[PolicyRule]>>,
    /// External hosts.
    pub external: ExternalGrant,
    /// The identity of requests; `None`: the host's own.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl Grant {
    /// Grants everything that the package asks for, with the host's identity.
    pub fn all() -> Grant {
        Grant::default()
    }
}
