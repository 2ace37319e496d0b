//! Why a watch waits, and how its owner can fix that.

use std::fmt;
use std::sync::Arc;

use crate::service_account::ServiceAccount;

/// Why a watch waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The API server does not serve the resource.
    Missing,
    /// Like [`WaitReason::Missing`], but the host may not read CustomResourceDefinitions.
    Unexplained,
    /// The CustomResourceDefinition exists, but does not serve the version.
    VersionNotServed,
    /// The CustomResourceDefinition exists, but is not established.
    NotEstablished,
    /// The API server rejects the host's credentials.
    Unauthorized,
    /// The API server denies list or watch.
    Forbidden,
    /// The API server does not answer, or its answer is malformed.
    Unreachable,
    /// The API server answers with an error.
    Server,
    /// The watch request is invalid. The host does not retry it.
    Invalid,
}

impl WaitReason {
    /// The `reason` of a condition.
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

/// A watch that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `websites.demo.wasmop.dev/v1`, or the kind if the plural is not known.
    pub resource: String,
    /// Why it waits.
    pub cause: WaitReason,
    /// What the API server said.
    pub message: String,
    /// The identity of the request; `None`: the host.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot watch {}: {}", self.resource, self.message)
    }
}

/// Whether the group may be served without a CustomResourceDefinition: by Kubernetes itself or an aggregated API
/// server. Some groups under `k8s.io` have definitions.
pub fn may_be_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

impl Waiting {
    /// The resource's group, empty for the core group.
    fn group(&self) -> &str {
        let (name, _version) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        name.split_once('.').map_or("", |(_plural, group)| group)
    }

    /// How the owner can fix it.
    pub fn help(&self) -> String {
        let resource = &self.resource;
        match self.cause {
            WaitReason::Missing if may_be_built_in(self.group()) => format!(
                "use a version of {resource} that `kubectl api-versions` lists, or install the API server that serves it; the controller continues once it exists"
            ),
            WaitReason::Unexplained => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/), or serve its version; to see which one applies, grant the host's identity get on customresourcedefinitions"
            ),
            WaitReason::Missing => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/); the controller continues once it exists"
            ),
            WaitReason::VersionNotServed => {
                "serve that version (`served: true` in the CustomResourceDefinition), or build the controller for a version that is served; the controller then continues".into()
            }
            WaitReason::NotEstablished => {
                "correct the CustomResourceDefinition (kubectl describe crd shows its conditions); the controller continues once it is established".into()
            }
            WaitReason::Unauthorized => {
                "the credentials of the kubeconfig have expired or are not valid for this API server; renew them".into()
            }
            WaitReason::Forbidden => match &self.service_account {
                None => format!(
                    "grant the host's identity the verbs list and watch on {resource}; the host retries until then"
                ),
                Some(account) => format!(
                    "grant the ServiceAccount {account} the verbs list and watch on {resource}, and the host's identity the verb impersonate (docs/permissions.md); the host retries until then"
                ),
            },
            WaitReason::Unreachable => "check that the API server is up and reachable; the host retries until then".into(),
            WaitReason::Server => "see the API server's log; the host retries".into(),
            WaitReason::Invalid => "correct the watch in the registration of the controller".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_says_to_install_a_definition_only_for_groups_that_have_one() {
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
