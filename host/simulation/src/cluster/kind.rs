//! The kinds of objects that the simulated API server has, their paths, and the keys of objects.

use std::sync::Arc;

/// A kind of objects that the API server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A custom resource with a status.
    Website,
    /// A custom resource without namespaces.
    Zone,
    /// Of the core group: without a generation.
    ConfigMap,
    /// The same.
    Secret,
    /// What hosts elect with.
    Lease,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Website, Kind::Zone, Kind::ConfigMap, Kind::Secret, Kind::Lease];

    /// Group, version, plural and kind.
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Kind::Website => ("demo.wasmop.dev", "v1", "websites", "Website"),
            Kind::Zone => ("demo.wasmop.dev", "v1", "zones", "Zone"),
            Kind::ConfigMap => ("", "v1", "configmaps", "ConfigMap"),
            Kind::Secret => ("", "v1", "secrets", "Secret"),
            Kind::Lease => ("coordination.k8s.io", "v1", "leases", "Lease"),
        }
    }

    /// `v1` or `GROUP/v1`.
    pub fn api_version(self) -> String {
        match self.names() {
            ("", version, ..) => version.into(),
            (group, version, ..) => format!("{group}/{version}"),
        }
    }

    /// Its objects are in namespaces.
    pub fn namespaced(self) -> bool {
        self != Kind::Zone
    }

    /// Its objects have a generation, which counts changes of everything but status and metadata.
    pub fn has_generation(self) -> bool {
        matches!(self, Kind::Website | Kind::Zone)
    }

    /// The path of a collection, or of all collections in all namespaces.
    pub fn path(self, namespace: Option<&str>) -> String {
        let (group, version, plural, _) = self.names();
        let prefix = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{plural}"),
        }
    }

    /// The path of an object.
    pub fn object_path(self, key: &str) -> String {
        let (namespace, name) = split(key);
        format!("{}/{name}", self.path(namespace))
    }
}

/// A key into namespace and name.
pub fn split(key: &str) -> (Option<&str>, &str) {
    key.split_once('/').map_or((None, key), |(namespace, name)| (Some(namespace), name))
}

/// A key out of namespace and name.
pub fn join(namespace: Option<&str>, name: &str) -> Arc<str> {
    namespace.map_or_else(|| name.into(), |namespace| format!("{namespace}/{name}").into())
}
