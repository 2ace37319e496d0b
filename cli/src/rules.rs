//! An RBAC rule and external hosts as TOML: what a package asks for, and what the owner of a host grants.

use wasmop_package::external::HostPattern;
use wasmop_package::manifest::PolicyRule;

use crate::error::Failure;
use crate::toml_table::{Table, nearest};

/// Of a rule.
pub const KEYS: [&str; 5] = ["api-groups", "resources", "verbs", "resource-names", "non-resource-urls"];

/// Kubernetes' request verbs, the wildcard, and the verbs that RBAC checks besides.
const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "*",
    "bind",
    "escalate",
    "impersonate",
];
const VERBS_HELP: &str = "verbs are: get, list, watch, create, update, patch, delete, deletecollection, *";

/// Reads one rule; one that allows nothing is an error.
pub fn read(table: &Table<'_>) -> Result<PolicyRule, Failure> {
    table.only(&KEYS)?;
    let rule = PolicyRule {
        api_groups: table.strings("api-groups")?,
        resources: table.strings("resources")?,
        verbs: table.strings("verbs")?,
        resource_names: table.strings("resource-names")?,
        non_resource_urls: table.strings("non-resource-urls")?,
    };
    if rule.verbs.is_empty() {
        return Err(table.bad_value("verbs", "is missing or empty, so the rule allows nothing", VERBS_HELP));
    }
    for verb in &rule.verbs {
        if !VERBS.contains(&verb.as_str()) {
            let help = match nearest(verb, &VERBS) {
                Some(near) => format!("did you mean `{near}`? {VERBS_HELP}"),
                None => VERBS_HELP.to_owned(),
            };
            return Err(table.bad_value("verbs", format!("`{verb}` is not a verb"), help));
        }
    }
    match (rule.resources.is_empty(), rule.non_resource_urls.is_empty()) {
        (true, true) => Err(table.bad_value(
            "resources",
            "is missing or empty, so the rule allows nothing",
            "name resources by their plural, like `resources = [\"configmaps\"]`, or `non-resource-urls`",
        )),
        (false, false) => {
            Err(table.bad_value("non-resource-urls", "cannot be in one rule with `resources`", "write two rules"))
        }
        (false, true) if rule.api_groups.is_empty() => Err(table.bad_value(
            "api-groups",
            "is missing or empty, so the rule allows nothing",
            "name the API groups, like `api-groups = [\"apps\"]`; the core group is `\"\"`",
        )),
        _ => Ok(rule),
    }
}

/// The key of a list of external hosts.
pub const EXTERNAL_HOSTS: &str = "external-hosts";

/// Reads the list of external hosts of a table; without one it is empty.
pub fn external_hosts(table: &Table<'_>) -> Result<Vec<HostPattern>, Failure> {
    let read = |text: &String| {
        text.parse().map_err(|error: wasmop_package::external::BadHost| {
            let text = error.to_string();
            let (problem, help) = text.split_once("\nhelp: ").unwrap_or((&text, ""));
            table.bad_value(EXTERNAL_HOSTS, problem, help)
        })
    };
    table.strings(EXTERNAL_HOSTS)?.iter().map(read).collect()
}
