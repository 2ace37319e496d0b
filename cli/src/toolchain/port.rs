//! Patches published crates so that they build for wasm, with textual rules on a copy of the locked version.
//!
//! The rules are data, one file per crate in `guest-rust/port/`. Each names a file, a text that must occur there exactly
//! `count` times, and its replacement. So a version that differs is an error here that names the version, and not a
//! strange error of the compiler.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;
use wasmop_package::manifest::Mode;

use crate::embedded::PORT_RUST;
use crate::error::{HelpExt, failure};

/// The file in a copy with the text of its rules. A copy is only replaced if the rules differ, so that cargo does not
/// build it again.
const STAMP: &str = ".wasmop-port";

/// Stands for the directory of the crate `wasmop-runtime` in replacements.
const RUNTIME: &str = "{{wasmop-runtime}}";

/// The rules for one crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    #[serde(rename = "crate")]
    pub name: String,
    /// The version that the rules were written for.
    pub version: String,
    /// Other versions that the rules fit. They apply to programs with a loop of their own only, because the crate `wasmop`
    /// depends on one version.
    also: Option<VersionReq>,
    /// Versions that the rules do not fit need none.
    #[serde(default)]
    others_build: bool,
    /// Builds use this version in place of others that are compatible with it.
    #[serde(default)]
    compatible: bool,
    /// The only mode in which the rules apply.
    mode: Option<Mode>,
    /// The copy lacks functions in another language. Calls of them trap.
    #[serde(default)]
    pub traps: bool,
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
    #[serde(default, rename = "add")]
    added: Vec<Added>,
    /// The rule file itself.
    #[serde(skip)]
    text: String,
    /// The directory of a project's own rule file. The sources of added files are relative to it.
    #[serde(skip)]
    own: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    /// For readers of the rules.
    #[serde(rename = "why")]
    _why: String,
    /// Relative to the crate's directory. A directory stands for all Rust files in it.
    file: PathBuf,
    find: String,
    replace: String,
    /// The number of occurrences of `find` in a file. In a directory there must be at least one.
    #[serde(default = "one")]
    count: usize,
    /// In place of `count`, if the number of occurrences depends on the version.
    occurs: Option<Occurs>,
    /// The only mode in which the rule applies.
    mode: Option<Mode>,
    /// The only versions for which the rule applies.
    versions: Option<VersionReq>,
    /// The only builds in which the rule applies; see [`Build::drop_in`].
    drop_in: Option<bool>,
}

/// How often a text occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Occurs {
    /// Once or more.
    Some,
    /// As often as it does, also not at all.
    Any,
}

/// A file that the copy has in addition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Added {
    /// Relative to the crate's directory.
    file: PathBuf,
    /// Relative to `guest-rust/port`, or to the project's own rule file.
    source: PathBuf,
    /// The only builds in which the copy has the file; see [`Build::drop_in`].
    drop_in: Option<bool>,
}

fn one() -> usize {
    1
}

/// What rules depend on apart from the crate.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    pub mode: Mode,
    /// The directory of the crate `wasmop-runtime`.
    pub runtime: &'a Path,
    /// In a program without the crate `wasmop`, `Controller` is a controller of the host.
    pub drop_in: bool,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// All rules, parsed: the project's own, then wasmop's.
pub fn known(project: &Path, own: &[String]) -> Result<Vec<Port>> {
    let mut ports = own_rules(project, own)?;
    for file in PORT_RUST.iter().filter(|file| file.path.ends_with(".toml")) {
        let text = std::str::from_utf8(file.bytes).context("a port rule file is not UTF-8")?;
        ports.push(Port::parse(text).context("a port rule file of this wasmop is damaged")?);
    }
    Ok(ports)
}

