//! Turns an error of a list or watch into what to do about it, and what to tell the owner.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::core::Status;

use super::definition::Reason;
use crate::client::CredentialError;
use crate::identity::ServiceAccount;

/// Kubernetes allows no longer names.
pub(super) const MAX_NAME_BYTES: usize = 253;

/// As much of a text as fits a line of the log.
pub(super) fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_NAME_BYTES)]
}

/// Why a watch cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The API server does not serve the resource (yet).
    Missing,
    /// Like [`Cause::Missing`], but the host may not read whether there is a CustomResourceDefinition.
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

impl Cause {
    /// As the reason of a condition.
    pub fn reason(self) -> &'static str {
        match self {
            Cause::Missing | Cause::Unexplained => "ResourceNotServed",
            Cause::VersionNotServed => "VersionNotServed",
            Cause::NotEstablished => "NotEstablished",
            Cause::Unauthorized => "Unauthorized",
            Cause::Forbidden => "Forbidden",
            Cause::Unreachable => "APIServerUnreachable",
            Cause::Server => "APIServerError",
            Cause::Invalid => "InvalidWatch",
        }
    }
}

/// A watch that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `websites.demo.wasmop.dev/v1`, or the kind if the plural is not known.
    pub resource: String,
    pub cause: Cause,
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
pub(super) fn may_be_built_in(group: &str) -> bool {
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
            Cause::Missing if may_be_built_in(self.group()) => format!(
                "use a version of {resource} that `kubectl api-versions` lists, or install what serves it; the controller goes on as soon as it is there"
            ),
            Cause::Unexplained => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/), or serve its version; to be told which, grant the host's identity get on customresourcedefinitions"
            ),
            Cause::Missing => format!(
                "install the CustomResourceDefinition of {resource} (kubectl apply -f crds/); the controller goes on as soon as it is there"
            ),
            Cause::VersionNotServed => {
                "serve that version (`served: true` in the CustomResourceDefinition), or build the controller for a version that is served; the controller goes on as soon as it is".into()
            }
            Cause::NotEstablished => {
                "correct the CustomResourceDefinition (kubectl describe crd shows its conditions); the controller goes on as soon as it is established".into()
            }
            Cause::Unauthorized => {
                "the credentials of the kubeconfig have expired or are not valid for this API server; renew them".into()
            }
            Cause::Forbidden => match &self.service_account {
                None => format!(
                    "grant the host's identity the verbs list and watch on {resource}; it is tried again until then"
                ),
                Some(account) => format!(
                    "grant the ServiceAccount {account} the verbs list and watch on {resource}, and the host's identity the verb impersonate (docs/permissions.md); it is tried again until then"
                ),
            },
            Cause::Unreachable => "check that the API server is up and reachable; it is tried again until then".into(),
            Cause::Server => "see the API server's log; it is tried again".into(),
            Cause::Invalid => "correct what the controller registers".into(),
        }
    }
}

/// A list or watch that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub cause: FailureCause,
    pub message: String,
    /// The API server's wish.
    pub retry_after: Option<Duration>,
    /// What the owner is told, if more is known than `cause`.
    told_as: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// The resource version or continue token is too old: list anew.
    Expired,
    /// What arrived could not be read.
    Garbled,
    Because(Cause),
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Failure { cause: FailureCause::Because(cause), message: message.into(), retry_after: None, told_as: None }
    }

    pub fn garbled(error: impl fmt::Display) -> Self {
        let message = format!("the answer of the API server could not be read: {error}");
        Failure { cause: FailureCause::Garbled, message, retry_after: None, told_as: None }
    }

    pub fn timed_out(what: &str) -> Self {
        Failure::new(Cause::Unreachable, format!("the API server did not {what} in time"))
    }

    /// Adds why the resource is missing.
    pub fn explain(&mut self, reason: Reason) {
        self.message = format!("{}: {}", self.message, reason.message);
        self.told_as = Some(reason.cause);
    }

    /// What an owner is told, if that is worth it.
    pub fn cause_to_tell(&self) -> Cause {
        if let Some(cause) = self.told_as {
            return cause;
        }
        match self.cause {
            FailureCause::Because(cause) => cause,
            FailureCause::Expired | FailureCause::Garbled => Cause::Server,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let cause = match status.code {
            401 => FailureCause::Because(Cause::Unauthorized),
            403 => FailureCause::Because(Cause::Forbidden),
            404 => FailureCause::Because(Cause::Missing),
            410 => FailureCause::Expired,
            _ => FailureCause::Because(Cause::Server),
        };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let message = match status.message.trim() {
            "" => format!("status {} {}", status.code, status.reason),
            message => format!("{} (status {})", message.chars().take(300).collect::<String>(), status.code),
        };
        Failure {
            cause,
            message,
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
            told_as: None,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Failure::from(*status),
            kube::Error::Auth(error) => Failure::new(Cause::Unauthorized, chain(&error)),
            kube::Error::SerdeError(error) => Failure::garbled(error),
            kube::Error::FromUtf8(error) => Failure::garbled(error),
            kube::Error::Service(error) if error.is::<CredentialError>() => {
                Failure::new(Cause::Unauthorized, error.to_string())
            }
            kube::Error::BuildRequest(error) => Failure::new(Cause::Invalid, chain(&error)),
            error => Failure::new(Cause::Unreachable, chain(&error)),
        }
    }
}

/// An error and what caused it, each part once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_installed_only_where_somebody_can() {
        for (resource, cause, expected, absent) in [
            ("websites.demo.dev/v1", Cause::Missing, "install the CustomResourceDefinition", "kubectl api-versions"),
            ("horizontalpodautoscalers.autoscaling/v2beta2", Cause::Missing, "kubectl api-versions", "Definition"),
            ("pods.metrics.k8s.io/v1", Cause::Missing, "kubectl api-versions", "Definition"),
            ("things/v2", Cause::Missing, "kubectl api-versions", "Definition"),
            ("websites.demo.dev/v1", Cause::Unexplained, "get on customresourcedefinitions", "kubectl api-versions"),
            ("clusters.cluster.x-k8s.io/v1", Cause::Missing, "install the CustomResourceDefinition", "api-versions"),
        ] {
            let waiting = Waiting { resource: resource.into(), cause, message: String::new(), service_account: None };
            let help = waiting.help();
            assert!(help.contains(expected) && !help.contains(absent), "{resource}: {help}");
        }
    }
}
