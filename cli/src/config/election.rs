//! Whether other hosts run the same controllers: flags and keys that are named as kube-controller-manager's.

use std::time::Duration;

use wasmop_core::election::{DEFAULT_GROUP, Group, Timing};

use crate::error::{Failure, failure};
use crate::project::{DNS_LABEL_HELP, dns_label_problem};
use crate::toml_table::Table;
use crate::units;

const DURATION_HELP: &str = "write it like `500ms` or `15s`";

/// A part of [`super::HostKeys`].
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct ElectionKeys {
    /// Share the controllers with other hosts that run the same ones: Leases in the cluster say which host
    /// runs which. All of them need the same `--leader-elect-...` flags.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: Option<bool>,

    /// After which others take over from a host that does not renew its Lease, whole seconds [default: 15s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub leader_elect_lease_duration: Option<Duration>,

    /// After which a host that cannot renew its Lease stops its controllers; less than the Lease's duration
    /// [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub leader_elect_renew_deadline: Option<Duration>,

    /// How often a host renews its Lease and looks at the others [default: 2s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub leader_elect_retry_period: Option<Duration>,

    /// Names the hosts that share controllers, a DNS label: their Leases begin with it [default: wasmop].
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,

    /// Where the Leases are [default: the Pod's namespace, that of the kubeconfig's context, or default].
    #[arg(long, value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; {DURATION_HELP}"))
}

impl ElectionKeys {
    /// Those of a configuration file.
    pub fn read(top: &Table<'_>) -> Result<ElectionKeys, Failure> {
        let text = |key| Ok::<_, Failure>(top.string(key)?.map(str::to_owned));
        let duration = |key| top.parsed(key, DURATION_HELP, units::parse_duration);
        Ok(ElectionKeys {
            leader_elect: top.boolean("leader-elect")?,
            leader_elect_lease_duration: duration("leader-elect-lease-duration")?,
            leader_elect_renew_deadline: duration("leader-elect-renew-deadline")?,
            leader_elect_retry_period: duration("leader-elect-retry-period")?,
            leader_elect_resource_name: text("leader-elect-resource-name")?,
            leader_elect_resource_namespace: text("leader-elect-resource-namespace")?,
        })
    }

    pub fn or(&self, other: &ElectionKeys) -> ElectionKeys {
        let text = |here: &Option<String>, there: &Option<String>| here.as_ref().or(there.as_ref()).cloned();
        ElectionKeys {
            leader_elect: self.leader_elect.or(other.leader_elect),
            leader_elect_lease_duration: self.leader_elect_lease_duration.or(other.leader_elect_lease_duration),
            leader_elect_renew_deadline: self.leader_elect_renew_deadline.or(other.leader_elect_renew_deadline),
            leader_elect_retry_period: self.leader_elect_retry_period.or(other.leader_elect_retry_period),
            leader_elect_resource_name: text(&self.leader_elect_resource_name, &other.leader_elect_resource_name),
            leader_elect_resource_namespace: text(
                &self.leader_elect_resource_namespace,
                &other.leader_elect_resource_namespace,
            ),
        }
    }

    /// Each key, and whether it says something else than in `before`.
    pub fn differences(&self, before: &ElectionKeys) -> [(&'static str, bool); 6] {
        // Whole, so that a new field has to be thought of here.
        let ElectionKeys {
            leader_elect,
            leader_elect_lease_duration,
            leader_elect_renew_deadline,
            leader_elect_retry_period,
            leader_elect_resource_name,
            leader_elect_resource_namespace,
        } = self;
        [
            ("leader-elect", leader_elect.unwrap_or_default() != before.leader_elect.unwrap_or_default()),
            ("leader-elect-lease-duration", *leader_elect_lease_duration != before.leader_elect_lease_duration),
            ("leader-elect-renew-deadline", *leader_elect_renew_deadline != before.leader_elect_renew_deadline),
            ("leader-elect-retry-period", *leader_elect_retry_period != before.leader_elect_retry_period),
            ("leader-elect-resource-name", *leader_elect_resource_name != before.leader_elect_resource_name),
            (
                "leader-elect-resource-namespace",
                *leader_elect_resource_namespace != before.leader_elect_resource_namespace,
            ),
        ]
    }

    /// The hosts to share controllers with; `None`: there are none. What is said of them is checked in any case.
    pub fn group(&self) -> Result<Option<Group>, Failure> {
        let default = Timing::default();
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration.unwrap_or(default.lease_duration),
            renew_deadline: self.leader_elect_renew_deadline.unwrap_or(default.renew_deadline),
            retry_period: self.leader_elect_retry_period.unwrap_or(default.retry_period),
        };
        timing.check().map_err(|error| {
            let text = error.to_string();
            let (problem, help) = text.split_once("\nhelp: ").unwrap_or((&text, DURATION_HELP));
            failure(problem, help)
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
    fn there_are_other_hosts_only_if_it_is_said() {
        assert_eq!(ElectionKeys::default().group().unwrap(), None);
        let named = ElectionKeys { leader_elect_resource_name: Some("edge".into()), ..ElectionKeys::default() };
        assert_eq!(named.group().unwrap(), None);
        let group = ElectionKeys { leader_elect: Some(true), ..named }.group().unwrap().unwrap();
        assert_eq!((&*group.name, group.namespace, group.timing), ("edge", None, Timing::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_key_and_remedy_even_while_it_is_not_used() {
        let keys = ElectionKeys::default;
        for (keys, message, remedy) in [
            (
                ElectionKeys { leader_elect_lease_duration: seconds(10), ..keys() },
                "leader-elect-renew-deadline is 10s, which is not less than leader-elect-lease-duration, 10s",
                "a shorter leader-elect-renew-deadline",
            ),
            (
                ElectionKeys { leader_elect_retry_period: seconds(9), ..keys() },
                "leader-elect-retry-period is 9s",
                "leader-elect-retry-period of less than 5/6",
            ),
            (
                ElectionKeys { leader_elect_resource_name: Some("a.b".into()), ..keys() },
                "leader-elect-resource-name is `a.b`: the name",
                "DNS label",
            ),
            (
                ElectionKeys { leader_elect_resource_namespace: Some("A".into()), ..keys() },
                "leader-elect-resource-namespace is `A`: the name",
                "DNS label",
            ),
        ] {
            let error = anyhow::Error::from(keys.group().unwrap_err());
            let (problem, help) = crate::error::problem_and_help(&error);
            assert!(problem.contains(message) && help.contains(remedy), "{problem} / {help}");
        }
    }
}
