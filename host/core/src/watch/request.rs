//! The objects that a controller watches, and the resource that serves them.

use std::sync::Arc;

use wasmop_package::manifest::WatchSpec;

use crate::excerpt::name_excerpt;
use crate::service_account::ServiceAccount;

/// The objects to watch. Equal requests share one upstream watch, whether or not they keep whole objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchRequest {
    /// Empty for the core group.
    pub group: String,
    /// API version, without the group.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// The name in URLs. If empty, discovery provides it.
    pub plural: String,
    /// `None` for all namespaces. Cluster-scoped kinds ignore it.
    pub namespace: Option<String>,
    /// Set for all but the first namespace of a controller. For a cluster-scoped kind such a watch has no objects: the
    /// first one has them all.
    pub further: bool,
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
    /// Keep whole objects. Otherwise the host requests metadata only.
    pub full_objects: bool,
    /// The identity of the request; `None`: the host. Different identities never share a watch.
    pub service_account: Option<Arc<ServiceAccount>>,
}

impl WatchRequest {
    /// The request for one watch of a controller in a namespace; none or an empty one is all namespaces. Map functions,
    /// cached reads and predicates need whole objects.
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

    /// `websites.demo.wasmop.dev/v1`, or with the kind if the plural is unknown. Long parts are cut.
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
    /// The name in URLs.
    pub plural: String,
    /// Whether its objects have namespaces.
    pub namespaced: bool,
}
