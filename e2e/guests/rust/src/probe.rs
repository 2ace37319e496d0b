//! The custom resource that requests one behaviour.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The requested behaviour.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "e2e.wasmop.dev", version = "v1", kind = "Probe", namespaced, status = "ProbeStatus")]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    #[serde(default)]
    pub action: String,
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub delay_ms: u64,
    #[serde(default)]
    pub count: u64,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeStatus {
    pub observed_generation: i64,
    /// Reconciles of this guest since its memory was created.
    pub total: u64,
    /// Reconciles of this object since then.
    pub seen: u64,
    pub value: String,
    /// The count of the spec, if the action is `exact`.
    pub count: u64,
    /// The observation of the action.
    pub echo: String,
}
