//! `docs/porting.md`: what came of each version, and the port rules.

use std::fmt::{self, Display, Formatter, Write};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::versions::Trial;
use crate::repository;

/// The page, from the repository's root.
pub const PATH: &str = "docs/porting.md";
const RUST_RULES: &str = "guest-rust/port";
const GO_RULES: &str = "guest-go/port/rules";
/// The rules begin here; they are on the page as they are in the repository.
const RULES_HEADING: &str = "## Port rules\n";

const INTRODUCTION: &str = "\
# Versions and port rules

`cargo xtask compat` writes this page. It builds one small operator with each version of its framework: a kube-rs
`Controller`, or a manager of controller-runtime with leader election and probes. [Operators that
exist](existing-operators.md) says how such programs run.

## Versions

Each version is the newest of its minor release. Versions in between use the same rules.

";

const RULES_INTRODUCTION: &str = "
A rule changes a copy of one dependency so that it compiles and works in a guest. `wasmop build` applies it if the
program uses the dependency. If a rule does not fit the version in the lock file, the build says so and writes no
package.

";

/// What came of a build.
pub enum Built {
    Package(Package),
    /// What the build said.
    Refused(String),
}

/// What `wasmop build --json` says of a package.
#[derive(Deserialize)]
pub struct Package {
    mode: String,
    bytes: u64,
}

impl Display for Built {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Built::Package(package) => write!(f, "{}, {:.1} MiB", package.mode, package.mebibytes()),
            Built::Refused(said) => write!(f, "refused\n{said}"),
        }
    }
}

impl Package {
    fn mebibytes(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }
}

/// The whole page. A version without a result keeps its row of the page `before`.
///
/// # Errors
///
/// A rule cannot be read.
pub fn write(before: &str, results: &[(Trial, Option<Built>)]) -> Result<String> {
    let mut text = INTRODUCTION.to_owned();
    text += "| framework | version | with | builds | mode | package |\n|---|---|---|---|---|---|\n";
    for (trial, built) in results {
        let begin = row_begin(trial);
        let found = match built {
            Some(Built::Package(package)) => format!("✓ | {} | {:.1} MiB |", package.mode, package.mebibytes()),
            Some(Built::Refused(_)) => "✗ | – | – |".to_owned(),
            None => {
                let kept = before.lines().find_map(|line| line.strip_prefix(&begin));
                kept.unwrap_or("not tried | – | – |").to_owned()
            }
        };
        writeln!(text, "{begin}{found}")?;
    }
    text.push('\n');
    Ok(text + &rules(repository::root())?)
}

fn row_begin(trial: &Trial) -> String {
    format!("| {} | {} | {} | ", trial.framework(), trial.version(), trial.companion())
}

/// The second half of the page.
fn rules(root: &Path) -> Result<String> {
    let mut text = RULES_HEADING.to_owned() + RULES_INTRODUCTION;
    text += "| rule | of | versions | why |\n|---|---|---|---|\n";
    for folder in [RUST_RULES, GO_RULES] {
        for path in toml_files(&root.join(folder))? {
            let content = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let row = row(&content).with_context(|| format!("reading {}", path.display()))?;
            writeln!(text, "| [`{name}`](../{folder}/{name}) | {row} |")?;
        }
    }
    Ok(text)
}

/// The keys of both kinds of rules that the page shows.
#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "crate")]
    krate: Option<String>,
    module: Option<String>,
    version: Option<String>,
    versions: Option<String>,
    also: Option<String>,
    go: Option<String>,
    why: Option<String>,
}

/// The columns after the name.
fn row(content: &str) -> Result<String> {
    let rule: Rule = toml::from_str(content)?;
    let comment = leading_comment(content);
    let of = rule.krate.as_deref().or(rule.module.as_deref()).unwrap_or("the standard library");
    let versions = rule.also.or(rule.versions).or(rule.version).or(rule.go).unwrap_or_default();
    let why = rule.why.as_deref().or_else(|| first_sentence(&comment, of)).context("a rule without a reason")?;
    Ok(format!("{of} | {} | {}", versions.replace('|', "\\|"), why.replace('|', "\\|")))
}

/// The lines of the comment at the beginning of a file, as one text.
fn leading_comment(content: &str) -> String {
    content.lines().map_while(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join(" ")
}

/// The first sentence, without the words about which crate it is.
fn first_sentence<'a>(comment: &'a str, of: &str) -> Option<&'a str> {
    let sentence = comment.split(". ").next()?.trim_end_matches('.');
    let sentence = match sentence.split_once(": ") {
        Some((subject, rest)) if subject.starts_with(of) => rest,
        _ => sentence,
    };
    (!sentence.is_empty()).then_some(sentence)
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::versions;

    #[test]
    fn committed_page_has_each_version_and_each_rule() {
        let page = fs::read_to_string(repository::root().join(PATH)).unwrap();
        let at = page.find(RULES_HEADING).expect("no rules in the page");
        assert_eq!(page[at..], rules(repository::root()).unwrap(), "run `cargo xtask compat`");
        for trial in versions::all().unwrap() {
            let row = row_begin(&trial);
            assert!(page.contains(&row), "{row} is missing: run `cargo xtask compat`");
        }
    }

    #[test]
    fn version_that_was_not_built_keeps_its_row() {
        let mut trials = versions::all().unwrap().into_iter();
        let (first, second, third) = (trials.next().unwrap(), trials.next().unwrap(), trials.next().unwrap());
        let before = format!("{}✓ | host-driven | 1.5 MiB |\n", row_begin(&second));
        let package = Package { mode: "guest-driven".into(), bytes: 5 << 19 };
        let rows = [row_begin(&first), row_begin(&second), row_begin(&third)];
        let results = [(first, Some(Built::Package(package))), (second, None), (third, None)];
        let page = write(&before, &results).unwrap();
        for (row, expected) in
            rows.iter().zip(["✓ | guest-driven | 2.5 MiB |", "✓ | host-driven | 1.5 MiB |", "not tried | – | – |"])
        {
            assert!(page.contains(&format!("{row}{expected}\n")), "{page}");
        }
    }

    #[test]
    fn row_names_the_dependency_its_versions_and_the_reason() {
        for (content, expected) in [
            (
                "# A reason\n# of two lines. More.\ncrate = \"a\"\nalso = \">=1, <6\"\n",
                "a | >=1, <6 | A reason of two lines",
            ),
            ("# a on wasm: why.\ncrate = \"a\"\nversion = \"5\"\n", "a | 5 | why"),
            ("# Detail.\nmodule = \"m\"\nversions = \">=2\"\nwhy = \"it is so\"\n", "m | >=2 | it is so"),
            ("go = \">=1.26\"\nwhy = \"a | b\"\n", "the standard library | >=1.26 | a \\| b"),
        ] {
            assert_eq!(row(content).unwrap(), expected);
        }
        assert!(row("crate = \"a\"\n").is_err());
    }
}
