//! The watches of a controller, from the types and settings of `kube`.

use kube::runtime::watcher;
use kube::{Api, Resource};
use wasmop_runtime::registration::{Relation, WatchSpec, namespace_in};

/// Returns the watch of a kind.
pub fn watch<K: Resource>(dyntype: &K::DynamicType, config: watcher::Config, relation: Relation) -> WatchSpec {
    WatchSpec {
        group: K::group(dyntype).into_owned(),
        version: K::version(dyntype).into_owned(),
        kind: K::kind(dyntype).into_owned(),
        plural: K::plural(dyntype).into_owned(),
        relation,
        label_selector: config.label_selector.unwrap_or_default(),
        field_selector: config.field_selector.unwrap_or_default(),
        ..WatchSpec::default()
    }
}

/// Returns the namespace of an `Api`, or `None` if it covers all namespaces.
pub fn namespace_of<K: Resource>(api: &Api<K>, dyntype: &K::DynamicType) -> Option<String> {
    // `Api` has no accessor for its namespace, but its URL contains it.
    namespace_in(api.resource_url(), &K::url_path(dyntype, None), &K::plural(dyntype)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;

    #[test]
    fn a_watch_has_the_names_of_its_kind_and_the_selectors() {
        let config = watcher::Config::default().labels("a=b").fields("metadata.name=c");
        let expected = WatchSpec {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            plural: "deployments".to_owned(),
            relation: Relation::Owner,
            label_selector: "a=b".to_owned(),
            field_selector: "metadata.name=c".to_owned(),
            ..WatchSpec::default()
        };
        assert_eq!(watch::<Deployment>(&(), config, Relation::Owner), expected);
    }
}
