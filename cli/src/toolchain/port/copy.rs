//! Copies of crates with their rules applied.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use semver::Version;

use super::{Added, Build, Occurs, Port, Rule};
use crate::embedded::PORT_RUST;
use crate::error::{HelpExt, failure};

/// The file in a copy with the text of its rules. A copy is only replaced if the rules differ, so that cargo does not
/// build it again.
const STAMP: &str = ".wasmop-port";

/// Stands for the directory of the crate `wasmop-runtime` in replacements.
const RUNTIME: &str = "{{wasmop-runtime}}";

impl Port {
    /// Copies the crate at `source` to `target` and applies the rules. Does nothing if the copy is up to date.
    pub fn apply(&self, source: &Path, version: &Version, target: &Path, build: Build<'_>) -> Result<()> {
        let stamp = target.join(STAMP);
        let made_with = self.made_with(build)?;
        if fs::read(&stamp).is_ok_and(|before| before == made_with) {
            return Ok(());
        }
        if target.exists() {
            fs::remove_dir_all(target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
        copy_sources(source, target, self.traps)
            .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
        for rule in self.rules.iter().filter(|rule| rule.applies(version, build)) {
            self.apply_rule(rule, version, target, build)?;
        }
        for added in self.added.iter().filter(|added| added.drop_in.is_none_or(|only| only == build.drop_in)) {
            let path = target.join(&added.file);
            let parent = path.parent().unwrap_or(target);
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            fs::write(&path, self.source_of(added)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
        // Last, so that an interrupted copy is not used.
        fs::write(&stamp, made_with).with_context(|| format!("cannot write {}", stamp.display()))
    }

    /// The name of the directory for a copy. Copies that depend on [`Build::drop_in`] have two, so that a build of one kind
    /// does not undo the other.
    pub fn copy_name(&self, version: &Version, build: Build<'_>) -> String {
        let drop_in = if self.knows_drop_in() && build.drop_in { "-drop-in" } else { "" };
        format!("{}-{version}{drop_in}", self.name)
    }

    fn knows_drop_in(&self) -> bool {
        self.rules.iter().any(|rule| rule.drop_in.is_some()) || self.added.iter().any(|added| added.drop_in.is_some())
    }

    /// Everything that a copy depends on.
    fn made_with(&self, build: Build<'_>) -> Result<Vec<u8>> {
        let drop_in = if self.knows_drop_in() && build.drop_in { " drop-in" } else { "" };
        let program = if build.unmodified { "unmodified" } else { "wasmop" };
        let mut all = format!("{program}{drop_in} {}\n{}", build.runtime.display(), self.text).into_bytes();
        for added in &self.added {
            all.extend(&*self.source_of(added)?);
        }
        Ok(all)
    }

    pub(super) fn source_of(&self, added: &Added) -> Result<Cow<'static, [u8]>> {
        let shown = added.source.display();
        if let Some(dir) = &self.own {
            let help = "`source` names a file beside the rules";
            let bytes = fs::read(dir.join(&added.source)).or_help(format!("cannot read `{shown}` for {self}"), help)?;
            return Ok(Cow::Owned(bytes));
        }
        let file = PORT_RUST.iter().find(|file| Path::new(file.path) == added.source);
        Ok(Cow::Borrowed(file.with_context(|| format!("this wasmop lacks the port file {shown}"))?.bytes))
    }

    fn apply_rule(&self, rule: &Rule, version: &Version, target: &Path, build: Build<'_>) -> Result<()> {
        let path = target.join(&rule.file);
        let files = if path.is_dir() { rust_files(&path)? } else { vec![path.clone()] };
        let mut found = 0;
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let here = text.matches(&rule.find).count();
            if here == 0 {
                continue;
            }
            found += here;
            let replace = rule.replace.replace(RUNTIME, &build.runtime.to_string_lossy());
            fs::write(&file, text.replace(&rule.find, &replace))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let (is_right, expected) = match rule.occurs {
            Some(Occurs::Any) => (true, String::new()),
            None if !path.is_dir() => (found == rule.count, rule.count.to_string()),
            Some(Occurs::Some) | None => (found > 0, "at least once".to_owned()),
        };
        if is_right {
            return Ok(());
        }
        let first_line = rule.find.trim().lines().next().unwrap_or_default();
        let name = &self.name;
        let help = if self.own.is_some() {
            "correct this rule of the project".to_owned()
        } else if self.version == version.to_string() {
            format!(
                "the sources of {name} in cargo's registry may have been edited; remove that directory, and cargo fetches them again"
            )
        } else {
            format!("wasmop was not made for {name} {version}; use {name} {}", self.version)
        };
        let problem = format!(
            "port rule for {name} {version} does not fit: `{first_line}` occurs {found} times in {}, not {expected}",
            rule.file.display(),
        );
        Err(failure(problem, help).into())
    }
}

/// The Rust files in a directory and below.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
            if path.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Directories of a crate that a build of it as a dependency does not read.
const NOT_BUILT: [&str; 5] = ["tests", "benches", "examples", "target", ".github"];

/// Copies what a build reads. Of a crate without its C code that is the manifest, the build script and `src`.
fn copy_sources(source: &Path, target: &Path, traps: bool) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        let to = target.join(&name);
        if entry.file_type()?.is_dir() {
            let is_built = if traps { name == "src" } else { NOT_BUILT.iter().all(|not| name != *not) };
            if is_built {
                copy_tree(&entry.path(), &to)?;
            }
        } else if name != "Cargo.lock" {
            fs::copy(entry.path(), to)?;
        }
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
    use super::super::tests::{RULES, build, crate_with};
    use super::*;

    fn apply(rules: &'static str, source: &Path, target: &Path, unmodified: bool) -> Result<()> {
        Port::parse(rules).expect("parsed").apply(source, &Version::new(1, 2, 3), target, build(unmodified))
    }

    fn lib(target: &Path) -> String {
        fs::read_to_string(target.join("src/lib.rs")).expect("read")
    }

    #[test]
    fn a_crate_is_copied_with_its_rules_applied_and_only_once() {
        let source = crate_with("fn f() { native(); tls(); tls(); }");
        let target = tempfile::tempdir().expect("a directory");
        let target = target.path().join("demo-1.2.3");
        apply(RULES, source.path(), &target, false).expect("applied");
        assert_eq!(lib(&target), "fn f() { wasm(); host(); host(); }");
        assert_eq!(fs::read_to_string(target.join("src/deep/mod.rs")).expect("read"), "deep");
        assert!(!target.join("tests").exists());

        fs::write(target.join("src/lib.rs"), "left alone").expect("written");
        apply(RULES, source.path(), &target, false).expect("applied");
        assert_eq!(lib(&target), "left alone");
        apply(RULES, source.path(), &target, true).expect("applied");
        assert_ne!(lib(&target), "left alone");
    }

    #[test]
    fn a_copy_with_other_rules_is_replaced() {
        let source = crate_with("native() tls tls");
        let target = tempfile::tempdir().expect("a directory");
        fs::write(target.path().join(STAMP), "older rules").expect("written");
        fs::write(target.path().join("stray"), "").expect("written");
        apply(RULES, source.path(), target.path(), false).expect("applied");
        assert_eq!(lib(target.path()), "wasm() host host");
        assert!(!target.path().join("stray").exists());
    }

    #[test]
    fn a_rule_may_apply_to_a_directory_a_program_or_a_version() {
        let rules = r#"
crate = "demo"
version = "1.2.3"
[[rule]]
why = "a directory"
file = "src"
find = "e"
replace = "E"
[[rule]]
why = "unmodified programs"
file = "src/lib.rs"
unmodified = true
find = "nativE"
replace = "{{wasmop-runtime}}"
[[rule]]
why = "other versions"
file = "src/lib.rs"
versions = ">=1.3"
find = "absent"
replace = ""
"#;
        let source = crate_with("native there");
        let target = tempfile::tempdir().expect("a directory");
        for (unmodified, expected) in [(false, "nativE thErE"), (true, "/the/runtime thErE")] {
            apply(rules, source.path(), target.path(), unmodified).expect("applied");
            assert_eq!(lib(target.path()), expected);
            assert_eq!(fs::read_to_string(target.path().join("src/deep/mod.rs")).expect("read"), "dEEp");
        }
    }

    #[test]
    fn a_build_with_controllers_of_the_host_has_a_copy_and_files_of_its_own() {
        let rules = r#"
crate = "demo"
version = "1.2.3"
[[add]]
drop-in = true
file = "src/added.rs"
source = "tokio/net.rs"
[[rule]]
drop-in = true
why = "a controller of the host"
file = "src/lib.rs"
find = "native"
replace = "host"
"#;
        let source = crate_with("native");
        let port = Port::parse(rules).expect("parsed");
        let version = Version::new(1, 2, 3);
        let dir = tempfile::tempdir().expect("a directory");
        for (drop_in, name, text) in [(true, "demo-1.2.3-drop-in", "host"), (false, "demo-1.2.3", "native")] {
            let build = Build { drop_in, ..build(true) };
            assert_eq!(port.copy_name(&version, build), name);
            let target = dir.path().join(name);
            port.apply(source.path(), &version, &target, build).expect("applied");
            assert_eq!((lib(&target).as_str(), target.join("src/added.rs").exists()), (text, drop_in));
        }
        let other = Port::parse(RULES).expect("parsed");
        assert_eq!(other.copy_name(&version, Build { drop_in: true, ..build(true) }), "demo-1.2.3");
    }

    #[test]
    fn a_wrong_number_of_occurrences_is_an_error_with_crate_version_and_file() {
        for (lib, count) in [("tls tls", 0), ("native() native() tls tls", 2)] {
            let source = crate_with(lib);
            let target = tempfile::tempdir().expect("a directory");
            let target = target.path().join("copy");
            let error = apply(RULES, source.path(), &target, false).expect_err("an error").to_string();
            for part in ["demo 1.2.3", "src/lib.rs", "native()", &format!("{count} times")] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert!(!target.join(STAMP).exists());
        }
    }
}
