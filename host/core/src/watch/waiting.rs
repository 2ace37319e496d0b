//! Why a watch cannot be had, and what its owner can do about it.

use std::fmt;
use std::sync::Arc;

use crate::service_account::ServiceAccount;

/// Why a watch cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The API server does not serve the resource (yet).
    Missing,
    /// Like [`WaitReason::Missing`], but the host may not read whether there is a CustomResourceDefinition.
    Unexplained,
    /// The resource's CustomResourceDefinition is there, but does not serve the version.
    VersionNotServed,
    /// The resource's CustomResourceDefinition is there, but the API server does not accept it.
    NotEstablished,
    /// The host's credentials were not accepted.
    Unauthorized,
    /// The host's credentials are not allowed to list or watch this.
    Forbidden,
    /// The API server does not answer, or not in a way that could be understood.
    Unreachable,
    /// The API server answered with an error.
    Server,
    /// The request for the watch itself is wrong; it is not tried again.
    Invalid,
}

impl WaitReason {
    /// As the reason of a condition.
    pub fn reason(self) -> &'static str {
        match self {
            WaitReason::Missing | WaitReason::Unexplained => "ResourceNotServed",
            WaitReason::VersionNotServed => "VersionNotServed",
            WaitReason::NotEstablished => "NotEstablished",
            WaitReason::Unauthorized => "Unauthorized",
            WaitReason::Forbidden => "Forbidden",
            WaitReason::Unreachable => "APIServerUnreachable",
            WaitReason::Server => "APIServerError",
            WaitReason::Invalid => "InvalidWatch",
        }
    }
}

/// A watch that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `websites.demo.wasmop.dev/v1`, or the kind if the plural is not known.
    pub resource: String,
    pub cause: WaitReason,
    pub message: String,
    /// As whom it was asked for; `None`: the host.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot watch {}: {}", self.resource, self.message)
    }
}

/// Whether Kubernetes itself or an aggregated API server may serve the group, with no CustomResourceDefinition. Some
/// groups under `k8s.io` have definitions.
pub fn may_be_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

impl Waiting {
    /// Of the resource; empty for the core group.
    fn group(&self) -> &str {
        let (name, _version) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        name.split_once('.').map_or("", |(_plural, group)| group)
    }

    /// What the owner can do about it.
    pub fn help(&self) -> String {
        let resource = &self.resource;
        match self.cause {
            WaitReason::Missing if may_be_built_in(self.group()) => format!(
                "use a version of {resource} that `kubectl api-versions` lists, or install what serves it; the controller goes on as soon as it is there"
            ),
            WaitReason::Unexplained => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/), or serve its version; to be told which, grant the host's identity get on customresourcedefinitions"
            ),
            WaitReason::Missing => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/); the controller goes on as soon as it is there"
            ),
            WaitReason::VersionNotServed => {
                "serve that version (`served: true` in the CustomResourceDefinition), or build the controller for a version that is served; the controller goes on as soon as it is".into()
            }
            WaitReason::NotEstablished => {
                "correct the CustomResourceDefinition (kubectl describe crd shows its conditions); the controller goes on as soon as it is established".into()
            }
            WaitReason::Unauthorized => {
                "the credentials of the kubeconfig have expired or are not valid for this API server; renew them".into()
            }
            WaitReason::Forbidden => match &self.service_account {
                None => format!(
                    "grant the host's identity the verbs list and watch on {resource}; it is tried again until then"
                ),
                Some(account) => format!(
                    "grant the ServiceAccount {account} the verbs list and watch on {resource}, and the host's identity the verb impersonate (docs/permissions.md); it is tried again until then"
                ),
            },
            WaitReason::Unreachable => "check that the API server is up and reachable; it is tried again until then".into(),
            WaitReason::Server => "see the API server's log; it is tried again".into(),
            WaitReason::Invalid => "correct what the controller registers".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_installed_only_where_somebody_can() {
        for (resource, cause, expected, absent) in [
            (
                "websites.demo.dev/v1",
                WaitReason::Missing,
                "install the CustomResourceDefinition",
                "kubectl api-versions",
            ),
            ("horizontalpodautoscalers.autoscaling/v2beta2", WaitReason::Missing, "kubectl api-versions", "Definition"),
            ("pods.metrics.k8s.io/v1", WaitReason::Missing, "kubectl api-versions", "Definition"),
            ("things/v2", WaitReason::Missing, "kubectl api-versions", "Definition"),
            (
                "websites.demo.dev/v1",
                WaitReason::Unexplained,
                "get on customresourcedefinitions",
                "kubectl api-versions",
            ),
            (
                "clusters.cluster.x-k8s.io/v1",
                WaitReason::Missing,
                "install the CustomResourceDefinition",
                "api-versions",
            ),
        ] {
            let waiting = Waiting { resource: resource.into(), cause, message: String::new(), service_account: None };
            let help = waiting.help();
            assert!(help.contains(expected) && !help.contains(absent), "{resource}: {help}");
        }
    }
}
