//! Work queue keys: `namespace/name`, or `name` for cluster-scoped objects.

use kube::Resource;
use kube::runtime::reflector::ObjectRef;

/// Returns the key of the referenced object.
pub fn of<K: Resource>(object: &ObjectRef<K>) -> String {
    match &object.namespace {
        Some(namespace) => format!("{namespace}/{}", object.name),
        None => object.name.clone(),
    }
}

/// Splits a key into namespace and name.
#[cfg_attr(not(any(target_family = "wasm", test)), expect(dead_code, reason = "only a wasmop host sends keys"))]
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
    fn splitting_a_key_returns_its_namespace_and_name() {
        let cluster_scoped = ObjectRef::<ConfigMap>::new("a");
        let namespaced = cluster_scoped.clone().within("ns");
        for (object, key, parts) in [(cluster_scoped, "a", (None, "a")), (namespaced, "ns/a", (Some("ns"), "a"))] {
            assert_eq!(of(&object), key);
            assert_eq!(split(key), parts);
        }
    }
}
