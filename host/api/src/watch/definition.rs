//! Explains, by its CustomResourceDefinition, why the API server does not serve a resource.

use serde::Deserialize;
use wasmop_core::watch::WaitReason;

/// The path of all CustomResourceDefinitions.
pub(super) const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The fields of a CustomResourceDefinition that explain why it is not served.
#[derive(Debug, Deserialize)]
pub(super) struct Definition {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Spec {
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    name: String,
    served: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
}

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub cause: WaitReason,
    pub message: String,
}

/// The reason if the host has no permission to read CustomResourceDefinitions.
pub(super) fn unreadable() -> Reason {
    let message = "its CustomResourceDefinition is missing, or does not serve the version";
    Reason { cause: WaitReason::Unexplained, message: message.into() }
}

impl Definition {
    /// Why `version` is not served.
    pub fn reason(&self, version: &str) -> Reason {
        let name = &self.metadata.name;
        let served: Vec<&str> = self.spec.versions.iter().filter(|it| it.served).map(|it| it.name.as_str()).collect();
        let others = match served[..] {
            [] => "it serves no version".to_owned(),
            _ => format!("it serves {}", served.join(", ")),
        };
        let not_served = |problem: String| {
            let message = format!("the CustomResourceDefinition {name} {problem}; {others}");
            Reason { cause: WaitReason::VersionNotServed, message }
        };
        match self.spec.versions.iter().find(|it| it.name == version) {
            None => return not_served(format!("has no version {version}")),
            Some(it) if !it.served => return not_served(format!("has `served: false` for {version}")),
            Some(_) => {}
        }
        let conditions = self.status.conditions.as_deref().unwrap_or_default();
        let bad = |kind: &str, status: &str| conditions.iter().find(|it| it.kind == kind && it.status == status);
        let found = None
            .or_else(|| Some(("is being deleted", bad("Terminating", "True")?)))
            .or_else(|| Some(("has a name that is taken", bad("NamesAccepted", "False")?)))
            .or_else(|| Some(("is not established", bad("Established", "False")?)));
        let message = match found {
            Some((problem, condition)) => {
                format!("the CustomResourceDefinition {name} {problem}: {}", condition.message)
            }
            // The definition is new.
            None => format!("the CustomResourceDefinition {name} is there, and not served yet"),
        };
        Reason { cause: WaitReason::NotEstablished, message }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definition_explains_why_a_version_is_not_served() {
        let established = json!({"type": "Established", "status": "True", "message": "ok"});
        let taken = json!({"type": "NamesAccepted", "status": "False", "message": "\"sites\" is already in use"});
        let pending = json!({"type": "Established", "status": "False", "message": "not all names are accepted"});
        let deleted = json!({"type": "Terminating", "status": "True", "message": "instances are deleted"});
        for (versions, conditions, expected) in [
            (
                json!([{"name": "v1", "served": true}]),
                json!([established]),
                (WaitReason::NotEstablished, "is there, and not served yet"),
            ),
            (json!([{"name": "v1", "served": true}]), json!(null), (WaitReason::NotEstablished, "not served yet")),
            (
                json!([{"name": "v1", "served": false}]),
                json!([established]),
                (WaitReason::VersionNotServed, "`served: false` for v1; it serves no version"),
            ),
            (
                json!([{"name": "v1", "served": false}, {"name": "v1beta1", "served": true}]),
                json!([established]),
                (WaitReason::VersionNotServed, "`served: false` for v1; it serves v1beta1"),
            ),
            (
                json!([{"name": "v2", "served": true}]),
                json!([established]),
                (WaitReason::VersionNotServed, "has no version v1; it serves v2"),
            ),
            (
                json!([{"name": "v1", "served": true}]),
                json!([pending, taken]),
                (WaitReason::NotEstablished, "\"sites\" is already in use"),
            ),
            (
                json!([{"name": "v1", "served": true}]),
                json!([pending]),
                (WaitReason::NotEstablished, "not all names are accepted"),
            ),
            (
                json!([{"name": "v1", "served": true}]),
                json!([established, deleted]),
                (WaitReason::NotEstablished, "is being deleted"),
            ),
        ] {
            let definition = json!({
                "metadata": {"name": "websites.demo.wasmop.dev"},
                "spec": {"versions": versions},
                "status": {"conditions": conditions},
            });
            let reason = serde_json::from_value::<Definition>(definition).expect("a definition").reason("v1");
            assert_eq!(reason.cause, expected.0);
            assert!(reason.message.contains(expected.1), "{}", reason.message);
        }
    }
}
