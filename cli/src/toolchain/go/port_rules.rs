//! Port rules: changes to the standard library and to modules, so that a program for Kubernetes runs as a guest.
//!
//! The rules are data in `guest-go/port/rules/`, one small file for each reason. A rule adds files, or replaces texts
//! that must occur exactly once. So a version that differs is an error here that names the rule, and not a strange
//! error of the compiler.

use anyhow::{Context, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::embedded;
use crate::error::failure;

/// The folders of the rules, and of the files that they add.
const RULES: &str = "rules/";
const FILES: &str = "std/";
const MODULE_FILES: &str = "modules/";

/// One reason to change the standard library or a module.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The rule file's name, without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// For readers of the rules.
    #[serde(rename = "why")]
    _why: String,
    #[serde(rename = "upstream")]
    _upstream: Option<String>,
    /// The versions of Go that it fits, for a rule on the standard library.
    go: Option<VersionReq>,
    /// The path of the module that it changes.
    pub module: Option<String>,
    /// The versions of the module that it fits. Other versions need no change.
    pub versions: Option<VersionReq>,
    /// Files to add, relative to the standard library or the module's directory.
    #[serde(default)]
    add: Vec<String>,
    #[serde(rename = "edit", default)]
    pub edits: Vec<Edit>,
}

/// A text in a file and its replacement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Relative to the standard library or the module's directory.
    pub file: String,
    /// Occurs exactly once.
    find: String,
    replace: String,
}

/// A file that a rule adds.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    pub file: &'static str,
    pub content: &'static [u8],
}

/// All rules, parsed.
pub fn all() -> Result<Vec<Rule>> {
    let rules = embedded::PORT_GO.iter().filter_map(|file| {
        let name = file.path.strip_prefix(RULES)?.strip_suffix(".toml")?;
        Some((name, file.bytes))
    });
    rules
        .map(|(name, bytes)| {
            let text = std::str::from_utf8(bytes).with_context(|| format!("port rule {name}"))?;
            Rule::parse(name, text)
        })
        .collect()
}

impl Rule {
    /// Parses a rule file.
    pub fn parse(name: &str, text: &str) -> Result<Rule> {
        let mut rule: Rule =
            toml::from_str(text).with_context(|| format!("the port rule {name} of this wasmop is damaged"))?;
        rule.name = name.to_owned();
        Ok(rule)
    }

