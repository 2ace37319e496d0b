//! What happens to an operator's objects: the same steps in each cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::discovery::{ApiResource, Scope};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::cluster_content::{Content, RANDOM};

/// The cluster counts as settled after this time without a change.
const QUIET: Duration = Duration::from_secs(5);
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(90);
const MANAGER: &str = "wasmop-operators";

/// What was in the cluster after each step.
#[derive(Debug, Default)]
pub struct Phases(pub Vec<(&'static str, Content)>);

/// A cluster with the operator's CRDs, and what was in it before the operator.
pub struct Stage {
    pub client: Client,
    before: Content,
}

impl Stage {
    /// Creates the CRDs and the namespaces of the samples.
    pub async fn prepare(client: Client, crds: &[String], samples: &[Value]) -> Result<Stage> {
        for crd in crds {
            let crd: Value = serde_norway::from_str(crd).context("reading a CRD")?;
            apply(&client, &crd).await.context("applying a CRD")?;
        }
        for sample in samples {
            if let Some(namespace) = sample["metadata"]["namespace"].as_str() {
                let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                apply(&client, &object).await.context("creating a namespace")?;
            }
        }
        let before = settled(&client).await?;
        Ok(Stage { client, before })
    }

    /// Samples are created.
    pub async fn create(&self, samples: &[Value]) -> Result<Content> {
        for sample in samples {
            // A CRD that was just created is not served at once.
            let begun = Instant::now();
            while let Err(error) = apply(&self.client, sample).await {
                if begun.elapsed() > Duration::from_secs(15) {
                    return Err(error.context(format!("applying the sample {}", sample["metadata"]["name"])));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        self.settled().await
    }

    /// Somebody changes the samples and deletes what the operator made.
    pub async fn disturb(&self, samples: &[Value], children: &Content, round: &str) -> Result<Content> {
        for sample in samples {
            let (api, name) = api_of(&self.client, sample).await?;
            let patch = json!({"metadata": {"annotations": {"wasmop.dev/round": round}}});
            api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Merge(patch)).await?;
        }
        for key in children.owned().filter(|key| !key.ends_with(RANDOM)) {
            let Some(object) = children.objects.get(key) else { continue };
            let (api, name) = api_of(&self.client, object).await?;
            match api.delete(&name, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => drop(result.with_context(|| format!("deleting {key}"))?),
            }
        }
        self.settled().await
    }

    /// Samples are deleted.
    pub async fn delete(&self, samples: &[Value]) -> Result<Content> {
        for sample in samples {
            let (api, name) = api_of(&self.client, sample).await?;
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => drop(result?),
            }
        }
        self.settled().await
    }

    /// What the operator and its users have changed, once nothing changes any more.
    pub async fn settled(&self) -> Result<Content> {
        Ok(settled(&self.client).await?.since(&self.before))
    }
}

async fn settled(client: &Client) -> Result<Content> {
    let begun = Instant::now();
    let (mut content, mut since) = (Content::read(client).await?, Instant::now());
    while since.elapsed() < QUIET && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = Content::read(client).await?;
        if next.objects != content.objects {
            since = Instant::now();
        }
        content = next;
    }
    Ok(content)
}

async fn apply(client: &Client, object: &Value) -> Result<()> {
    let (api, name) = api_of(client, object).await?;
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// The API of an object, and its name. Objects without a namespace are in `default`.
async fn api_of(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, String)> {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).context("not an object")?;
    let types = parsed.types.as_ref().context("an object without apiVersion and kind")?;
    let kind = kube::core::GroupVersionKind::try_from(types)?;
    let (resource, capabilities): (ApiResource, _) = kube::discovery::pinned_kind(client, &kind).await?;
    let api = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = parsed.namespace().unwrap_or_else(|| "default".into());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    Ok((api, parsed.name_any()))
}
