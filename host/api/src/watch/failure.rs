//! Classifies errors of lists and watches for the retry policy and for the owner.

use std::fmt;
use std::time::Duration;

use kube::core::Status;
use wasmop_core::watch::WaitReason;

use super::definition::Reason;
use crate::client::CredentialError;
use crate::error_chain::chain;

/// A list or watch that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub cause: FailureCause,
    pub message: String,
    /// The API server's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The cause to report, if more is known than `cause`.
    reported_as: Option<WaitReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// The resource version or continue token is too old; the watch lists again.
    Expired,
    /// The response cannot be parsed.
    Garbled,
    Because(WaitReason),
}

impl Failure {
    pub fn new(cause: WaitReason, message: impl Into<String>) -> Self {
        Failure { cause: FailureCause::Because(cause), message: message.into(), retry_after: None, reported_as: None }
    }

    pub fn garbled(error: impl fmt::Display) -> Self {
        let message = format!("cannot read the API server's response: {error}");
        Failure { cause: FailureCause::Garbled, message, retry_after: None, reported_as: None }
    }

    pub fn timed_out(what: &str) -> Self {
        Failure::new(WaitReason::Unreachable, format!("the API server did not {what} in time"))
    }

    /// Adds the reason why the resource is missing.
    pub fn explain(&mut self, reason: Reason) {
        self.message = format!("{}: {}", self.message, reason.message);
        self.reported_as = Some(reason.cause);
    }

    /// The cause to report to the owner.
    pub fn reported_cause(&self) -> WaitReason {
        if let Some(cause) = self.reported_as {
            return cause;
        }
        match self.cause {
            FailureCause::Because(cause) => cause,
            FailureCause::Expired | FailureCause::Garbled => WaitReason::Server,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let cause = match status.code {
            401 => FailureCause::Because(WaitReason::Unauthorized),
            403 => FailureCause::Because(WaitReason::Forbidden),
            404 => FailureCause::Because(WaitReason::Missing),
            410 => FailureCause::Expired,
            _ => FailureCause::Because(WaitReason::Server),
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
            reported_as: None,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Failure::from(*status),
            kube::Error::Auth(error) => Failure::new(WaitReason::Unauthorized, chain(&error)),
            kube::Error::SerdeError(error) => Failure::garbled(error),
            kube::Error::FromUtf8(error) => Failure::garbled(error),
            kube::Error::Service(error) if error.is::<CredentialError>() => {
                Failure::new(WaitReason::Unauthorized, error.to_string())
            }
            kube::Error::BuildRequest(error) => Failure::new(WaitReason::Invalid, chain(&error)),
            error => Failure::new(WaitReason::Unreachable, chain(&error)),
        }
    }
}
