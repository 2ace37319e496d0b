//! The custom resource.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text to be shown.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "operators.wasmop.dev", version = "v1", kind = "Banner", namespaced, status = "BannerStatus")]
#[serde(rename_all = "camelCase")]
pub struct BannerSpec {
    /// What the banner says.
    pub text: String,
    /// How often it says so.
    #[serde(default = "one")]
    pub repeat: u32,
    /// The banner is drawn again after this many seconds.
    pub refresh_seconds: Option<u64>,
}

fn one() -> u32 {
    1
}

/// What the operator has done.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BannerStatus {
    /// The generation that the ConfigMap reflects.
    pub observed_generation: i64,
    /// Lines in the ConfigMap.
    pub lines: u32,
    /// Reconciles of this object since the operator started.
    pub draws: u64,
}
