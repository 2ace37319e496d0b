//! Permissions from the calls of client-go's typed clients and informers in Go files, for projects without roles:
//! `client.AppsV1().Deployments(ns).Create(…)`, `factory.Apps().V1().Deployments()`.

use std::collections::{BTreeMap, BTreeSet};

use wasmop_package::manifest::PolicyRule;

/// The groups of client-go whose names differ from the API group. Others are API groups as they are: `Apps`, `Batch`.
const GROUPS: [(&str, &str); 12] = [
    ("Core", ""),
    ("Rbac", "rbac.authorization.k8s.io"),
    ("Networking", "networking.k8s.io"),
    ("Storage", "storage.k8s.io"),
    ("Coordination", "coordination.k8s.io"),
    ("Discovery", "discovery.k8s.io"),
    ("Events", "events.k8s.io"),
    ("Scheduling", "scheduling.k8s.io"),
    ("Node", "node.k8s.io"),
    ("Certificates", "certificates.k8s.io"),
    ("Authentication", "authentication.k8s.io"),
    ("Authorization", "authorization.k8s.io"),
];
const PLAIN_GROUPS: [&str; 4] = ["Apps", "Batch", "Policy", "Autoscaling"];
/// Methods of typed clients, and their verbs.
const METHODS: [(&str, &str); 8] = [
    ("Create", "create"),
    ("Get", "get"),
    ("List", "list"),
    ("Watch", "watch"),
    ("Update", "update"),
    ("Patch", "patch"),
    ("Apply", "patch"),
    ("Delete", "delete"),
];
const READS: [&str; 3] = ["get", "list", "watch"];

/// The resource of a kind that the project defines, such as `foos` in `samplecontroller.k8s.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnKind {
    pub group: String,
    pub plural: String,
}

/// The rules for the calls in Go files.
pub fn rules<'a>(sources: impl Iterator<Item = &'a str>, own: &[OwnKind]) -> Vec<PolicyRule> {
    let mut verbs: BTreeMap<(String, String), BTreeSet<&'static str>> = BTreeMap::new();
    for source in sources {
        for (at, _) in source.match_indices("().") {
            if let Some(call) = Call::at(source, at, own) {
                verbs.entry((call.group, call.resource)).or_default().extend(call.verbs);
            }
        }
    }
    let rule = |((group, resource), verbs): ((String, String), BTreeSet<&str>)| PolicyRule {
        api_groups: vec![group],
        resources: vec![resource],
        verbs: verbs.into_iter().map(str::to_owned).collect(),
        ..PolicyRule::default()
    };
    verbs.into_iter().map(rule).collect()
}

struct Call {
    group: String,
    resource: String,
    verbs: Vec<&'static str>,
}

impl Call {
    /// The call whose group or version ends at `at`, before `().`.
    fn at(source: &str, at: usize, own: &[OwnKind]) -> Option<Call> {
        let before = &source[..at];
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
        let name = without_version(&before[start..])?;
        // An informer has group and version apart: `Apps().V1()`.
        let is_informer = name.is_empty();
        let name = if is_informer {
            let earlier = before[..start].strip_suffix("().")?;
            let start = earlier.rfind(|c: char| !c.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
            &earlier[start..]
        } else {
            name
        };
        let rest = &source[at + "().".len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric())?;
        let (kind, rest) = rest.split_at(end);
        if kind.is_empty() {
            return None;
        }
        let resource = kind.to_lowercase();
        let group = group_of(name, &resource, own)?;
        if is_informer {
            return Some(Call { group, resource, verbs: READS.to_vec() });
        }
        let method = after_arguments(rest)?.strip_prefix('.')?;
        let method = &method[..method.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(method.len())];
        if let Some(verb) = method.strip_suffix("Status").and_then(verb_of) {
            return Some(Call { group, resource: format!("{resource}/status"), verbs: vec![verb] });
        }
        let verbs = match method {
            "DeleteCollection" => vec!["deletecollection"],
            "CreateWithEventNamespace" | "PatchWithEventNamespace" => vec!["create", "patch"],
            method => vec![verb_of(method)?],
        };
        Some(Call { group, resource, verbs })
    }
}

fn verb_of(method: &str) -> Option<&'static str> {
    METHODS.iter().find(|(name, _)| *name == method).map(|(_, verb)| *verb)
}

fn group_of(name: &str, resource: &str, own: &[OwnKind]) -> Option<String> {
    if let Some((_, group)) = GROUPS.iter().find(|(it, _)| *it == name) {
        return Some((*group).to_owned());
    }
    if PLAIN_GROUPS.contains(&name) {
        return Some(name.to_lowercase());
    }
    // A generated client is named after the first part of the group.
    let is_it = |it: &&OwnKind| it.plural == resource && it.group.to_lowercase().starts_with(&name.to_lowercase());
    own.iter().find(is_it).map(|it| it.group.clone())
}

/// `AppsV1` → `Apps`.
fn without_version(text: &str) -> Option<&str> {
    let (name, version) = text.rsplit_once('V')?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(name)
}

/// What follows the arguments in parentheses at the beginning of a text.
fn after_arguments(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(&text[at + 1..]),
            ')' => depth -= 1,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The rule for Events, if a file has a recorder.
pub fn events(source: &str) -> Option<PolicyRule> {
    if !source.contains("StartRecordingToSink(") {
        return None;
    }
    Some(PolicyRule {
        api_groups: vec![String::new()],
        resources: vec!["events".to_owned()],
        verbs: ["create", "patch", "update"].map(str::to_owned).into(),
        ..PolicyRule::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        let own = [OwnKind { group: "samplecontroller.k8s.io".into(), plural: "foos".into() }];
        let rules = rules(std::iter::once(source), &own);
        rules
            .iter()
            .map(|rule| format!("{} {} {}", rule.api_groups[0], rule.resources[0], rule.verbs.join(",")))
            .collect()
    }

    #[test]
    fn calls_of_typed_clients_and_informers_become_rules() {
        for (source, expected) in [
            ("c.kube.AppsV1().Deployments(foo.Namespace).Create(ctx, d)", vec!["apps deployments create"]),
            (
                "c.CoreV1().Secrets(ns(a, b())).Get(ctx)\nc.CoreV1().Secrets(ns).Update(ctx)",
                vec![" secrets get,update"],
            ),
            ("factory.Apps().V1().Deployments()", vec!["apps deployments get,list,watch"]),
            (
                "c.sample.SamplecontrollerV1alpha1().Foos(ns).UpdateStatus(ctx)",
                vec!["samplecontroller.k8s.io foos/status update"],
            ),
            ("f.Samplecontroller().V1alpha1().Foos(),", vec!["samplecontroller.k8s.io foos get,list,watch"]),
            ("c.NetworkingV1().Ingresses(ns).Patch(ctx)", vec!["networking.k8s.io ingresses patch"]),
            ("c.CoreV1().RESTClient()", vec![]),
            ("other.Unknown().V1().Things()", vec![]),
            ("x().y", vec![]),
            ("V1().", vec![]),
        ] {
            assert_eq!(found(source), expected, "{source}");
        }
    }

    #[test]
    fn a_recorder_writes_events() {
        assert!(events("b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c})").is_some());
        assert!(events("package main").is_none());
    }
}
