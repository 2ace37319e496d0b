//! RBAC rules in TOML: the permissions that a package requests, and the grants of a host's owner.

use serde::Deserialize;
use wasmop_package::manifest::PolicyRule;

use crate::error::Failure;
use crate::spelling::nearest;
use crate::toml_file::Document;
use crate::toml_file::value::{Text, Written};

/// The keys of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleKeys {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<Text<Verb>>,
    resource_names: Vec<String>,
    non_resource_urls: Vec<String>,
}

/// One of [`VERBS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb(String);

/// Kubernetes' request verbs, the wildcard, and the other verbs that RBAC checks.
const VERBS: [&str; 16] = [
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
    "approve",
    "sign",
    "attest",
    "use",
];

/// Whether a rule may have this verb.
pub fn is_verb(text: &str) -> bool {
    VERBS.contains(&text)
}

impl Written for Verb {
    const HELP: &'static str = "verbs are: get, list, watch, create, update, patch, delete, deletecollection, *";

    fn parse(text: &str) -> Result<Verb, String> {
        if is_verb(text) {
            return Ok(Verb(text.to_owned()));
        }
        let problem = format!("`{text}` is not a verb");
        Err(match nearest(text, &VERBS) {
            Some(near) => crate::error::join_help(&problem, &format!("did you mean `{near}`? {}", Verb::HELP)),
            None => problem,
        })
    }
}

impl RuleKeys {
    /// Refuses a rule that allows nothing. `path` is where it is in the document.
    pub fn check(&self, document: &Document<'_>, path: &[&str]) -> Result<(), Failure> {
        let wrong = |key: &str, problem: &str, help: &str| Err(document.wrong(&[path, &[key]].concat(), problem, help));
        let allows_nothing = "is missing or empty, so the rule allows nothing";
        if self.verbs.is_empty() {
            return wrong("verbs", allows_nothing, Verb::HELP);
        }
        match (self.resources.is_empty(), self.non_resource_urls.is_empty()) {
            (true, true) => wrong(
                "resources",
                allows_nothing,
                "name resources by their plural, like `resources = [\"configmaps\"]`, or `non-resource-urls`",
            ),
            (false, false) => wrong("non-resource-urls", "cannot be in one rule with `resources`", "write two rules"),
            (false, true) if self.api_groups.is_empty() => wrong(
                "api-groups",
                allows_nothing,
                "name the API groups, like `api-groups = [\"apps\"]`; the core group is `\"\"`",
            ),
            _ => Ok(()),
        }
    }

    /// The rule as a package's manifest has it.
    pub fn to_rule(&self) -> PolicyRule {
        PolicyRule {
            api_groups: self.api_groups.clone(),
            resources: self.resources.clone(),
            verbs: self.verbs.iter().map(|Text(Verb(verb))| verb.clone()).collect(),
            resource_names: self.resource_names.clone(),
            non_resource_urls: self.non_resource_urls.clone(),
        }
    }
}
