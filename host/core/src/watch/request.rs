//! What a controller wants to watch, and the resource that the API server has for it.

use std::sync::Arc;

use wasmop_package::manifest::WatchSpec;

use crate::excerpt::name_excerpt;
use crate::service_account::ServiceAccount;

/// What to watch. Requests for the same objects share one upstream, whole ones or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchRequest {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// As in URLs; empty: taken from discovery.
    pub plural: String,
    /// `None` for all. Of a kind without namespaces all are watched in any case.
    pub namespace: Option<String>,
    /// Of several namespaces of a controller, not the first. Of a kind without namespaces this watch has no objects: the
    /// first has them all.
    pub further: bool,
    pub label_selector: String,
    pub field_selector: String,
    /// Keep whole objects; otherwise only metadata is asked for.
    pub full_objects: bool,
    /// As whom; `None`: the host. What one identity may see is never shown to another.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl WatchRequest {
    /// What a controller of this namespace (none or empty: all) needs for this watch. A guest that maps objects to
    /// keys itself needs to see them whole, as does one that reads them from the cache, and a predicate.
    pub fn new(spec: &WatchSpec, namespace: Option<&str>, service_account: Option<Arc<ServiceAccount>>) -> Self {
        WatchRequest {
            group: spec.group.clone(),
            version: spec.version.clone(),
            kind: spec.kind.clone(),
            plural: spec.plural.clone(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(Into::into),
            further: false,
            label_selector: spec.label_selector.clone(),
            field_selector: spec.field_selector.clone(),
            full_objects: spec.keeps_objects(),
            service_account,
        }
    }

    /// `websites.demo.wasmop.dev/v1`; with the kind if the plural is not known. Parts that are too long are cut.
    pub fn resource(&self) -> String {
        let WatchRequest { group, version, kind, plural, .. } = self;
        let name = name_excerpt(if plural.is_empty() { kind } else { plural });
        let (group, version) = (name_excerpt(group), name_excerpt(version));
        if group.is_empty() { format!("{name}/{version}") } else { format!("{name}.{group}/{version}") }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A resource as the API server serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub plural: String,
    pub namespaced: bool,
}
