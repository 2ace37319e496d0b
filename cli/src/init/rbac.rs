//! The operator's permissions, from the roles of an installation.
//!
//! A project has roles for several subjects: the operator, people who edit its resources, and Prometheus. If a binding
//! says which roles the operator's ServiceAccount has, that decides. Otherwise the names and labels do.

use std::collections::BTreeSet;

use serde_json::Value;
use wasmop_package::manifest::PolicyRule;

use super::helm::{UNKNOWN, is_unknown};
use super::manifests::{Object, Source};
use crate::rules;

/// The rules of one role.
#[derive(Debug, PartialEq)]
pub struct RoleRules {
    /// `ClusterRole manager-role in config/rbac/role.yaml`
    pub origin: String,
    pub rules: Vec<PolicyRule>,
}

/// A rule that the project file has as a comment.
#[derive(Debug, PartialEq)]
pub struct LeftOut {
    pub rule: PolicyRule,
    pub why: &'static str,
}

/// What the controller may ask of the API server.
#[derive(Debug, Default, PartialEq)]
pub struct Permissions {
    pub roles: Vec<RoleRules>,
    pub left_out: Vec<LeftOut>,
    /// Roles that were not taken and other remarks, a sentence each.
    pub notes: Vec<String>,
}

impl Permissions {
    pub fn is_empty(&self) -> bool {
        self.roles.iter().all(|role| role.rules.is_empty())
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.roles.iter().map(|role| role.rules.len()).sum()
    }

    /// Rules from one place, without duplicates.
    pub fn from_rules(origin: String, rules: Vec<PolicyRule>) -> Permissions {
        let mut permissions = Permissions::default();
        permissions.add(origin, rules);
        permissions.note_escalation();
        permissions
    }

    /// Adds the rules that no earlier one covers.
    fn add(&mut self, origin: String, rules: Vec<PolicyRule>) {
        let mut role = RoleRules { origin, rules: Vec::new() };
        for rule in rules {
            if let Some(why) = by_the_host(&rule) {
                if !self.left_out.iter().any(|it| it.rule == rule) {
                    self.left_out.push(LeftOut { rule, why });
                }
                continue;
            }
            let earlier = self.roles.iter().flat_map(|role| &role.rules).chain(&role.rules);
            if !earlier.into_iter().any(|earlier| covers(earlier, &rule)) {
                role.rules.push(rule);
            }
        }
        if !role.rules.is_empty() {
            self.roles.push(role);
        }
    }

    /// The host cannot check rights inside of roles, so it asks for more than RBAC does (docs/permissions.md).
    fn note_escalation(&mut self) {
        for (resources, verb, on) in [
            (&["rolebindings", "clusterrolebindings"][..], "bind", "clusterroles"),
            (&["roles", "clusterroles"], "escalate", "roles"),
        ] {
            let rules = || self.roles.iter().flat_map(|role| &role.rules);
            let writes = |rule: &PolicyRule| {
                has(&rule.resources, resources) && has(&rule.verbs, &["create", "update", "patch", "*"])
            };
            let may = |rule: &PolicyRule| {
                has(&rule.resources, &[on, "*"]) && has(&rule.verbs, &[verb, "*"]) && rule.resource_names.is_empty()
            };
            if rules().any(writes) && !rules().any(may) {
                self.notes.push(format!(
                    "The controller writes {}. For that the host requires the verb `{verb}` on `{on}` without \
                     `resource-names`: add a rule if its owner may trust it that far.",
                    resources[0]
                ));
            }
        }
    }
}

