//! Turns the elector's requests into Leases of `coordination.k8s.io` and back.
//!
//! ```text
//!  GROUP.host.HOST              labels wasmop.dev/group, wasmop.dev/role=host; controllers it can run as an annotation
//!  GROUP.controller.CONTROLLER  labels wasmop.dev/group, wasmop.dev/role=controller; no duration of its own
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use wasmop_core::election::{Answer, Failure, Record, Request, Role, Write};

use crate::error_chain::chain;

const GROUP_LABEL: &str = "wasmop.dev/group";
const ROLE_LABEL: &str = "wasmop.dev/role";
/// Names of controllers, with commas between them.
const RUNS: &str = "wasmop.dev/controllers";

/// The Leases of one group of hosts.
#[derive(Clone)]
pub struct Leases {
    api: Api<Lease>,
    group: Arc<str>,
}

impl Leases {
    /// The Leases of a group in a namespace.
    pub fn new(client: kube::Client, namespace: &str, group: Arc<str>) -> Leases {
        Leases { api: Api::namespaced(client, namespace), group }
    }

    /// Sends a request of the elector.
    ///
    /// # Errors
    /// [`Failure::Conflict`] if the Lease is not as expected; [`Failure::Other`] if the request failed or its result is
    /// unknown.
    pub async fn execute(&self, request: &Request) -> Result<Answer, Failure> {
        match request {
            Request::List(role) => {
                let selector = format!("{GROUP_LABEL}={},{ROLE_LABEL}={}", self.group, role.as_str());
                // Without a resource version, the list is up to date on every server.
                let list = self.api.list(&ListParams::default().labels(&selector)).await.map_err(failure)?;
                let prefix = self.name(*role, "");
                let named = |lease: Lease| {
                    let name = lease.metadata.name.as_deref()?.strip_prefix(&prefix)?.to_owned();
                    Some((name, record(lease)))
                };
                Ok(Answer::Listed(list.items.into_iter().filter_map(named).collect()))
            }
            Request::Write(write) => {
                let name = self.name(write.role, &write.name);
                let lease = self.lease(&name, write);
                let written = match write.replaces {
                    None => self.api.create(&PostParams::default(), &lease).await,
                    Some(_) => self.api.replace(&name, &PostParams::default(), &lease).await,
                };
                written.map(|lease| Answer::Written(record(lease))).map_err(failure)
            }
            Request::Delete { host, version } => {
                let seen = Preconditions { resource_version: Some(version.clone()), uid: None };
                let params = DeleteParams::default().preconditions(seen);
                self.api.delete(&self.name(Role::Host, host), &params).await.map_err(failure)?;
                Ok(Answer::Deleted)
            }
        }
    }

    fn name(&self, role: Role, name: &str) -> String {
        format!("{}.{}.{name}", self.group, role.as_str())
    }

    fn lease(&self, name: &str, write: &Write) -> Lease {
        let Write { role, name: _, replaces, holder, transitions, acquired_us, duration, runs } = write;
        let labels = [(GROUP_LABEL, &*self.group), (ROLE_LABEL, role.as_str())];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let annotations = (*role == Role::Host).then(|| {
            let names: Vec<&str> = runs.iter().map(|name| &**name).collect();
            [(RUNS.to_owned(), names.join(","))].into()
        });
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.into()),
                annotations,
                resource_version: replaces.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.clone()),
                lease_duration_seconds: duration.map(|d| i32::try_from(d.as_secs()).unwrap_or(i32::MAX)),
                acquire_time: Timestamp::from_microsecond(*acquired_us).ok().map(MicroTime),
                renew_time: Some(MicroTime(Timestamp::now())),
                lease_transitions: Some(*transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn record(lease: Lease) -> Record {
    let Lease { metadata, spec } = lease;
    let spec = spec.unwrap_or_default();
    let runs = metadata.annotations.as_ref().and_then(|all| all.get(RUNS));
    let runs: BTreeSet<Arc<str>> =
        runs.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty()).map(Arc::from).collect();
    Record {
        uid: metadata.uid.unwrap_or_default(),
        version: metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        acquired_us: spec.acquire_time.map_or(0, |time| time.0.as_microsecond()),
        duration: Duration::from_secs(spec.lease_duration_seconds.map_or(0, |s| u64::try_from(s).unwrap_or(0))),
        runs: Arc::new(runs),
    }
}

fn failure(error: kube::Error) -> Failure {
    const NOT_FOUND: u16 = 404;
    const CONFLICT: u16 = 409;
    match &error {
        // A Lease that was removed, or that exists already, is not as expected either.
        kube::Error::Api(status) if [NOT_FOUND, CONFLICT].contains(&status.code) && !is_namespace(status) => {
            Failure::Conflict
        }
        error => Failure::Other(chain(error)),
    }
}

/// Whether the namespace is missing rather than the Lease.
fn is_namespace(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn write(role: Role) -> Write {
        Write {
            role,
            name: "a-00000001".into(),
            replaces: Some("7".into()),
            holder: "a-00000001".into(),
            transitions: 3,
            acquired_us: 1_764_063_000_500_000,
            duration: (role == Role::Host).then_some(Duration::from_secs(15)),
            runs: Arc::new(["certs".into(), "website".into()].into()),
        }
    }

    #[tokio::test]
    async fn lease_round_trips() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("not called"))
        });
        let leases = Leases::new(kube::Client::new(service, "default"), "default", "wasmop".into());
        let host = leases.lease("wasmop.host.a-00000001", &write(Role::Host));
        assert_eq!(host.metadata.resource_version.as_deref(), Some("7"));
        let labels = host.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels, BTreeMap::from([(GROUP_LABEL.into(), "wasmop".into()), (ROLE_LABEL.into(), "host".into())]));
        let back = record(host);
        let Write { holder, transitions, acquired_us, duration, runs, .. } = write(Role::Host);
        assert_eq!((back.holder, back.transitions, back.acquired_us), (holder, transitions, acquired_us));
        assert_eq!((Some(back.duration), back.runs, &*back.version), (duration, runs, "7"));
        // Other tools must not report the Lease as expired.
        let controller = leases.lease("wasmop.controller.website", &write(Role::Controller)).spec.unwrap_or_default();
        assert_eq!(controller.lease_duration_seconds, None);
    }

    #[test]
    fn foreign_lease_is_read_with_defaults() {
        assert_eq!(record(Lease::default()), Record::default());
        let spec = LeaseSpec { lease_duration_seconds: Some(-1), ..LeaseSpec::default() };
        assert_eq!(record(Lease { spec: Some(spec), ..Lease::default() }).duration, Duration::ZERO);
    }
}
