//! Patches published crates so that they build for wasm, with textual rules on a copy of the locked version.
//!
//! The rules are data, one file per crate and version, in `guest-rust/port/`. Each names a file, a text that must occur
//! there exactly `count` times, and its replacement. So a version that differs is an error here that names the version,
//! and not a strange error of the compiler.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use semver::Version;
use serde::Deserialize;

use crate::error::failure;

/// All rule files.
const RULE_FILES: [&str; 4] = [
    include_str!("../../../guest-rust/port/kube-client-5.0.0.toml"),
    include_str!("../../../guest-rust/port/kube-runtime-5.0.0.toml"),
    include_str!("../../../guest-rust/port/hostname-0.3.1.toml"),
    include_str!("../../../guest-rust/port/hostname-0.4.2.toml"),
];

/// The file in a copy with the text of its rules. A copy is only replaced if the rules differ, so that cargo does not
/// build it again.
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
    /// For readers of the rules.
    #[serde(rename = "why")]
    _why: String,
    /// Relative to the crate's directory.
    file: PathBuf,
    find: String,
    replace: String,
    /// The number of occurrences of `find`.
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

/// The rules for this version of this crate, or `None` if the crate needs none in any version.
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

/// A crate needs rules, but there are none for its version.
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

    /// Copies the crate at `source` to `target` and applies the rules. Does nothing if the copy is up to date.
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
        // Last, so that an interrupted copy is not used.
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
            format!("the sources of {self} in cargo's registry may have been edited; remove that directory, and cargo fetches them again"),
        )
        .into())
    }
}

/// Copies what a build reads: the manifest and everything below `src`. It needs no `Cargo.lock`, tests or examples of a
/// dependency.
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
    fn a_copy_with_other_rules_is_replaced() {
        let source = crate_with("native() tls tls");
        let target = tempfile::tempdir().expect("a directory");
        fs::write(target.path().join(STAMP), "older rules").expect("written");
        fs::write(target.path().join("stray"), "").expect("written");
        Port::parse(RULES).expect("parsed").apply(source.path(), target.path()).expect("applied");
        assert_eq!(fs::read_to_string(target.path().join("src/lib.rs")).expect("read"), "wasm() host host");
        assert!(!target.path().join("stray").exists());
    }

    #[test]
    fn a_wrong_number_of_occurrences_is_an_error_with_crate_version_and_file() {
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
    fn an_unknown_version_is_an_error_with_the_known_ones() {
        let known = [Port::parse(RULES).expect("parsed")];
        assert!(rules_for(&known, "serde", "1.0.0").expect("fine").is_none());
        assert!(rules_for(&known, "demo", "1.2.3").expect("fine").is_some());
        let unknown = rules_for(&known, "demo", "1.2.4").expect_err("an error");
        assert_eq!(unknown.known, [Version::new(1, 2, 3)]);
    }
}