    /// Checks that a rule on the standard library fits a version of Go.
    pub fn need_go(&self, version: &Version) -> Result<()> {
        match &self.go {
            Some(fits) if !fits.matches(version) => Err(failure(
                format!("this wasmop cannot build for Go {version}: its port rule `{}` fits Go {fits}", self.name),
                "use such a version of Go, by a `toolchain` line in go.mod or GOTOOLCHAIN in the environment",
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// Whether a version of the module needs the rule. A local copy has no version, and a commit of a module that has
    /// no tags has 0.0.0: both are expected to be like the newest release.
    pub fn fits_module(&self, version: &str) -> bool {
        let version = Version::parse(version.trim_start_matches('v')).ok();
        let version = version.map(|version| Version::new(version.major, version.minor, version.patch));
        match (&self.versions, version) {
            (Some(fits), Some(version)) => fits.matches(&version) || version == Version::new(0, 0, 0),
            _ => true,
        }
    }

    /// The files that it adds.
    pub fn added(&self) -> Result<Vec<Added>> {
        let find = |file: &String| {
            let path = match &self.module {
                None => format!("{FILES}{file}"),
                Some(module) => format!("{MODULE_FILES}{module}/{file}"),
            };
            let found = embedded::PORT_GO.iter().find(|embedded| embedded.path == path);
            let embedded =
                found.with_context(|| format!("the port rule {} adds {path}, which is missing", self.name))?;
            let file = &embedded.path[path.len() - file.len()..];
            Ok(Added { file, content: embedded.bytes })
        };
        self.add.iter().map(find).collect()
    }

    /// Applies one edit to a file of `what`, such as `Go 1.26.8`.
    pub fn apply(&self, edit: &Edit, text: &str, what: &str) -> Result<String> {
        let found = text.matches(&edit.find).count();
        if found == 1 {
            return Ok(text.replacen(&edit.find, &edit.replace, 1));
        }
        let first_line = edit.find.trim().lines().next().unwrap_or_default();
        Err(failure(
            format!(
                "port rule `{}` does not fit {what}: `{first_line}` occurs {found} times in {}, not once",
                self.name, edit.file
            ),
            "use another released version of it, and report this one as not supported by this wasmop",
        )
        .into())
    }
}

/// The SDK's files for the interface between program and host, which a port adds to the standard library.
pub fn abi_files() -> impl Iterator<Item = Added> {
    embedded::SDK_GO.iter().filter_map(|file| {
        let name = file.path.strip_prefix("internal/abi/")?;
        let wanted = name.ends_with(".go") && !name.ends_with("_test.go");
        wanted.then_some(Added { file: name, content: file.bytes })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"
module = "example.com/a"
versions = ">=1.2, <1.9.4"
why = "it is native"
[[edit]]
file = "a.go"
find = "native()"
replace = "wasm()"
"#;

    #[test]
    fn the_rules_of_this_wasmop_are_well_formed() {
        let rules = all().expect("parsed");
        let mut used = Vec::new();
        for rule in &rules {
            assert_ne!(rule.module.is_some(), rule.go.is_some(), "{}: either on Go or on a module", rule.name);
            assert_eq!(rule.module.is_some(), rule.versions.is_some(), "{}: a module has versions", rule.name);
            let added = rule.added().expect("its files are embedded");
            assert!(!added.is_empty() || !rule.edits.is_empty(), "{} changes nothing", rule.name);
            used.extend(added.iter().map(|it| it.content.as_ptr()));
        }
        for file in embedded::PORT_GO.iter().filter(|file| file.path.ends_with(".go")) {
            let is_test = file.path.ends_with("_test.go");
            assert_ne!(is_test, used.contains(&file.bytes.as_ptr()), "{}: added by no rule, or a test", file.path);
        }
        assert!(abi_files().any(|it| it.file == "step.go"));
    }

    #[test]
    fn a_rule_is_for_some_versions() {
        let rule = Rule::parse("a", RULE).expect("parsed");
        for (version, fits) in [
            ("v1.1.9", false),
            ("v1.2.0", true),
            ("v1.9.3+incompatible", true),
            ("v1.9.3-0.20240101000000-abcdef123456", true),
            ("v1.9.4", false),
            ("v0.0.0-20240101000000-abcdef123456", true),
            ("", true),
        ] {
            assert_eq!(rule.fits_module(version), fits, "{version}");
        }
    }

    #[test]
    fn a_text_must_occur_exactly_once() {
        let rule = Rule::parse("a-native", RULE).expect("parsed");
        let edit = &rule.edits[0];
        assert_eq!(rule.apply(edit, "x native() y", "a v1.2.0").expect("applied"), "x wasm() y");
        for (text, count) in [("", 0), ("native() native()", 2)] {
            let error = rule.apply(edit, text, "a v1.2.0").expect_err("an error").to_string();
            for part in ["a-native", "a v1.2.0", "a.go", "native()", &format!("{count} times")] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn an_unknown_go_is_an_error_with_the_rule() {
        let rule = Rule::parse("std-x", "go = \">=1.26, <1.28\"\nwhy = \"x\"\nadd = [\"a.go\"]").expect("parsed");
        rule.need_go(&Version::new(1, 27, 3)).expect("fits");
        let error = rule.need_go(&Version::new(1, 28, 0)).expect_err("an error").to_string();
        assert!(error.contains("std-x") && error.contains("1.28.0"), "{error}");
    }
}
