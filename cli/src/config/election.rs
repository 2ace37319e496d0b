//! Leader election: which hosts share controllers, from keys named as kube-controller-manager's flags.

use std::time::Duration;

use wasmop_core::election::{DEFAULT_GROUP, Group, Timing};

use super::HostKeys;
use crate::dns_label::{DNS_LABEL_HELP, dns_label_problem};
use crate::error::{Failure, failure, split_help};
use crate::toml_file::value::Written;

impl HostKeys {
    /// The group of hosts to share controllers with, if leader election is on. The keys are checked in any case.
    pub fn election_group(&self) -> Result<Option<Group>, Failure> {
        let default = Timing::default();
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration.unwrap_or(default.lease_duration),
            renew_deadline: self.leader_elect_renew_deadline.unwrap_or(default.renew_deadline),
            retry_period: self.leader_elect_retry_period.unwrap_or(default.retry_period),
        };
        timing.check().map_err(|error| {
            let text = error.to_string();
            let (problem, help) = split_help(&text);
            failure(problem, help.unwrap_or(Duration::HELP))
        })?;
        let name = self.leader_elect_resource_name.as_deref().unwrap_or(DEFAULT_GROUP);
        let namespace = self.leader_elect_resource_namespace.as_deref();
        let names = [("leader-elect-resource-name", Some(name)), ("leader-elect-resource-namespace", namespace)];
        for (key, name) in names {
            if let Some((name, problem)) = name.and_then(|name| Some((name, dns_label_problem(name)?))) {
                return Err(failure(format!("{key} is `{name}`: the name {problem}"), DNS_LABEL_HELP));
            }
        }
        let group = Group { name: name.into(), namespace: namespace.map(Into::into), timing };
        Ok(self.leader_elect.unwrap_or_default().then_some(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn controllers_are_shared_only_with_leader_elect() {
        assert_eq!(HostKeys::default().election_group().unwrap(), None);
        let named = HostKeys { leader_elect_resource_name: Some("edge".into()), ..HostKeys::default() };
        assert_eq!(named.election_group().unwrap(), None);
        let group = HostKeys { leader_elect: Some(true), ..named }.election_group().unwrap().unwrap();
        assert_eq!((&*group.name, group.namespace, group.timing), ("edge", None, Timing::default()));
    }

    #[test]
    fn wrong_values_are_refused_with_key_and_remedy_even_without_leader_elect() {
        let keys = HostKeys::default;
        for (keys, message, remedy) in [
            (
                HostKeys { leader_elect_lease_duration: seconds(10), ..keys() },
                "leader-elect-renew-deadline is 10s, which is not less than leader-elect-lease-duration, 10s",
                "a shorter leader-elect-renew-deadline",
            ),
            (
                HostKeys { leader_elect_retry_period: seconds(9), ..keys() },
                "leader-elect-retry-period is 9s",
                "leader-elect-retry-period of less than 5/6",
            ),
            (
                HostKeys { leader_elect_resource_name: Some("a.b".into()), ..keys() },
                "leader-elect-resource-name is `a.b`: the name",
                "DNS label",
            ),
            (
                HostKeys { leader_elect_resource_namespace: Some("A".into()), ..keys() },
                "leader-elect-resource-namespace is `A`: the name",
                "DNS label",
            ),
        ] {
            let error = anyhow::Error::from(keys.election_group().unwrap_err());
            let (problem, help) = crate::error::problem_and_help(&error);
            assert!(problem.contains(message) && help.contains(remedy), "{problem} / {help}");
        }
    }
}
