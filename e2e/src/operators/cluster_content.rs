//! Everything in a cluster, without what differs from run to run: times, UIDs, versions, random names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client};
use serde_json::Value;

/// Kinds that the control plane writes by itself, or that are secondary to others here: pods of a ReplicaSet.
const LEFT_OUT: [&str; 15] = [
    "APIService",
    "ComponentStatus",
    "ControllerRevision",
    "CustomResourceDefinition",
    "EndpointSlice",
    "Endpoints",
    "Event",
    "FlowSchema",
    "IPAddress",
    "Lease",
    "Node",
    "Pod",
    "PriorityLevelConfiguration",
    "ReplicaSet",
    "ServiceCIDR",
];

/// In place of the random ending of a name.
pub const RANDOM: &str = "<random>";

/// Objects by `Kind namespace/name`, and what Events were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub objects: BTreeMap<String, Value>,
    /// `type reason Kind: message`, once each.
    pub events: BTreeSet<String>,
}

impl Content {
    /// Reads the cluster.
    pub async fn read(client: &Client) -> Result<Content> {
        let discovery = Discovery::new(client.clone()).run().await.context("discovery")?;
        let mut content = Content::default();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let is_listed = capabilities.supports_operation(verbs::LIST);
                if !is_listed || LEFT_OUT.contains(&&*resource.kind) {
                    continue;
                }
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                // A CRD may just be going.
                let Ok(list) = api.list(&ListParams::default()).await else { continue };
                for object in list {
                    let namespace = match capabilities.scope {
                        Scope::Namespaced => object.metadata.namespace.clone().unwrap_or_default(),
                        Scope::Cluster => String::new(),
                    };
                    let mut value = serde_json::to_value(&object)?;
                    // Objects of a list do not say what they are.
                    value["apiVersion"] = resource.api_version.clone().into();
                    value["kind"] = resource.kind.clone().into();
                    let name = normalise(&mut value);
                    content.objects.insert(format!("{} {namespace}/{name}", resource.kind), value);
                }
            }
        }
        let events: Api<k8s_openapi::api::core::v1::Event> = Api::all(client.clone());
        for event in events.list(&ListParams::default()).await? {
            let kind = event.involved_object.kind.unwrap_or_default();
            if LEFT_OUT.contains(&&*kind) {
                continue;
            }
            let text = |text: Option<String>| text.unwrap_or_default();
            let (level, reason, message) = (text(event.type_), text(event.reason), text(event.message));
            content.events.insert(normal_text(&format!("{level} {reason} {kind}: {message}")));
        }
        Ok(content)
    }

    /// What is not in `before`, or is different there.
    pub fn since(&self, before: &Content) -> Content {
        let is_new = |(key, value): &(&String, &Value)| before.objects.get(*key) != Some(*value);
        Content {
            objects: self.objects.iter().filter(is_new).map(|(key, value)| (key.clone(), value.clone())).collect(),
            events: self.events.difference(&before.events).cloned().collect(),
        }
    }

    /// Keys of objects that have an owner.
    pub fn owned(&self) -> impl Iterator<Item = &String> {
        let has_owner =
            |value: &Value| value["metadata"]["ownerReferences"].as_array().is_some_and(|it| !it.is_empty());
        self.objects.iter().filter(move |(_, value)| has_owner(value)).map(|(key, _)| key)
    }

    /// How it differs from `other`, a line each; empty if it does not. Names this one and the other.
    pub fn differences(&self, other: &Content, names: (&str, &str)) -> Vec<String> {
        let mut lines = Vec::new();
        let keys: BTreeSet<&String> = self.objects.keys().chain(other.objects.keys()).collect();
        for key in keys {
            match (self.objects.get(key), other.objects.get(key)) {
                (Some(_), None) => lines.push(format!("{key}: only {}", names.0)),
                (None, Some(_)) => lines.push(format!("{key}: only {}", names.1)),
                (Some(a), Some(b)) => compare_values(&mut String::new(), a, b, &mut |path, a, b| {
                    lines.push(format!("{key}: {path} is {a} {}, {b} {}", names.0, names.1));
                }),
                (None, None) => {}
            }
        }
        lines.extend(self.events.difference(&other.events).map(|event| format!("Event `{event}`: only {}", names.0)));
        lines.extend(other.events.difference(&self.events).map(|event| format!("Event `{event}`: only {}", names.1)));
        lines
    }
}

