//! From a crate as published to one that builds for wasm: small textual rules, applied to a copy
//! of the version the user's lock file names.
//!
//! The rules are data, one file per crate and version, in `guest-rust/port/`. Each names a file,
//! a text that must occur there exactly `count` times, and what to put in its place; so a version
//! that differs is noticed here, by name, and not as a strange error of the compiler.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use semver::Version;
use serde::Deserialize;

use crate::error::failure;

/// Every rule file there is.
const RULE_FILES: [&str; 4] = [
    include_str!("../../../guest-rust/port/kube-client-5.0.0.toml"),
    include_str!("../../../guest-rust/port/kube-runtime-5.0.0.toml"),
    include_str!("../../../guest-rust/port/hostname-0.3.1.toml"),
    include_str!("../../../guest-rust/port/hostname-0.4.2.toml"),
];

/// Holds the text of the rules a copy was made with; a copy is made anew only when it differs, so
/// that cargo sees unchanged files as unchanged.
const STAMP: &str = ".wasmop-port";

/// The rules for one version of one crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    #[serde(rename = "crate")]
    pub name: String,
    pub version: String,
    #[serde(rename = "rule")]
    rules: Vec<Rule>,
    /// The rule file itself.
    #[serde(skip)]
    text: &'static str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// For those who read the rules.
    #[serde(rename = "why")]
    _why: String,
    /// Relative to the crate's directory.
    file: PathBuf,
    find: String,
    replace: String,
    /// How often `find` occurs.
    #[serde(default = "one")]
    count: usize,
}

fn one() -> usize {
    1
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// All rules, parsed.
pub fn known() -> Result<Vec<Port>> {
    RULE_FILES.into_iter().map(Port::parse).collect()
}

/// The rules for this crate at this version; `None` if the crate needs none at any version.
pub fn rules_for<'a>(known: &'a [Port], name: &str, version: &str) -> Result<Option<&'a Port>, UnknownVersion> {
    let versions: Vec<&Port> = known.iter().filter(|port| port.name == name).collect();
    if versions.is_empty() {
        return Ok(None);
    }
    if let Some(port) = versions.iter().find(|port| port.version == version) {
        return Ok(Some(port));
    }
    Err(UnknownVersion { known: versions.iter().filter_map(|port| Version::parse(&port.version).ok()).collect() })
}

/// A crate that needs rules is of a version without any.
#[derive(Debug)]
pub struct UnknownVersion {
    /// The versions with rules, the newest last.
    pub known: Vec<Version>,
}

impl Port {
    fn parse(text: &'static str) -> Result<Port> {
        let mut port: Port = toml::from_str(text).context("a port rule file of this wasmop is damaged")?;
        port.text = text;
        Ok(port)
    }

