//! Permissions in Go comments: `//+kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list`.

use wasmop_package::manifest::PolicyRule;

const MARKER: &str = "+kubebuilder:rbac:";

/// The rules that the comments of a Go file ask for.
pub fn rules(source: &str) -> Vec<PolicyRule> {
    source.lines().filter_map(|line| rule(line.trim().strip_prefix("//")?.trim_start().strip_prefix(MARKER)?)).collect()
}

fn rule(text: &str) -> Option<PolicyRule> {
    let mut rule = PolicyRule::default();
    for argument in split(text, ',') {
        let (key, value) = argument.split_once('=')?;
        let value = value.trim();
        // `{a,b}` is another way to write `a;b`.
        let values = match value.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(list) => split(list, ','),
            None => split(value, ';'),
        };
        let values: Vec<String> = values.iter().map(|value| value.trim().trim_matches(['"', '`']).to_owned()).collect();
        match key.trim() {
            // controller-gen's name of the core group.
            "groups" => {
                rule.api_groups = values.into_iter().map(|it| if it == "core" { String::new() } else { it }).collect()
            }
            "resources" => rule.resources = values,
            "verbs" => rule.verbs = values,
            "resourceNames" => rule.resource_names = values,
            "urls" => rule.non_resource_urls = values,
            // The names of the role and its namespace do not matter here.
            _ => {}
        }
    }
    if rule.verbs.is_empty() || (rule.resources.is_empty() && rule.non_resource_urls.is_empty()) {
        return None;
    }
    if rule.api_groups.is_empty() && rule.non_resource_urls.is_empty() {
        rule.api_groups.push(String::new());
    }
    Some(rule)
}

/// Splits outside of quotes and braces.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut depth) = (0, false, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '"' | '`' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ if c == separator && !quoted && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_a_rule() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| PolicyRule {
            api_groups: list(groups),
            resources: list(resources),
            verbs: list(verbs),
            ..PolicyRule::default()
        };
        for (line, expected) in [
            (
                "// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list",
                Some(rule(&["apps"], &["deployments"], &["get", "list"])),
            ),
            (
                "\t//+kubebuilder:rbac:groups=core,resources=pods;pods/log,verbs=get",
                Some(rule(&[""], &["pods", "pods/log"], &["get"])),
            ),
            (
                "//+kubebuilder:rbac:groups=\"\",resources=events,verbs=create;patch",
                Some(rule(&[""], &["events"], &["create", "patch"])),
            ),
            (
                "//+kubebuilder:rbac:groups=\"a;b\",namespace=x,resources={pods,secrets},verbs=*",
                Some(rule(&["a;b"], &["pods", "secrets"], &["*"])),
            ),
            (
                "//+kubebuilder:rbac:groups=apps,resources=deployments,resourceNames=a;b,verbs=get",
                Some(PolicyRule { resource_names: list(&["a", "b"]), ..rule(&["apps"], &["deployments"], &["get"]) }),
            ),
            (
                "//+kubebuilder:rbac:urls=/metrics,verbs=get",
                Some(PolicyRule { non_resource_urls: list(&["/metrics"]), ..rule(&[], &[], &["get"]) }),
            ),
            ("//+kubebuilder:rbac:groups=apps,resources=deployments", None),
            ("//+kubebuilder:rbac:nonsense", None),
            ("//+kubebuilder:object:root=true", None),
            ("x := \"//+kubebuilder:rbac:groups=a,resources=b,verbs=c\"", None),
        ] {
            assert_eq!(rules(line), expected.into_iter().collect::<Vec<_>>(), "{line}");
        }
    }
}