/// The operator's rules in an installation. `account` is the name of its ServiceAccount.
pub fn permissions(source: &Source, account: Option<&str>) -> Permissions {
    let mut permissions = Permissions::default();
    let bound = account.map(|account| bound_roles(source, account)).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let (mut unbound, mut for_people) = (Vec::new(), Vec::new());
    let mut roles: Vec<&Object> = source.of_kind(&["ClusterRole", "Role"]).collect();
    // Overlays and complete manifests repeat a role. The longest is whole.
    let length = |role: &Object| role.value["rules"].as_array().map_or(0, Vec::len);
    roles.sort_by_key(|role| std::cmp::Reverse(length(role)));
    roles.retain(|role| seen.insert((role.kind(), role.name())));
    // In the order of the files.
    let place = |role: &Object| source.objects.iter().position(|object| std::ptr::eq(object, role));
    roles.sort_by_key(|role| place(role));
    for role in roles {
        let is_bound = bound.contains(&(role.kind().to_owned(), role.name().to_owned()));
        let name = if is_unknown(&role.name().into()) { "(name unknown)" } else { role.name() };
        let origin = format!("{} {name} in {}", role.kind(), role.file.display());
        if let Some(why) = not_for_the_guest(role) {
            permissions.notes.push(format!("Left out: {origin}, {why}."));
        } else if !bound.is_empty() && !is_bound {
            unbound.push(name);
        } else if bound.is_empty() && is_for_people(role) {
            for_people.push(name);
        } else {
            let mut rules = Vec::new();
            for rule in role.value["rules"].as_array().into_iter().flatten() {
                match read_rule(rule) {
                    Ok(rule) => rules.push(rule),
                    Err(Unreadable::Nothing) => {}
                    Err(Unreadable::Unknown(rule)) => permissions.left_out.push(LeftOut {
                        rule,
                        why: "a value of the chart is part of the rule. Replace UNKNOWN to take it back",
                    }),
                    Err(Unreadable::Verb(rule)) => {
                        permissions.left_out.push(LeftOut { rule, why: "wasmop does not know one of the verbs" });
                    }
                }
            }
            permissions.add(origin, rules);
        }
    }
    for (roles, why) in [(unbound, "not bound to the operator's ServiceAccount"), (for_people, "for people")] {
        match &roles[..] {
            [] => {}
            [role] => permissions.notes.push(format!("Left out: the role {role}, which is {why}.")),
            roles => permissions.notes.push(format!("Left out: roles which are {why}: {}.", roles.join(", "))),
        }
    }
    for (kind, name) in &bound {
        if !seen.contains(&(kind.as_str(), name.as_str())) && !is_unknown(&name.as_str().into()) {
            permissions.notes.push(format!(
                "The operator is also bound to the {kind} {name}, which is not in the project: add its rules."
            ));
        }
    }
    permissions.note_escalation();
    permissions
}

/// The kinds and names of roles that bindings give to a ServiceAccount.
fn bound_roles(source: &Source, account: &str) -> BTreeSet<(String, String)> {
    let bindings = source.of_kind(&["ClusterRoleBinding", "RoleBinding"]);
    let of_account = bindings.filter(|binding| {
        let mut subjects = binding.value["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| subject["kind"] == "ServiceAccount" && subject["name"] == account)
    });
    let roles = of_account.filter_map(|binding| {
        let role = &binding.value["roleRef"];
        Some((role["kind"].as_str()?.to_owned(), role["name"].as_str()?.to_owned()))
    });
    roles.collect()
}

/// Why the host does the work that a role is for.
fn not_for_the_guest(role: &Object) -> Option<&'static str> {
    let name = role.name().to_lowercase().replace(['-', '_', ':'], "");
    let rules: Vec<&Value> = role.value["rules"].as_array().into_iter().flatten().collect();
    let only = |wanted: &[&str]| {
        let resources = |rule: &&Value| strings(&rule["resources"]);
        !rules.is_empty() && rules.iter().all(|rule| only(&resources(rule), wanted))
    };
    if name.contains("leaderelect") || only(&["leases"]) {
        Some("for leader election, which the host does")
    } else if only(&REVIEWS) {
        Some("for the metrics server, which the host has")
    } else {
        None
    }
}

const REVIEWS: [&str; 2] = ["tokenreviews", "subjectaccessreviews"];

/// Why the host does what a rule allows.
fn by_the_host(rule: &PolicyRule) -> Option<&'static str> {
    if only(&rule.resources, &["leases"]) {
        Some("for leader election, which the host does. The controller needs it only if it has other uses for Leases")
    } else if only(&rule.resources, &REVIEWS) {
        Some("for the metrics server, which the host has. The controller needs it only if it makes reviews itself")
    } else {
        None
    }
}

