//! One guest in the environment: its namespace, its Probes, and its records in the host's log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};
use wasmop_testbed::log::Record;

use crate::environment::Environment;
use crate::guests::Guest;
use crate::probe::{Probe, ProbeSpec};
use crate::test_cluster::TIMEOUT;

/// The interval at which a test polls for a condition.
pub const POLL: Duration = Duration::from_millis(50);

/// One guest in the environment.
#[derive(Clone)]
pub struct GuestFixture {
    pub env: Arc<Environment>,
    pub guest: Guest,
}

impl GuestFixture {
    pub fn probes(&self) -> Api<Probe> {
        Api::namespaced(self.env.cluster.client.clone(), self.guest.name)
    }

    pub fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.env.cluster.client.clone(), self.guest.name)
    }

    pub async fn create(&self, name: &str, spec: ProbeSpec) -> Result<Probe> {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some([("guest".to_owned(), self.guest.name.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let probe = Probe { metadata, spec, status: None };
        self.probes().create(&PostParams::default(), &probe).await.with_context(|| format!("creating {name}"))
    }

    /// Replaces the spec; returns the object with its new generation.
    pub async fn change(&self, name: &str, spec: ProbeSpec) -> Result<Probe> {
        let patch = serde_json::json!({ "spec": spec });
        self.probes()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("changing {name}"))
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.probes().delete(name, &DeleteParams::default()).await.with_context(|| format!("deleting {name}"))?;
        Ok(())
    }

    /// Deletes a Probe and waits until it is gone.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.delete(name).await?;
        self.until_gone(name).await
    }

    pub async fn until_gone(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while let Some(probe) = self.probes().get_opt(name).await? {
            if Instant::now() > deadline {
                bail!("{name} is still there, with finalizers {:?}", probe.finalizers());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until `wanted` holds for the Probe.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Probe) -> bool) -> Result<Probe> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let probe = self.probes().get(name).await.with_context(|| format!("waiting for {name}: {what}"))?;
            if wanted(&probe) {
                return Ok(probe);
            }
            if Instant::now() > deadline {
                bail!(
                    "{name}: not {what} after {TIMEOUT:?}; generation {:?}, status {:?}",
                    probe.metadata.generation,
                    probe.status
                );
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the status belongs to the current spec.
    pub async fn until_current(&self, name: &str) -> Result<Probe> {
        self.until(name, "reconciled", Probe::is_current).await
    }

    /// Creates a Probe and waits until it has been reconciled.
    pub async fn create_and_wait(&self, name: &str, spec: ProbeSpec) -> Result<Probe> {
        self.create(name, spec).await?;
        self.until_current(name).await
    }

    /// Changes a Probe and waits until it has been reconciled.
    pub async fn change_and_wait(&self, name: &str, spec: ProbeSpec) -> Result<Probe> {
        self.change(name, spec).await?;
        self.until_current(name).await
    }

    /// Waits until a ConfigMap exists and `wanted` holds for it.
    pub async fn until_config_map(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&ConfigMap) -> bool,
    ) -> Result<ConfigMap> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = self.config_maps().get_opt(name).await?;
            match found {
                Some(config_map) if wanted(&config_map) => return Ok(config_map),
                found if Instant::now() > deadline => {
                    bail!("ConfigMap {name}: not {what} after {TIMEOUT:?}; it is {found:?}")
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// The current length of the host's log. Later records have this position or a higher one.
    pub fn position(&self) -> Result<usize> {
        self.env.host().log.position()
    }

    /// This guest's records from `position` on.
    pub fn logged(&self, position: usize) -> Result<Vec<Record>> {
        let mut host = self.env.host();
        let records = host.log.records()?;
        Ok(records
            .iter()
            .skip(position)
            .filter(|record| record.text("controller") == self.guest.name)
            .cloned()
            .collect())
    }

    /// Waits until `wanted` holds for one of this guest's records from `position` on.
    pub async fn until_logged(&self, position: usize, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Record> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(record) = self.logged(position)?.into_iter().find(|record| wanted(record)) {
                return Ok(record);
            }
            if Instant::now() > deadline {
                bail!("nothing logged about {what} within {TIMEOUT:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the guest is suspended, or has continued from a snapshot and was not resumed since.
    pub async fn until_suspended(&self) -> Result<Record> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let records = self.logged(0)?.into_iter().rev();
            let last = records
                .into_iter()
                .find(|record| ["suspended", "resumed", "controller ready"].contains(&record.message()));
            let is = |record: &Record| record.message() == "suspended" || record.text("from") == "snapshot";
            if let Some(record) = last.filter(is) {
                return Ok(record);
            }
            if Instant::now() > deadline {
                bail!("not suspended after {TIMEOUT:?}");
            }
            sleep(POLL).await;
        }
    }

    /// The path of a ConfigMap in the guest's namespace.
    pub fn config_map_path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{name}", self.guest.name)
    }

    /// The key under which the host logs a Probe.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.guest.name)
    }
}
