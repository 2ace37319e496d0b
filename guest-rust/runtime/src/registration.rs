//! The JSON that a guest passes to the host's `register`: a controller and its watches.

use serde::Serialize;

/// A controller and its watches.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerSpec {
    /// The controller's name.
    pub name: String,
    /// The namespace to watch. `None` means all namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// At most this many reconciles run concurrently. 0 means unlimited.
    pub max_concurrent_reconciles: u32,
    /// Reconcile only objects that the primary watch has: no deleted ones, and no other names from a mapper.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_existing: bool,
    /// An object is reconciled this many milliseconds after its last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce_ms: Option<u64>,
    /// The watch of the kind to reconcile.
    pub primary: WatchSpec,
    /// Watches of other kinds whose changes cause reconciles.
    pub watches: Vec<WatchSpec>,
}

/// One kind that a controller watches.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchSpec {
    /// The API group. Empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The name of the resource in URLs.
    pub plural: String,
    /// The namespace to watch. `None` means the controller's namespace, and an empty string means all namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How a change determines the objects to reconcile.
    pub relation: Relation,
    /// Empty selects everything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    /// Empty selects everything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_selector: String,
    /// Ignore changes that leave `metadata.generation` unchanged.
    pub generation_changed: bool,
    /// A CEL expression. Changes for which it is false are ignored. Empty means no predicate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub predicate: String,
    /// The host caches the objects and answers reads that any resource version satisfies.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Ignore changes that result from this controller's own writes during a reconcile of the same object.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_own_writes: bool,
}

/// How a change to a watched object determines the objects to reconcile.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The object itself.
    #[default]
    Own,
    /// Its owners of the primary kind.
    Owner,
    /// The objects that the guest returns for a `map` event.
    Map,
}

impl ControllerSpec {
    /// Adds a watch of the objects in a namespace, or in all namespaces.
    pub fn add_watch(&mut self, mut watch: WatchSpec, namespace: Option<String>) {
        if namespace != self.namespace {
            // The host ignores this for cluster-scoped kinds.
            watch.namespace = Some(namespace.unwrap_or_default());
        }
        self.watches.push(watch);
    }

    /// The JSON for the host.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a spec consists of strings and numbers")
    }
}

/// Returns the namespace in the URL of a collection, or `None` if it covers all namespaces. `everywhere` is the URL for all
/// namespaces.
pub fn namespace_in<'a>(url: &'a str, everywhere: &str, plural: &str) -> Option<&'a str> {
    if url == everywhere {
        return None;
    }
    let (_, namespaced) = url.split_once("/namespaces/")?;
    namespaced.strip_suffix(plural)?.strip_suffix('/')
}

/// Splits the key of an object, as the host's queue has it, into namespace and name.
pub fn split_key(key: &str) -> (Option<&str>, &str) {
    match key.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_a_collection_comes_from_its_url() {
        let (core, apps) = ("/api/v1/configmaps", "/apis/apps/v1/deployments");
        for (url, everywhere, plural, namespace) in [
            (apps, apps, "deployments", None),
            ("/apis/apps/v1/namespaces/web/deployments", apps, "deployments", Some("web")),
            ("/api/v1/namespaces/web/configmaps", core, "configmaps", Some("web")),
            ("/api/v1/namespaces", "/api/v1/namespaces", "namespaces", None),
        ] {
            assert_eq!(namespace_in(url, everywhere, plural), namespace, "{url}");
        }
    }

    #[test]
    fn a_spec_serializes_to_the_json_the_host_expects() {
        let watch = |kind: &str, plural: &str| WatchSpec {
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            ..WatchSpec::default()
        };
        let mut spec = ControllerSpec {
            name: "deployment".to_owned(),
            namespace: Some("web".to_owned()),
            max_concurrent_reconciles: 3,
            only_existing: false,
            debounce_ms: None,
            primary: WatchSpec {
                group: "apps".to_owned(),
                label_selector: "a=b".to_owned(),
                ..watch("Deployment", "deployments")
            },
            watches: Vec::new(),
        };
        spec.add_watch(
            WatchSpec { relation: Relation::Owner, ..watch("ConfigMap", "configmaps") },
            spec.namespace.clone(),
        );
        spec.add_watch(WatchSpec { relation: Relation::Map, ..watch("Secret", "secrets") }, None);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&spec.to_json()).expect("JSON"),
            serde_json::json!({
                "name": "deployment", "namespace": "web", "maxConcurrentReconciles": 3,
                "primary": {
                    "group": "apps", "version": "v1", "kind": "Deployment", "plural": "deployments",
                    "relation": "own", "labelSelector": "a=b", "generationChanged": false,
                },
                "watches": [{
                    "group": "", "version": "v1", "kind": "ConfigMap", "plural": "configmaps",
                    "relation": "owner", "generationChanged": false,
                }, {
                    "group": "", "version": "v1", "kind": "Secret", "plural": "secrets", "namespace": "",
                    "relation": "map", "generationChanged": false,
                }],
            })
        );
    }
}