/// Whether users get a role, not the operator: kubebuilder's names, and roles that others aggregate.
fn is_for_people(role: &Object) -> bool {
    let name = role.name().to_lowercase().replace('_', "-");
    let ends = ["-editor-role", "-viewer-role", "-admin-role", "-editor", "-viewer", "-edit", "-view", "-user"];
    let reads_metrics = name.contains("metrics-reader");
    let labels = role.value["metadata"]["labels"].as_object();
    let aggregated =
        labels.is_some_and(|it| it.keys().any(|key| key.starts_with("rbac.authorization.k8s.io/aggregate")));
    reads_metrics || aggregated || ends.iter().any(|end| name.ends_with(end))
}

/// Why a rule cannot be taken as it is.
#[derive(Debug, PartialEq)]
enum Unreadable {
    /// It allows nothing.
    Nothing,
    /// A value of a chart is part of it.
    Unknown(PolicyRule),
    Verb(PolicyRule),
}

fn read_rule(rule: &Value) -> Result<PolicyRule, Unreadable> {
    let list = |key: &str| strings(&rule[key]);
    let rule = PolicyRule {
        api_groups: list("apiGroups"),
        resources: list("resources"),
        verbs: list("verbs"),
        resource_names: list("resourceNames"),
        non_resource_urls: list("nonResourceURLs"),
    };
    let allows_nothing = rule.verbs.is_empty()
        || (rule.non_resource_urls.is_empty() && (rule.resources.is_empty() || rule.api_groups.is_empty()));
    let both = !rule.non_resource_urls.is_empty() && !rule.resources.is_empty();
    let lists = [&rule.api_groups, &rule.resources, &rule.verbs, &rule.resource_names, &rule.non_resource_urls];
    if lists.iter().any(|list| list.iter().any(|text| text.contains(UNKNOWN))) {
        Err(Unreadable::Unknown(rule))
    } else if allows_nothing || both {
        Err(Unreadable::Nothing)
    } else if !rule.verbs.iter().all(|verb| rules::is_verb(verb)) {
        Err(Unreadable::Verb(rule))
    } else {
        Ok(rule)
    }
}

