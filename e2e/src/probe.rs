//! The custom resource by which a test requests one behaviour from a guest.

use anyhow::{Context, Result};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The requested behaviour; see `e2e/guests/probe-crd.yaml`.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(
    group = "e2e.wasmop.dev",
    version = "v1",
    kind = "Probe",
    namespaced,
    status = "ProbeStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeSpec {
    pub action: String,
    pub value: String,
    pub delay_ms: u64,
    pub count: u64,
}

/// What the guest has observed and done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeStatus {
    pub observed_generation: i64,
    /// Reconciles since the guest's memory was created.
    pub total: u64,
    /// Reconciles of this object since then.
    pub seen: u64,
    pub value: String,
    /// The count of the spec, if the action is `exact`.
    pub count: u64,
    pub echo: String,
}

impl Probe {
    pub fn observed(&self) -> ProbeStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether the status belongs to the current spec.
    pub fn is_current(&self) -> bool {
        self.status.is_some() && self.metadata.generation == Some(self.observed().observed_generation)
    }
}

/// A spec with an action and a value.
pub fn spec(action: &str, value: &str) -> ProbeSpec {
    ProbeSpec { action: action.into(), value: value.into(), ..ProbeSpec::default() }
}

/// The number that follows `prefix` in an echo.
pub fn number_after(echo: &str, prefix: &str) -> Result<u64> {
    echo.strip_prefix(prefix)
        .and_then(|rest| rest.parse().ok())
        .with_context(|| format!("{echo:?} is not {prefix}NUMBER"))
}
