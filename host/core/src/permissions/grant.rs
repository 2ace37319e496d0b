//! What the owner of a host grants a controller of what its package asks for.

use std::sync::Arc;

use wasmop_package::manifest::PolicyRule;

use super::external::ExternalGrant;
use crate::service_account::ServiceAccount;

/// A request is allowed if the package asks for it and its owner grants it. As a ServiceAccount it must be
/// allowed to that one by the API server's RBAC too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// `None`: whatever the package asks for.
    pub rules: Option<Arc<[PolicyRule]>>,
    pub external: ExternalGrant,
    /// `None`: requests are made with the host's own identity.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl Grant {
    /// Everything that the package asks for, with the host's identity.
    pub fn all() -> Grant {
        Grant::default()
    }
}