fn strings(value: &Value) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for item in value.as_array().into_iter().flatten() {
        let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        if !item.is_null() && !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

fn only(list: &[String], wanted: &[&str]) -> bool {
    !list.is_empty() && list.iter().all(|text| wanted.contains(&text.as_str()))
}

fn has(list: &[String], wanted: &[&str]) -> bool {
    list.iter().any(|text| wanted.contains(&text.as_str()))
}

/// Whether `wide` allows all that `narrow` does.
fn covers(wide: &PolicyRule, narrow: &PolicyRule) -> bool {
    let list = |wide: &[String], narrow: &[String]| narrow.iter().all(|text| wide.contains(text));
    list(&wide.api_groups, &narrow.api_groups)
        && list(&wide.resources, &narrow.resources)
        && list(&wide.verbs, &narrow.verbs)
        && list(&wide.non_resource_urls, &narrow.non_resource_urls)
        && (wide.resource_names.is_empty()
            || (!narrow.resource_names.is_empty() && list(&wide.resource_names, &narrow.resource_names)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn role(kind: &str, name: &str, rules: Value) -> Object {
        let value = json!({"kind": kind, "metadata": {"name": name}, "rules": rules});
        Object { file: PathBuf::from("rbac.yaml"), value }
    }

    fn binding(kind: &str, role: &str, account: &str) -> Object {
        let subjects = json!([{"kind": "ServiceAccount", "name": account}]);
        let role = json!({"kind": "ClusterRole", "name": role});
        let value = json!({"kind": kind, "metadata": {"name": "b"}, "roleRef": role, "subjects": subjects});
        Object { file: PathBuf::from("rbac.yaml"), value }
    }

    fn source(objects: Vec<Object>) -> Source {
        Source { objects, ..Source::default() }
    }

    fn on(resource: &str) -> Value {
        json!([{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}])
    }

    /// The resources of all rules, in order.
    fn resources(permissions: &Permissions) -> Vec<String> {
        let rules = permissions.roles.iter().flat_map(|role| &role.rules);
        rules.flat_map(|rule| rule.resources.clone()).collect()
    }

    #[test]
    fn bindings_decide_which_roles_are_the_operators() {
        let objects = vec![
            role("ClusterRole", "manager", on("pods")),
            role("ClusterRole", "product", on("secrets")),
            binding("ClusterRoleBinding", "manager", "operator"),
            binding("RoleBinding", "product", "workload"),
            binding("RoleBinding", "view", "operator"),
        ];
        let found = permissions(&source(objects), Some("operator"));
        assert_eq!(resources(&found), ["pods"]);
        assert_eq!(found.roles[0].origin, "ClusterRole manager in rbac.yaml");
        assert!(found.notes[0].contains("the role product, which is not bound"), "{:?}", found.notes);
        assert!(found.notes[1].contains("ClusterRole view, which is not in the project"), "{:?}", found.notes);
    }

    #[test]
    fn without_bindings_names_and_labels_decide() {
        for (name, taken) in [
            ("manager-role", true),
            ("website-editor-role", false),
            ("website_viewer_role", false),
            ("metrics-reader", false),
            ("leader-election-role", false),
            ("operator:leaderelection", false),
            ("reviewer", true),
        ] {
            let found = permissions(&source(vec![role("ClusterRole", name, on("pods"))]), None);
            assert_eq!(!found.is_empty(), taken, "{name}");
            assert_eq!(found.notes.is_empty(), taken, "{name}");
        }
        let mut aggregated = role("ClusterRole", "manager", on("pods"));
        aggregated.value["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-edit": "true"});
        assert!(permissions(&source(vec![aggregated]), None).is_empty());
    }

    #[test]
    fn rules_of_what_the_host_does_are_left_out() {
        for (resource, taken) in [("leases", false), ("tokenreviews", false), ("pods", true)] {
            let rules = json!([
                {"apiGroups": [""], "resources": [resource], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
            ]);
            let found = permissions(&source(vec![role("Role", "manager", rules)]), None);
            assert_eq!((found.len(), found.left_out.len()), if taken { (2, 0) } else { (1, 1) }, "{resource}");
        }
    }

    #[test]
    fn duplicates_and_empty_rules_disappear() {
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"], "resourceNames": ["a"]},
            {"apiGroups": [""], "resources": [], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["secrets"]},
            {"nonResourceURLs": ["/version"], "verbs": ["get"]},
        ]);
        let twice =
            vec![role("Role", "a", rules.clone()), role("Role", "a", on("shorter")), role("ClusterRole", "b", rules)];
        let found = permissions(&source(twice), None);
        assert_eq!((found.roles.len(), found.len()), (1, 2));
        assert_eq!(found.roles[0].rules[1].non_resource_urls, ["/version"]);
    }

    #[test]
    fn a_rule_with_an_unknown_part_is_left_out() {
        let name = format!("{UNKNOWN}-key");
        let unknown = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [name]}]);
        let verb = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["fly"]}]);
        for rules in [unknown, verb] {
            let found = permissions(&source(vec![role("Role", "a", rules)]), None);
            assert_eq!((found.len(), found.left_out.len()), (0, 1));
        }
    }

    #[test]
    fn writing_bindings_needs_bind_without_names() {
        let group = "rbac.authorization.k8s.io";
        let writes = json!({"apiGroups": [group], "resources": ["rolebindings"], "verbs": ["create"]});
        let bind = |names: Value| {
            let (resources, verbs) = (["clusterroles"], ["bind"]);
            json!({"apiGroups": [group], "resources": resources, "verbs": verbs, "resourceNames": names})
        };
        for (rules, notes) in
            [(json!([writes]), 1), (json!([writes, bind(json!(["a"]))]), 1), (json!([writes, bind(json!([]))]), 0)]
        {
            assert_eq!(permissions(&source(vec![role("Role", "a", rules)]), None).notes.len(), notes);
        }
    }
}
