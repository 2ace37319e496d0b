//! What a simulated controller is made to do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits, PolicyRule, Relation};

use crate::cluster::{Kind, Object, split};

/// The label of ConfigMaps that a mapper reads.
pub const SOURCE_LABEL: &str = "source";
/// The finalizer of a controller that cleans up itself.
pub const FINALIZER: &str = "demo.wasmop.dev/cleanup";

/// A controller: what it registers and how it behaves.
#[derive(Clone, Debug)]
pub struct Program {
    /// The controller's name.
    pub name: Arc<str>,
    /// Its tier.
    pub tier: Tier,
    /// Its limits.
    pub limits: Limits,
    /// What it registers.
    pub registrations: Vec<Registration>,
    /// It registers in another order after each restart.
    pub shuffles: bool,
    /// Its `start` traps in some instances.
    pub fails_to_start: bool,
    /// A timer of its main function, which reads something each time.
    pub beat: Option<Duration>,
    /// It does nothing wrong on purpose: it has to make progress.
    pub is_good: bool,
}

/// One registration of a program.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The kind that it reconciles.
    pub primary: Kind,
    /// As the host knows it.
    pub spec: ControllerSpec,
    /// As the guest sends it.
    pub text: String,
    /// What a reconcile does.
    pub script: Script,
}

/// What a reconcile does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Reads may come from the host's cache.
    pub cached: bool,
    /// Keeps a ConfigMap with this suffix beside each object.
    pub child: Option<String>,
    /// The child has an owner reference; otherwise the controller deletes it itself.
    pub owns: bool,
    /// Cleans up before an object goes.
    pub finalizer: bool,
    /// What the child holds depends on the sources that name the object.
    pub sources: bool,
    /// Writes into the status what it has seen.
    pub status: bool,
    /// Waits so long before it is done.
    pub sleep: Option<Duration>,
    /// Is to be reconciled again after this.
    pub requeue: Option<Duration>,
    /// What it does wrong.
    pub mistakes: Mistakes,
}

/// What a reconcile does wrong.
#[derive(Clone, Debug, Default)]
pub struct Mistakes {
    /// Fails so often, in percent.
    pub errors: u32,
    /// Traps so often, in percent.
    pub traps: u32,
    /// A trap does not say which task ran.
    pub traps_silently: bool,
    /// Makes so many requests at once.
    pub flood: u32,
    /// Bytes of each of these.
    pub flood_bytes: usize,
    /// Never ends, so often, in percent.
    pub hangs: u32,
    /// Asks for what it may not have.
    pub denied: bool,
    /// Says nonsense, so often, in percent.
    pub nonsense: u32,
    /// Bytes of memory that each reconcile leaks.
    pub leak: u64,
    /// Opens a watch of its own and leaves it open.
    pub streams: bool,
}

impl Program {
    /// What its package asks for.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let all = |kind: Kind| PolicyRule {
            api_groups: vec![kind.names().0.into()],
            resources: vec![kind.names().2.into(), format!("{}/status", kind.names().2)],
            verbs: vec!["*".into()],
            ..PolicyRule::default()
        };
        // Secrets are what it may not have, unless it reconciles them.
        let has_secrets = self.registrations.iter().any(|registration| registration.primary == Kind::Secret);
        let secrets = has_secrets.then(|| all(Kind::Secret));
        [all(Kind::Website), all(Kind::Zone), all(Kind::ConfigMap)].into_iter().chain(secrets).collect()
    }

    /// Whether this is the key of a child that it keeps.
    pub fn has_child(&self, key: &str) -> bool {
        let suffixes = self.registrations.iter().filter_map(|registration| registration.script.child.as_ref());
        suffixes.into_iter().any(|suffix| key.strip_suffix(&**suffix).is_some_and(|rest| rest.ends_with('-')))
    }

    /// Whether it notices when somebody changes its children.
    pub fn watches_children(&self) -> bool {
        let watches = self.registrations.iter().flat_map(|registration| &registration.spec.watches);
        watches.into_iter().any(|watch| matches!(watch.relation, Relation::Owner | Relation::Controller))
    }

    /// The order in which an instance registers. `salt`: another one for each instance.
    pub fn order(&self, salt: u64) -> Vec<usize> {
        let count = self.registrations.len();
        let first = if self.shuffles && count > 0 { salt as usize % count } else { 0 };
        (0..count).map(|n| (n + first) % count).collect()
    }
}

/// The namespace of the children of an object.
fn child_namespace(key: &str) -> &str {
    split(key).0.unwrap_or("a")
}

impl Registration {
    /// The key of an object's child.
    pub fn child_key(&self, key: &str) -> Option<Arc<str>> {
        let suffix = self.script.child.as_ref()?;
        Some(format!("{}/{}-{suffix}", child_namespace(key), split(key).1).into())
    }

    /// What the child of an object holds, with these sources.
    pub fn expected<'a>(&self, value: u64, sources: impl Iterator<Item = &'a Object>) -> String {
        let sum: u64 = sources.map(|source| number(source.field("data", "value"))).sum();
        format!("{value}+{sum}")
    }

    /// The namespace and label selector of the sources of an object.
    pub fn sources_of(&self, key: &str) -> String {
        format!("{}?labelSelector={SOURCE_LABEL}", Kind::ConfigMap.path(Some(child_namespace(key))))
    }

    /// Whether a ConfigMap is a source of an object.
    pub fn is_source(source: &Object, key: &str) -> bool {
        source.labels.contains_key(SOURCE_LABEL)
            && split(&source.key).0 == Some(child_namespace(key))
            && targets(source.field("data", "targets"), &source.key).iter().any(|target| target == key)
    }
}

/// What `spec.value` or `data.value` says; 0 for anything else.
pub fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// The objects that a source names, in its own namespace.
pub fn targets(value: &serde_json::Value, source: &str) -> Vec<String> {
    let names = value.as_str().unwrap_or_default().split(',').filter(|name| !name.is_empty());
    let namespace = split(source).0.unwrap_or_default();
    names.map(|name| format!("{namespace}/{name}")).collect()
}

/// The body of a child.
pub fn child_body(key: &str, content: &str, version: Option<&str>, owner: Option<(Kind, &str, &str)>) -> String {
    let (namespace, name) = split(key);
    let mut meta = json!({"name": name, "namespace": namespace});
    if let Some(version) = version {
        meta["resourceVersion"] = version.into();
    }
    if let Some((kind, name, uid)) = owner {
        meta["ownerReferences"] = json!([{
            "apiVersion": kind.api_version(),
            "kind": kind.names().3,
            "name": name,
            "uid": uid,
            "controller": true,
        }]);
    }
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"content": content}}).to_string()
}
