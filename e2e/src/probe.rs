//! The custom resource through which a test asks a guest for one behaviour.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What to do; see `e2e/guests/probe-crd.yaml`.
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

/// What the guest has seen and done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeStatus {
    pub observed_generation: i64,
    /// Reconciles since the guest's memory began.
    pub total: u64,
    /// Those of this object.
    pub seen: u64,
    pub value: String,
    /// What the spec says, if the action is `exact`.
    pub count: u64,
    pub echo: String,
}

impl Probe {
    pub fn observed(&self) -> ProbeStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether the status is about the spec as it is now.
    pub fn is_current(&self) -> bool {
        self.status.is_some() && self.metadata.generation == Some(self.observed().observed_generation)
    }
}

/// A spec with an action and a value.
pub fn spec(action: &str, value: &str) -> ProbeSpec {
    ProbeSpec { action: action.into(), value: value.into(), ..ProbeSpec::default() }
}
