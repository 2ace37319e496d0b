//! The objects that serve a Website: a ConfigMap with the page, a Deployment that mounts it, and a Service. Kubernetes
//! deletes them with the Website.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, PodSpec, PodTemplateSpec, Service, ServicePort,
    ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::website::Website;

/// Part of the children's names, so that other controllers can have Websites in the same namespace.
const PROJECT: &str = env!("CARGO_PKG_NAME");
const PAGE_VOLUME: &str = "page";
const HTTP: i32 = 80;

/// The name of all children.
pub fn name(website: &Website) -> String {
    format!("{}-{PROJECT}", website.name_any())
}

/// Returns whether an existing object is a child of this Website.
pub fn is_child<K: Resource>(object: &K, website: &Website) -> bool {
    let controllers = object.meta().owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    controllers.map(|owner| &owner.uid).any(|uid| Some(uid) == website.metadata.uid.as_ref())
}

pub fn config_map(website: &Website) -> ConfigMap {
    ConfigMap {
        metadata: metadata(website),
        data: Some([("index.html".to_owned(), website.spec.content.clone())].into()),
        ..ConfigMap::default()
    }
}

pub fn deployment(website: &Website) -> Deployment {
    let server = Container {
        name: "server".to_owned(),
        image: Some(website.spec.image.clone()),
        ports: Some(vec![ContainerPort { container_port: HTTP, ..ContainerPort::default() }]),
        volume_mounts: Some(vec![VolumeMount {
            name: PAGE_VOLUME.to_owned(),
            mount_path: "/usr/share/nginx/html".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let page = Volume {
        name: PAGE_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: name(website), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    Deployment {
        metadata: metadata(website),
        spec: DeploymentSpec {
            replicas: Some(website.spec.replicas),
            selector: LabelSelector { match_labels: Some(labels(website)), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(website)), ..ObjectMeta::default() }),
                spec: Some(PodSpec { containers: vec![server], volumes: Some(vec![page]), ..PodSpec::default() }),
            },
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}

pub fn service(website: &Website) -> Service {
    Service {
        metadata: metadata(website),
        spec: Some(ServiceSpec {
            selector: Some(labels(website)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: HTTP,
                target_port: Some(IntOrString::Int(HTTP)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The metadata of a child. Because of the owner reference, Kubernetes deletes the child with the Website, and changes
/// of the child reconcile the Website.
fn metadata(website: &Website) -> ObjectMeta {
    ObjectMeta {
        name: Some(name(website)),
        namespace: website.namespace(),
        labels: Some(labels(website)),
        owner_references: website.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels(website: &Website) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", website.name_any()), ("app.kubernetes.io/managed-by", PROJECT.to_owned())]
        .map(|(label, value)| (label.to_owned(), value))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::website::WebsiteSpec;

    fn website(uid: &str) -> Website {
        let spec = WebsiteSpec { content: "hi".to_owned(), replicas: 2, image: "web:1".to_owned() };
        let mut website = Website::new("hello", spec);
        website.metadata.uid = Some(uid.to_owned());
        website
    }

    #[test]
    fn a_child_has_the_website_as_controller_owner() {
        let child = service(&website("1"));
        assert_eq!(child.metadata.name, Some(format!("hello-{PROJECT}")));
        assert!(is_child(&child, &website("1")) && !is_child(&child, &website("2")));
        assert!(!is_child(&Service::default(), &website("1")));
    }

    #[test]
    fn the_service_selects_the_pods_of_the_deployment() {
        let website = website("1");
        let pods = deployment(&website).spec.template.metadata.expect("metadata");
        assert_eq!(service(&website).spec.expect("a spec").selector, pods.labels);
    }
}