/// The rules in the files that `port` under `[build]` names.
fn own_rules(project: &Path, globs: &[String]) -> Result<Vec<Port>> {
    const HELP: &str = "correct `port` under [build] in wasmop.toml; it takes globs of files in the project";
    let mut ports = Vec::new();
    for pattern in globs {
        if !is_within(Path::new(pattern)) {
            return Err(failure(format!("`port`: `{pattern}` is not in the project's directory"), HELP).into());
        }
        let full = Path::new(&glob::Pattern::escape(&project.to_string_lossy())).join(pattern);
        let files = glob::glob(&full.to_string_lossy())
            .or_help(format!("`port`: `{pattern}` is not a valid pattern"), HELP)?
            .collect::<Result<Vec<PathBuf>, _>>()
            .or_help(format!("`port`: cannot look for `{pattern}`"), HELP)?;
        if files.is_empty() {
            return Err(failure(format!("`port`: no file matches `{pattern}`"), HELP).into());
        }
        for file in files {
            let shown = file.display();
            let text = fs::read_to_string(&file).or_help(format!("cannot read `{shown}`"), HELP)?;
            let help = "docs/wasmop-toml.md describes the format of port rules";
            let mut port = Port::parse(&text).or_help(format!("`{shown}` has no port rules"), help)?;
            let paths =
                port.rules.iter().map(|rule| &rule.file).chain(port.added.iter().flat_map(|it| [&it.file, &it.source]));
            if let Some(outside) = paths.into_iter().find(|path| !is_within(path)) {
                let help = "files are relative to the crate's directory, and sources to that of the rules";
                return Err(failure(format!("`{shown}`: the path `{}` leads outside", outside.display()), help).into());
            }
            port.own = file.parent().map(Path::to_owned);
            ports.push(port);
        }
    }
    Ok(ports)
}

/// Whether a path stays in the directory that it is relative to.
fn is_within(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// What the rules say about a crate.
#[derive(Debug)]
pub enum Ruling<'a> {
    /// It needs no rules.
    AsIs,
    /// It needs these rules.
    Apply(&'a Port),
    /// The build needs this version in its place.
    Replace(&'a Port),
}

/// The rules for this version of this crate.
pub fn rules_for<'a>(
    known: &'a [Port],
    name: &str,
    version: &Version,
    mode: Mode,
) -> Result<Ruling<'a>, UnknownVersion> {
    let ports: Vec<&Port> =
        known.iter().filter(|port| port.name == name && port.mode.is_none_or(|only| only == mode)).collect();
    if ports.is_empty() {
        return Ok(Ruling::AsIs);
    }
    if let Some(port) = ports.iter().find(|port| port.fits(version, mode)) {
        return Ok(Ruling::Apply(port));
    }
    if let Some(port) = ports.iter().find(|port| port.compatible && are_compatible(&port.version, version)) {
        return Ok(Ruling::Replace(port));
    }
    if ports.iter().all(|port| port.others_build) {
        return Ok(Ruling::AsIs);
    }
    let mut known: Vec<Version> = ports.iter().filter_map(|port| Version::parse(&port.version).ok()).collect();
    known.sort();
    Err(UnknownVersion { known })
}

/// Whether a requirement like `1.2` that one version satisfies may be satisfied by the other.
fn are_compatible(ours: &str, other: &Version) -> bool {
    let Ok(ours) = Version::parse(ours) else { return false };
    ours.major == other.major && (ours.major > 0 || ours.minor == other.minor)
}

/// A crate needs rules, but there are none for its version.
#[derive(Debug)]
pub struct UnknownVersion {
    /// The versions with rules, the newest last.
    pub known: Vec<Version>,
}

impl Port {
    fn parse(text: &str) -> Result<Port, toml::de::Error> {
        let mut port: Port = toml::from_str(text)?;
        text.clone_into(&mut port.text);
        Ok(port)
    }

    fn fits(&self, version: &Version, mode: Mode) -> bool {
        self.version == version.to_string()
            || !mode.is_host_driven() && self.also.as_ref().is_some_and(|also| also.matches(version))
    }

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
        let mut all = format!("{}{drop_in} {}\n{}", build.mode.name(), build.runtime.display(), self.text).into_bytes();
        for added in &self.added {
            all.extend(&*self.source_of(added)?);
        }
        Ok(all)
    }

    fn source_of(&self, added: &Added) -> Result<Cow<'static, [u8]>> {
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

