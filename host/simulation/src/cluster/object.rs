//! An object as it was at one resource version, and what a client sent as one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::kind::{Kind, split};

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Of the owner.
    pub kind: String,
    /// Of the owner.
    pub name: String,
    /// Of the owner.
    pub uid: String,
}

/// An object as it was at one resource version.
#[derive(Debug)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// `namespace/name`, or `name`.
    pub key: Arc<str>,
    /// Tells it from an earlier object of the same name.
    pub uid: u64,
    /// Its resource version.
    pub revision: u64,
    /// 0 for kinds that have none.
    pub generation: i64,
    /// It is to go, and waits for its finalizers.
    pub deleting: bool,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.ownerReferences`.
    pub owners: Vec<Owner>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    pub(super) annotations: Value,
    /// Everything but `apiVersion`, `kind` and `metadata`.
    pub content: Map<String, Value>,
    /// As JSON.
    pub text: Arc<str>,
    /// Its metadata alone, as JSON.
    pub partial: Arc<str>,
}

impl Object {
    /// Its UID as it is written.
    pub fn uid_text(&self) -> String {
        uid_text(self.uid)
    }

    /// A field of a field; null if there is none.
    pub fn field(&self, outer: &str, inner: &str) -> &Value {
        self.content.get(outer).and_then(|value| value.get(inner)).unwrap_or(&Value::Null)
    }

    fn owners_json(&self) -> Value {
        let owner = |owner: &Owner| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.names().3 == owner.kind).unwrap_or(Kind::Website);
            json!({
                "apiVersion": kind.api_version(),
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
            })
        };
        self.owners.iter().map(owner).collect()
    }

    /// Rewrites the texts.
    pub(super) fn render(mut self) -> Arc<Object> {
        let (namespace, name) = split(&self.key);
        let mut meta = json!({
            "name": name,
            "uid": self.uid_text(),
            "resourceVersion": self.revision.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        if let Some(namespace) = namespace {
            meta["namespace"] = namespace.into();
        }
        if self.generation > 0 {
            meta["generation"] = self.generation.into();
        }
        if self.deleting {
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if !self.labels.is_empty() {
            meta["labels"] = json!(self.labels);
        }
        if !self.owners.is_empty() {
            meta["ownerReferences"] = self.owners_json();
        }
        if !self.finalizers.is_empty() {
            meta["finalizers"] = json!(self.finalizers);
        }
        if !self.annotations.is_null() {
            meta["annotations"] = self.annotations.clone();
        }
        let mut text = format!(
            r#"{{"apiVersion":"{}","kind":"{}","metadata":{meta}"#,
            self.kind.api_version(),
            self.kind.names().3
        );
        for (field, value) in &self.content {
            text.push_str(&format!(r#","{field}":{value}"#));
        }
        text.push('}');
        self.partial =
            format!(r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{meta}}}"#).into();
        self.text = text.into();
        Arc::new(self)
    }

    /// Whether it differs in anything but resource version and generation.
    pub(super) fn is_same(&self, other: &Object) -> bool {
        (&self.labels, &self.owners, &self.finalizers, &self.annotations, self.deleting)
            == (&other.labels, &other.owners, &other.finalizers, &other.annotations, other.deleting)
            && self.content == other.content
    }

    pub(super) fn spec_differs(&self, other: &Object) -> bool {
        let spec = |object: &Object| {
            let fields = object.content.iter().filter(|(field, _)| *field != "status");
            fields.map(|(field, value)| (field.clone(), value.clone())).collect::<Vec<_>>()
        };
        spec(self) != spec(other)
    }
}

fn uid_text(uid: u64) -> String {
    format!("00000000-0000-4000-8000-{uid:012x}")
}

pub(super) fn copy(old: &Object) -> Object {
    Object {
        kind: old.kind,
        key: old.key.clone(),
        uid: old.uid,
        revision: old.revision,
        generation: old.generation,
        deleting: old.deleting,
        labels: old.labels.clone(),
        owners: old.owners.clone(),
        finalizers: old.finalizers.clone(),
        annotations: old.annotations.clone(),
        content: old.content.clone(),
        text: old.text.clone(),
        partial: old.partial.clone(),
    }
}

/// What a client sent, without what the API server decides.
pub(super) fn parse(kind: Kind, key: Arc<str>, body: Value) -> Object {
    let Value::Object(mut content) = body else { return parse(kind, key, json!({})) };
    content.remove("apiVersion");
    content.remove("kind");
    let meta = content.remove("metadata").unwrap_or_default();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let labels = meta["labels"].as_object().into_iter().flatten();
    let owners = meta["ownerReferences"].as_array().into_iter().flatten();
    let finalizers = meta["finalizers"].as_array().into_iter().flatten();
    Object {
        kind,
        key,
        uid: 0,
        revision: 0,
        generation: 0,
        deleting: false,
        labels: labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().into())).collect(),
        owners: owners
            .map(|owner| Owner { kind: text(owner, "kind"), name: text(owner, "name"), uid: text(owner, "uid") })
            .collect(),
        finalizers: finalizers.filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        annotations: meta["annotations"].clone(),
        content,
        text: "".into(),
        partial: "".into(),
    }
}

/// RFC 7386.
pub(super) fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (field, value) in patch {
        match value {
            Value::Null => {
                target.remove(&field);
            }
            value => merge_patch(target.entry(field).or_insert(Value::Null), value),
        }
    }
}
