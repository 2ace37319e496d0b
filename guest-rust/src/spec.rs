//! The JSON that a guest passes to the host's `register`: a controller and its watches.

use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::Serialize;

/// A controller and its watches.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerSpec {
    pub name: String,
    /// The namespace to watch. `None` means all namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// At most this many reconciles run concurrently. 0 means unlimited.
    pub max_concurrent_reconciles: u32,
    pub primary: WatchSpec,
    pub watches: Vec<WatchSpec>,
}

/// One kind that a controller watches.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchSpec {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    /// The namespace to watch. `None` means the controller's namespace, and an empty string means all namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub relation: Relation,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
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
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The object itself.
    Own,
    /// Its owners of the primary kind.
    Owner,
    /// The objects that the guest returns for a `map` event.
    Map,
}

impl WatchSpec {
    pub fn new<K: Resource>(dyntype: &K::DynamicType, config: watcher::Config, relation: Relation) -> WatchSpec {
        WatchSpec {
            group: K::group(dyntype).into_owned(),
            version: K::version(dyntype).into_owned(),
            kind: K::kind(dyntype).into_owned(),
            plural: K::plural(dyntype).into_owned(),
            namespace: None,
            relation,
            label_selector: config.label_selector.unwrap_or_default(),
            field_selector: config.field_selector.unwrap_or_default(),
            generation_changed: false,
            predicate: String::new(),
            cached: false,
            ignore_own_writes: false,
        }
    }
}

/// Returns the namespace of an `Api`, or `None` if it covers all namespaces.
pub fn namespace_of<K: Resource>(api: &Api<K>, dyntype: &K::DynamicType) -> Option<String> {
    // `Api` has no accessor for its namespace, but its URL contains it.
    namespace_in(api.resource_url(), &K::url_path(dyntype, None), &K::plural(dyntype)).map(str::to_owned)
}

fn namespace_in<'a>(url: &'a str, everywhere: &str, plural: &str) -> Option<&'a str> {
    if url == everywhere {
        return None;
    }
    let (_, namespaced) = url.split_once("/namespaces/")?;
    namespaced.strip_suffix(plural)?.strip_suffix('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};

    #[test]
    fn the_namespace_of_an_api_comes_from_its_url() {
        for (url, everywhere, plural, namespace) in [
            (Deployment::url_path(&(), None), Deployment::url_path(&(), None), "deployments", None),
            (Deployment::url_path(&(), Some("web")), Deployment::url_path(&(), None), "deployments", Some("web")),
            (ConfigMap::url_path(&(), Some("web")), ConfigMap::url_path(&(), None), "configmaps", Some("web")),
            (Namespace::url_path(&(), None), Namespace::url_path(&(), None), "namespaces", None),
        ] {
            assert_eq!(namespace_in(&url, &everywhere, plural), namespace, "{url}");
        }
    }

    #[test]
    fn a_spec_serializes_to_the_json_the_host_expects() {
        let spec = ControllerSpec {
            name: "deployment".to_owned(),
            namespace: Some("web".to_owned()),
            max_concurrent_reconciles: 3,
            primary: WatchSpec::new::<Deployment>(&(), watcher::Config::default().labels("a=b"), Relation::Own),
            watches: vec![WatchSpec::new::<ConfigMap>(&(), watcher::Config::default(), Relation::Owner)],
        };
        assert_eq!(
            serde_json::to_value(&spec).expect("JSON"),
            serde_json::json!({
                "name": "deployment", "namespace": "web", "maxConcurrentReconciles": 3,
                "primary": {
                    "group": "apps", "version": "v1", "kind": "Deployment", "plural": "deployments",
                    "relation": "own", "labelSelector": "a=b", "generationChanged": false,
                },
                "watches": [{
                    "group": "", "version": "v1", "kind": "ConfigMap", "plural": "configmaps",
                    "relation": "owner", "generationChanged": false,
                }],
            })
        );
    }
}