impl Rule {
    fn applies(&self, version: &Version, build: Build<'_>) -> bool {
        self.mode.is_none_or(|only| only == build.mode)
            && self.versions.as_ref().is_none_or(|only| only.matches(version))
            && self.drop_in.is_none_or(|only| only == build.drop_in)
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

    fn build(mode: Mode) -> Build<'static> {
        Build { mode, runtime: Path::new("/the/runtime"), drop_in: false }
    }

    fn apply(rules: &'static str, source: &Path, target: &Path, mode: Mode) -> Result<()> {
        Port::parse(rules).expect("parsed").apply(source, &Version::new(1, 2, 3), target, build(mode))
    }

    fn lib(target: &Path) -> String {
        fs::read_to_string(target.join("src/lib.rs")).expect("read")
    }

    #[test]
    fn the_rules_of_this_wasmop_are_well_formed() {
        for port in known(Path::new("."), &[]).expect("parsed") {
            let changes = port.rules.len() + port.added.len();
            assert!(changes > 0 && Version::parse(&port.version).is_ok(), "{port}");
            assert!(port.added.iter().all(|added| port.source_of(added).is_ok()), "{port}");
        }
    }

    #[test]
    fn a_project_has_rules_of_its_own_which_stay_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("port")).expect("a directory");
        let write = |text: &str| fs::write(dir.path().join("port/demo.toml"), text).expect("written");
        let read = |glob: &str| known(dir.path(), &[glob.to_owned()]);
        write(&format!("{RULES}\n[[add]]\nfile = \"src/new.rs\"\nsource = \"new.rs\"\n"));
        fs::write(dir.path().join("port/new.rs"), "new").expect("written");
        let ports = read("port/*.toml").expect("valid");
        assert_eq!((ports[0].name.as_str(), ports[0].own.is_some(), ports[1].own.is_some()), ("demo", true, false));
        let source = crate_with("fn f() { native(); tls(); tls(); }");
        let target = dir.path().join("copy");
        ports[0].apply(source.path(), &Version::new(1, 2, 3), &target, build(Mode::GuestDriven)).expect("applied");
        assert_eq!(fs::read_to_string(target.join("src/new.rs")).expect("read"), "new");

        let problem = |glob: &str| read(glob).expect_err("refused").to_string();
        assert!(problem("../*.toml").contains("not in the project"), "{}", problem("../*.toml"));
        assert!(problem("none/*.toml").contains("no file matches"), "{}", problem("none/*.toml"));
        for outside in ["file = \"/etc/passwd\"\nsource = \"x\"", "file = \"x\"\nsource = \"../x\""] {
            write(&format!("{RULES}\n[[add]]\n{outside}\n"));
            assert!(problem("port/*.toml").contains("leads outside"), "{outside}");
        }
        write("crate = 1");
        assert!(problem("port/*.toml").contains("no port rules"), "{}", problem("port/*.toml"));
    }

    #[test]
    fn a_crate_is_copied_with_its_rules_applied_and_only_once() {
        let source = crate_with("fn f() { native(); tls(); tls(); }");
        let target = tempfile::tempdir().expect("a directory");
        let target = target.path().join("demo-1.2.3");
        apply(RULES, source.path(), &target, Mode::HostDriven).expect("applied");
        assert_eq!(lib(&target), "fn f() { wasm(); host(); host(); }");
        assert_eq!(fs::read_to_string(target.join("src/deep/mod.rs")).expect("read"), "deep");
        assert!(!target.join("tests").exists());

        fs::write(target.join("src/lib.rs"), "left alone").expect("written");
        apply(RULES, source.path(), &target, Mode::HostDriven).expect("applied");
        assert_eq!(lib(&target), "left alone");
        apply(RULES, source.path(), &target, Mode::GuestDriven).expect("applied");
        assert_ne!(lib(&target), "left alone");
    }

    #[test]
    fn a_copy_with_other_rules_is_replaced() {
        let source = crate_with("native() tls tls");
        let target = tempfile::tempdir().expect("a directory");
        fs::write(target.path().join(STAMP), "older rules").expect("written");
        fs::write(target.path().join("stray"), "").expect("written");
        apply(RULES, source.path(), target.path(), Mode::HostDriven).expect("applied");
        assert_eq!(lib(target.path()), "wasm() host host");
        assert!(!target.path().join("stray").exists());
    }

    #[test]
    fn a_rule_may_apply_to_a_directory_a_mode_or_a_version() {
        let rules = r#"
crate = "demo"
version = "1.2.3"
[[rule]]
why = "a directory"
file = "src"
find = "e"
replace = "E"
[[rule]]
why = "a mode"
file = "src/lib.rs"
mode = "guest-driven"
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
        for (mode, expected) in [(Mode::HostDriven, "nativE thErE"), (Mode::GuestDriven, "/the/runtime thErE")] {
            apply(rules, source.path(), target.path(), mode).expect("applied");
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
            let build = Build { drop_in, ..build(Mode::GuestDriven) };
            assert_eq!(port.copy_name(&version, build), name);
            let target = dir.path().join(name);
            port.apply(source.path(), &version, &target, build).expect("applied");
            assert_eq!((lib(&target).as_str(), target.join("src/added.rs").exists()), (text, drop_in));
        }
        let other = Port::parse(RULES).expect("parsed");
        assert_eq!(other.copy_name(&version, Build { drop_in: true, ..build(Mode::GuestDriven) }), "demo-1.2.3");
    }

    #[test]
    fn a_wrong_number_of_occurrences_is_an_error_with_crate_version_and_file() {
        for (lib, count) in [("tls tls", 0), ("native() native() tls tls", 2)] {
            let source = crate_with(lib);
            let target = tempfile::tempdir().expect("a directory");
            let target = target.path().join("copy");
            let error = apply(RULES, source.path(), &target, Mode::HostDriven).expect_err("an error").to_string();
            for part in ["demo 1.2.3", "src/lib.rs", "native()", &format!("{count} times")] {
                assert!(error.contains(part), "{part}: {error}");
            }
            assert!(!target.join(STAMP).exists());
        }
    }

    #[test]
    fn the_version_and_the_mode_decide_about_rules() {
        let demo = Port::parse(RULES).expect("parsed");
        let old = "crate = \"old\"\nversion = \"0.14.1\"\nothers_build = true";
        let other = "crate = \"other\"\nversion = \"1.9.0\"\nalso = \">=1.8, <1.9\"\ncompatible = true\nmode = \"guest-driven\"";
        let known = [demo, Port::parse(other).expect("parsed"), Port::parse(old).expect("parsed")];
        let ruling =
            |name: &str, version: &str, mode| match rules_for(&known, name, &version.parse().expect("a version"), mode)
            {
                Ok(Ruling::AsIs) => "as it is".to_owned(),
                Ok(Ruling::Apply(port)) => format!("apply {port}"),
                Ok(Ruling::Replace(port)) => format!("replace by {port}"),
                Err(unknown) => format!("unknown: {:?}", unknown.known),
            };
        for (name, version, mode, expected) in [
            ("serde", "1.0.0", Mode::HostDriven, "as it is"),
            ("demo", "1.2.3", Mode::HostDriven, "apply demo 1.2.3"),
            ("demo", "1.2.3", Mode::GuestDriven, "apply demo 1.2.3"),
            ("other", "1.8.0", Mode::HostDriven, "as it is"),
            ("old", "0.14.1", Mode::GuestDriven, "apply old 0.14.1"),
            ("old", "1.0.0", Mode::GuestDriven, "as it is"),
            ("other", "1.8.0", Mode::GuestDriven, "apply other 1.9.0"),
            ("other", "1.2.0", Mode::GuestDriven, "replace by other 1.9.0"),
        ] {
            assert_eq!(ruling(name, version, mode), expected, "{name} {version}");
        }
        for (name, version) in [("demo", "1.2.4"), ("other", "2.0.0")] {
            assert!(ruling(name, version, Mode::GuestDriven).starts_with("unknown"), "{name} {version}");
        }
    }
}
