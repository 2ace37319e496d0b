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
            assert_eq!(wasmop_runtime::registration::split_key(key), parts);
        }
    }
}