    /// Makes `target` a copy of the crate at `source` with the rules applied. Does nothing if it
    /// is one already.
    pub fn apply(&self, source: &Path, target: &Path) -> Result<()> {
        let stamp = target.join(STAMP);
        if fs::read(&stamp).is_ok_and(|made_with| made_with == self.text.as_bytes()) {
            return Ok(());
        }
        if target.exists() {
            fs::remove_dir_all(target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
        copy_sources(source, target)
            .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
        for rule in &self.rules {
            let path = target.join(&rule.file);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let text = self.replace(rule, &text)?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Last, so that a copy that was interrupted is not taken for a whole one.
        fs::write(&stamp, self.text).with_context(|| format!("cannot write {}", stamp.display()))
    }

    fn replace(&self, rule: &Rule, text: &str) -> Result<String> {
        let found = text.matches(&rule.find).count();
        if found == rule.count {
            return Ok(text.replace(&rule.find, &rule.replace));
        }
        let first_line = rule.find.trim().lines().next().unwrap_or_default();
        Err(failure(
            format!(
                "port rule for {self} does not fit: `{first_line}` occurs {found} times in {}, not {}",
                rule.file.display(),
                rule.count
            ),
            format!("are the sources of {self} in cargo's registry changed? removing that directory makes cargo fetch them again"),
        )
        .into())
    }
}

/// What a build reads: the manifest and everything below `src`. `Cargo.lock`, tests and examples
/// of a dependency are not used.
fn copy_sources(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    fs::copy(source.join("Cargo.toml"), target.join("Cargo.toml"))?;
    copy_tree(&source.join("src"), &target.join("src"))?;
    // Sources include it: `#![doc = include_str!("../README.md")]`.
    if source.join("README.md").exists() {
        fs::copy(source.join("README.md"), target.join("README.md"))?;
    }
    Ok(())
}

fn copy_tree(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
crate = "demo"
version = "1.2.3"
[[rule]]
why = "once"
file = "src/lib.rs"
find = "native()"
replace = "wasm()"
[[rule]]
why = "twice"
file = "src/lib.rs"
find = "tls"
replace = "host"
count = 2
"#;

    fn crate_with(lib: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("src/deep")).expect("directories");
        fs::create_dir_all(dir.path().join("tests")).expect("directories");
        fs::write(dir.path().join("Cargo.toml"), "[package]").expect("written");
        fs::write(dir.path().join("src/lib.rs"), lib).expect("written");
        fs::write(dir.path().join("src/deep/mod.rs"), "deep").expect("written");
        fs::write(dir.path().join("tests/t.rs"), "test").expect("written");
        dir
    }

    #[test]
    fn the_rules_of_this_wasmop_are_well_formed() {
        let known = known().expect("parsed");
        assert_eq!(known.len(), RULE_FILES.len());
        assert!(known.iter().all(|port| !port.rules.is_empty()));
    }

    #[test]
    fn a_crate_is_copied_with_its_rules_applied_and_only_once() {
        let source = crate_with("fn f() { native(); tls(); tls(); }");
        let target = tempfile::tempdir().expect("a directory");
        let target = target.path().join("demo-1.2.3");
        let port = Port::parse(RULES).expect("parsed");
        port.apply(source.path(), &target).expect("applied");
        let lib = target.join("src/lib.rs");
        assert_eq!(fs::read_to_string(&lib).expect("read"), "fn f() { wasm(); host(); host(); }");
        assert_eq!(fs::read_to_string(target.join("src/deep/mod.rs")).expect("read"), "deep");
        assert!(!target.join("tests").exists());

        fs::write(&lib, "left alone").expect("written");
        port.apply(source.path(), &target).expect("applied");
        assert_eq!(fs::read_to_string(&lib).expect("read"), "left alone");
    }

    #[test]
    fn a_copy_made_with_other_rules_is_made_anew() {
        let source = crate_with("native() tls tls");
        let target = tempfile::tempdir().expect("a directory");
        fs::write(target.path().join(STAMP), "older rules").expect("written");
        fs::write(target.path().join("stray"), "").expect("written");
        Port::parse(RULES).expect("parsed").apply(source.path(), target.path()).expect("applied");
        assert_eq!(fs::read_to_string(target.path().join("src/lib.rs")).expect("read"), "wasm() host host");
        assert!(!target.path().join("stray").exists());
    }

    #[test]
    fn an_anchor_that_does_not_occur_as_often_as_said_is_an_error_that_names_crate_version_and_file() {
        let port = Port::parse(RULES).expect("parsed");
        for (lib, count) in [("tls tls", 0), ("native() native() tls tls", 2)] {
            let source = crate_with(lib);
            let target = tempfile::tempdir().expect("a directory");
            let target = target.path().join("copy");
            let error = port.apply(source.path(), &target).expect_err("an error").to_string();
            for part in ["demo 1.2.3", "src/lib.rs", "native()", &format!("{count} times")] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert!(!target.join(STAMP).exists());
        }
    }

    #[test]
    fn an_unknown_version_is_an_error_that_names_the_known_ones() {
        let known = [Port::parse(RULES).expect("parsed")];
        assert!(rules_for(&known, "serde", "1.0.0").expect("fine").is_none());
        assert!(rules_for(&known, "demo", "1.2.3").expect("fine").is_some());
        let unknown = rules_for(&known, "demo", "1.2.4").expect_err("an error");
        assert_eq!(unknown.known, [Version::new(1, 2, 3)]);
    }
}