fn compare_values(path: &mut String, a: &Value, b: &Value, differ: &mut dyn FnMut(&str, &Value, &Value)) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                compare_values(path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), differ);
                path.truncate(length);
            }
        }
        _ if a == b => {}
        _ => differ(path, a, b),
    }
}

/// Replaces what differs from run to run. Returns the name, without a random ending.
fn normalise(object: &mut Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let metadata = &mut object["metadata"];
    let name = match metadata["generateName"].as_str() {
        Some(prefix) => format!("{prefix}{RANDOM}"),
        None => metadata["name"].as_str().unwrap_or_default().to_owned(),
    };
    if let Value::Object(metadata) = metadata {
        for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "generation", "selfLink"] {
            metadata.remove(field);
        }
        metadata.insert("name".into(), name.clone().into());
    }
    if kind == "Secret" {
        // Keys and certificates are new each time.
        for field in ["data", "stringData"] {
            if let Value::Object(data) = &mut object[field] {
                data.values_mut().for_each(|value| *value = "<secret>".into());
            }
        }
    }
    normalise_values(object);
    name
}

fn normalise_values(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("uid");
            fields.remove("observedGeneration");
            fields.values_mut().for_each(normalise_values);
            fields.retain(|_, value| !value.is_null());
        }
        Value::Array(items) => items.iter_mut().for_each(normalise_values),
        Value::String(text) => *text = normal_text(text),
        _ => {}
    }
}

/// Replaces times and UIDs.
fn normal_text(text: &str) -> String {
    let mut normal = String::new();
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            normal.push(' ');
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match bare {
            _ if is_time(bare) => normal.push_str("<time>"),
            _ if is_uid(bare) => normal.push_str("<uid>"),
            _ => normal.push_str(word),
        }
    }
    normal
}

/// `2026-11-29T12:00:00Z`
fn is_time(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 19
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && (bytes[4], bytes[7], bytes[10], bytes[13]) == (b'-', b'-', b'T', b':')
}

fn is_uid(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(is_hex)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let mut object = json!({
            "kind": "Secret",
            "metadata": {"name": "a-x7k2p", "generateName": "a-", "uid": "1", "resourceVersion": "7", "labels": {"b": "c"}},
            "data": {"tls.crt": "MIIB"},
            "status": {
                "since": "2026-11-29T12:00:00Z",
                "message": "made 0f8fad5b-d9cb-469f-a165-70867728950e at 2026-11-29T12:00:00.5Z, once",
                "observedGeneration": 3,
                "empty": null,
            },
        });
        assert_eq!(normalise(&mut object), "a-<random>");
        assert_eq!(
            object,
            json!({
                "kind": "Secret",
                "metadata": {"name": "a-<random>", "generateName": "a-", "labels": {"b": "c"}},
                "data": {"tls.crt": "<secret>"},
                "status": {"since": "<time>", "message": "made <uid> at <time> once"},
            })
        );
    }

    #[test]
    fn differences_name_the_object_and_the_field() {
        let content = |objects: &[(&str, Value)], events: &[&str]| Content {
            objects: objects.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            events: events.iter().map(|event| (*event).to_owned()).collect(),
        };
        let a = content(&[("A n/a", json!({"spec": {"x": 1, "y": 2}})), ("B n/b", json!({}))], &["Normal Made A: ok"]);
        let b = content(&[("A n/a", json!({"spec": {"x": 1, "y": 3}})), ("C n/c", json!({}))], &[]);
        assert_eq!(
            a.differences(&b, ("natively", "packaged")),
            [
                "A n/a: .spec.y is 2 natively, 3 packaged",
                "B n/b: only natively",
                "C n/c: only packaged",
                "Event `Normal Made A: ok`: only natively"
            ]
        );
        assert!(a.differences(&a, ("", "")).is_empty());
        assert_eq!(a.since(&content(&[("B n/b", json!({}))], &[])).objects.keys().collect::<Vec<_>>(), ["A n/a"]);
    }
}
