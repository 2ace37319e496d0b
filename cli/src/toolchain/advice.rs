//! Crates and Go modules that cannot be part of a controller, with reasons and remedies.
//!
//! The rules are data, in `advice.toml`.

use std::sync::LazyLock;

use semver::{Version, VersionReq};
use serde::Deserialize;

/// A crate or module that cannot be part of a controller, with the reason and a remedy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// May contain `*`.
    name: String,
    versions: Option<VersionReq>,
    /// Applies if one of them is enabled.
    #[serde(default)]
    pub features: Vec<String>,
    /// Applies if the compiler's messages contain one of them.
    #[serde(default)]
    messages: Vec<String>,
    /// Applies if an import of the module, or its error at the start, contains one of them.
    #[serde(default)]
    symptoms: Vec<String>,
    pub why: String,
    remedy: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(rename = "crate")]
    crates: Vec<Rule>,
    #[serde(rename = "module")]
    modules: Vec<Rule>,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| toml::from_str(include_str!("advice.toml")).expect("a test reads it"));

impl Rule {
    fn is_about(&self, name: &str, version: Option<&Version>) -> bool {
        let matches = match self.name.split_once('*') {
            Some((begin, end)) => {
                name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
            }
            None => self.name == name,
        };
        matches && self.versions.as_ref().is_none_or(|versions| version.is_some_and(|it| versions.matches(it)))
    }

    /// Whether the rule is about a failed compiler run.
    fn is_about_compiling(&self) -> bool {
        self.features.is_empty() && self.symptoms.is_empty()
    }

    fn matches_messages(&self, output: &str) -> bool {
        self.messages.iter().any(|text| output.contains(text))
    }

    /// The remedy with its placeholders filled in.
    pub fn remedy(&self, values: &[(&str, &str)]) -> String {
        let filled = |text: String, (name, value): &(&str, &str)| text.replace(&format!("{{{name}}}"), value);
        values.iter().fold(self.remedy.clone(), filled).replace("{{", "{").replace("}}", "}")
    }
}

/// The rule for a crate that failed to compile, by the compiler's output.
pub fn on_crate(name: &str, version: Option<&Version>, output: &str) -> Option<&'static Rule> {
    RULES.crates.iter().find(|rule| {
        rule.is_about_compiling()
            && rule.is_about(name, version)
            && (rule.messages.is_empty() || rule.matches_messages(output))
    })
}

/// The rule for a dependency that the compiler's messages about the project's own code mention.
pub fn on_use_of(name: &str, version: Option<&Version>, output: &str) -> Option<&'static Rule> {
    RULES.crates.iter().find(|rule| rule.is_about(name, version) && rule.matches_messages(output))
}

/// The rule for a crate with unsupported features.
pub fn on_features(name: &str, version: Option<&Version>, active: &[String]) -> Option<&'static Rule> {
    let applies = |rule: &&Rule| rule.features.iter().any(|feature| active.contains(feature));
    RULES.crates.iter().filter(|rule| rule.is_about(name, version)).find(applies)
}

/// The rule that matches a symptom of the finished module, and the name of its crate.
pub fn on_symptom(text: &str) -> Option<(&'static str, &'static Rule)> {
    let applies = |rule: &&Rule| rule.symptoms.iter().any(|symptom| text.contains(symptom));
    RULES.crates.iter().find(applies).map(|rule| (rule.name.as_str(), rule))
}

/// The rule for a Go module that failed to compile.
pub fn on_module(path: &str, version: Option<&Version>) -> Option<&'static Rule> {
    RULES.modules.iter().find(|rule| rule.is_about(path, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn every_rule_parses_and_fills_in_its_placeholders() {
        let values = [
            ("name", "n"),
            ("version", "v"),
            ("direct", "d"),
            ("declaration", "`d = {}`"),
            ("package", "p"),
            ("remove", "r"),
            ("requests", "q"),
        ];
        let placeholders = ["{name}", "{version}", "{direct}", "{declaration}", "{package}", "{remove}", "{requests}"];
        for rule in RULES.crates.iter().chain(&RULES.modules) {
            let remedy = rule.remedy(&values);
            for placeholder in placeholders {
                assert!(!remedy.contains(placeholder), "{rule:?}");
            }
            assert!(!rule.why.ends_with('.') && !remedy.ends_with('.'), "{rule:?}");
        }
    }

    #[test]
    fn the_first_matching_rule_is_used() {
        let why = |name, output| on_crate(name, Some(&version("1.0.0")), output).map(|rule| rule.why.as_str());
        assert!(why("openssl-sys", "").is_some_and(|why| why.contains("OpenSSL")));
        assert!(why("libz-sys", "").is_some_and(|why| why.contains("C library")));
        assert_eq!(why("sysinfo", ""), None);
        assert_eq!(why("reqwest", ""), None);
        assert!(why("reqwest", "no method `timeout` found for struct `reqwest::ClientBuilder`").is_some());
        // Rules about features and symptoms do not explain a failed compiler run.
        assert_eq!(why("kube-client", ""), None);
        assert_eq!(why("wasm-bindgen", ""), None);
    }

    #[test]
    fn a_rule_may_be_limited_to_versions() {
        let path = "github.com/sirupsen/logrus";
        assert!(on_module(path, Some(&version("1.9.3"))).is_some());
        assert!(on_module(path, Some(&version("1.9.4"))).is_none());
        assert!(on_module(path, None).is_none());
    }

    #[test]
    fn features_and_symptoms_find_their_rules() {
        let active = ["client".to_owned(), "ws".to_owned()];
        assert!(on_features("kube-client", None, &active).is_some_and(|rule| rule.why.contains("`ws`")));
        assert!(on_features("kube-client", None, &active[..1]).is_none());
        let shown = |text| on_symptom(text).map(|(name, _)| name);
        assert_eq!(shown("__wbindgen_placeholder__"), Some("wasm-bindgen"));
        assert_eq!(shown("wasi_snapshot_preview1"), None);
    }
}
