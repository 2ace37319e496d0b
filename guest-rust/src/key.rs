//! The key of an object in a work queue: `namespace/name`, or `name` for cluster-scoped kinds.

use kube::Resource;
use kube::runtime::reflector::ObjectRef;

/// The key of the object that a reference names.
pub fn of<K: Resource>(object: &ObjectRef<K>) -> String {
    match &object.namespace {
        Some(namespace) => format!("{namespace}/{}", object.name),
        None => object.name.clone(),
    }
}

/// Namespace and name.
#[cfg_attr(not(any(target_family = "wasm", test)), expect(dead_code, reason = "keys come from the host"))]
pub fn split(key: &str) -> (Option<&str>, &str) {
    match key.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn a_key_is_split_into_what_it_was_made_from() {
        let cluster_scoped = ObjectRef::<ConfigMap>::new("a");
        let namespaced = cluster_scoped.clone().within("ns");
        for (object, key, parts) in [(cluster_scoped, "a", (None, "a")), (namespaced, "ns/a", (Some("ns"), "a"))] {
            assert_eq!(of(&object), key);
            assert_eq!(split(key), parts);
        }
    }
}
