//! One Probe, as its user changes it.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};

use crate::guests::Guest;
use crate::probe::{Probe, ProbeSpec, ProbeStatus, spec};
use crate::test_cluster::{TIMEOUT, TestCluster};

/// A Probe that exists or will be created.
pub struct ProbeObject {
    api: Api<Probe>,
    /// The name of its guest, and of its namespace.
    pub name: &'static str,
    pub object: &'static str,
}

impl ProbeObject {
    pub fn new(cluster: &TestCluster, guest: &Guest, object: &'static str) -> ProbeObject {
        ProbeObject { api: Api::namespaced(cluster.client.clone(), guest.name), name: guest.name, object }
    }

    pub async fn create(&self) -> Result<()> {
        self.create_with(spec("child", "0")).await
    }

    pub async fn create_with(&self, spec: ProbeSpec) -> Result<()> {
        let labels = Some([("guest".to_owned(), self.name.to_owned())].into());
        let metadata = ObjectMeta { name: Some(self.object.into()), labels, ..ObjectMeta::default() };
        let probe = Probe { metadata, spec, status: None };
        self.api.create(&PostParams::default(), &probe).await?;
        self.until_current(TIMEOUT).await
    }

    pub async fn observed(&self) -> Result<ProbeStatus> {
        Ok(self.api.get(self.object).await?.observed())
    }

    /// Waits until its current spec has been reconciled.
    pub async fn until_current(&self, timeout: Duration) -> Result<()> {
        let current = async {
            while !self.api.get(self.object).await?.is_current() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(timeout, current).await.context("the Probe is not reconciled")?
    }

    /// Changes its value, and waits until the change has been reconciled.
    pub async fn change(&self, value: &str) -> Result<()> {
        self.change_to(spec("child", value)).await
    }

    pub async fn change_to(&self, spec: ProbeSpec) -> Result<()> {
        self.change_without_waiting(spec).await?;
        self.until_current(TIMEOUT).await
    }

    /// Changes its spec, and does not wait.
    pub async fn change_without_waiting(&self, spec: ProbeSpec) -> Result<()> {
        let patch = serde_json::json!({ "spec": spec });
        self.api.patch(self.object, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}
