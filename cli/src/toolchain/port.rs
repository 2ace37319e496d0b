//! Patches published crates so that they build for wasm, with textual rules on a copy of the locked version.
//!
//! The rules are data, one file per crate in `guest-rust/port/`. Each names a file, a text that must occur there exactly
//! `count` times, and its replacement. So a version that differs is an error here that names the version, and not a
//! strange error of the compiler.

mod copy;

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::embedded::PORT_RUST;
use crate::error::{HelpExt, failure};

/// The rules for one crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    #[serde(rename = "crate")]
    pub name: String,
    /// The version that the rules were written for.
    pub version: String,
    /// Other versions that the rules fit, in unmodified programs. The crate `wasmop` depends on one version.
    also: Option<VersionReq>,
    /// Versions that the rules do not fit need none.
    #[serde(default)]
    others_build: bool,
    /// Builds use this version in place of others that are compatible with it.
    #[serde(default)]
    compatible: bool,
    /// The only programs for which the rules apply; see [`Build::unmodified`].
    unmodified: Option<bool>,
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
    /// The only programs for which the rule applies; see [`Build::unmodified`].
    unmodified: Option<bool>,
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
    /// The program does not use the crate `wasmop`.
    pub unmodified: bool,
    /// The directory of the crate `wasmop-runtime`.
    pub runtime: &'a Path,
    /// In an unmodified program, `Controller` is a controller of the host.
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
    unmodified: bool,
) -> Result<Ruling<'a>, UnknownVersion> {
    let ports: Vec<&Port> = known
        .iter()
        .filter(|port| port.name == name && port.unmodified.is_none_or(|only| only == unmodified))
        .collect();
    if ports.is_empty() {
        return Ok(Ruling::AsIs);
    }
    if let Some(port) = ports.iter().find(|port| port.fits(version, unmodified)) {
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

    fn fits(&self, version: &Version, unmodified: bool) -> bool {
        self.version == version.to_string()
            || unmodified && self.also.as_ref().is_some_and(|also| also.matches(version))
    }
}

impl Rule {
    fn applies(&self, version: &Version, build: Build<'_>) -> bool {
        self.unmodified.is_none_or(|only| only == build.unmodified)
            && self.versions.as_ref().is_none_or(|only| only.matches(version))
            && self.drop_in.is_none_or(|only| only == build.drop_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const RULES: &str = r#"
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

    pub fn crate_with(lib: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("src/deep")).expect("directories");
        fs::create_dir_all(dir.path().join("tests")).expect("directories");
        fs::write(dir.path().join("Cargo.toml"), "[package]").expect("written");
        fs::write(dir.path().join("src/lib.rs"), lib).expect("written");
        fs::write(dir.path().join("src/deep/mod.rs"), "deep").expect("written");
        fs::write(dir.path().join("tests/t.rs"), "test").expect("written");
        dir
    }

    pub fn build(unmodified: bool) -> Build<'static> {
        Build { unmodified, runtime: Path::new("/the/runtime"), drop_in: false }
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
        ports[0].apply(source.path(), &Version::new(1, 2, 3), &target, build(true)).expect("applied");
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
    fn the_version_and_the_program_decide_about_rules() {
        let demo = Port::parse(RULES).expect("parsed");
        let old = "crate = \"old\"\nversion = \"0.14.1\"\nothers_build = true";
        let other =
            "crate = \"other\"\nversion = \"1.9.0\"\nalso = \">=1.8, <1.9\"\ncompatible = true\nunmodified = true";
        let known = [demo, Port::parse(other).expect("parsed"), Port::parse(old).expect("parsed")];
        let ruling = |name: &str, version: &str, unmodified| match rules_for(
            &known,
            name,
            &version.parse().expect("a version"),
            unmodified,
        ) {
            Ok(Ruling::AsIs) => "as it is".to_owned(),
            Ok(Ruling::Apply(port)) => format!("apply {port}"),
            Ok(Ruling::Replace(port)) => format!("replace by {port}"),
            Err(unknown) => format!("unknown: {:?}", unknown.known),
        };
        for (name, version, unmodified, expected) in [
            ("serde", "1.0.0", false, "as it is"),
            ("demo", "1.2.3", false, "apply demo 1.2.3"),
            ("demo", "1.2.3", true, "apply demo 1.2.3"),
            ("other", "1.8.0", false, "as it is"),
            ("old", "0.14.1", true, "apply old 0.14.1"),
            ("old", "1.0.0", true, "as it is"),
            ("other", "1.8.0", true, "apply other 1.9.0"),
            ("other", "1.2.0", true, "replace by other 1.9.0"),
        ] {
            assert_eq!(ruling(name, version, unmodified), expected, "{name} {version}");
        }
        for (name, version) in [("demo", "1.2.4"), ("other", "2.0.0")] {
            assert!(ruling(name, version, true).starts_with("unknown"), "{name} {version}");
        }
    }
}
