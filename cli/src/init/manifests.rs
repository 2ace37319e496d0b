//! The Kubernetes objects in a project's files, and which set of files describes the operator's installation.
//!
//! A project often describes it several times: plain YAML, a Helm chart, kustomize. Each is a [`Source`], and
//! one of them is chosen, since together they would be a mixture that nobody installs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::helm::{Chart, UNKNOWN};
use super::tree::{Tree, is_aside};
use super::yaml;

/// The kinds that say something about an operator.
const KINDS: [&str; 10] = [
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ConfigMap",
    "CustomResourceDefinition",
    "List",
];

/// An object and its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Relative to the project's directory.
    pub file: PathBuf,
    pub value: Value,
}

impl Object {
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// One description of the installation.
#[derive(Debug, Default)]
pub struct Source {
    /// `config`, or the directory of a chart.
    pub dir: PathBuf,
    /// The name in `Chart.yaml`, for a Helm chart.
    pub chart: Option<String>,
    pub objects: Vec<Object>,
}

impl Source {
    pub fn of_kind<'a>(&'a self, kinds: &'a [&'a str]) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(|object| kinds.contains(&object.kind()))
    }
}

/// Everything in the project's YAML files.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The best description first.
    pub sources: Vec<Source>,
    /// The CustomResourceDefinitions.
    pub crds: Vec<Object>,
    /// Files whose every document is a CustomResourceDefinition.
    pub crd_files: Vec<PathBuf>,
    /// Why some files were not understood.
    pub skipped: Vec<String>,
}

/// Reads the YAML files of a project. Files aside, like examples, count only where no other file has a
/// CustomResourceDefinition.
pub fn read(tree: &Tree) -> Manifests {
    let charts = charts(tree);
    let mut manifests = read_files(tree, &charts, false);
    if manifests.crds.is_empty() {
        let aside = read_files(tree, &charts, true);
        manifests.crds = aside.crds;
        manifests.crd_files = aside.crd_files;
    }
    manifests
}

fn read_files(tree: &Tree, charts: &[(PathBuf, NamedChart)], aside: bool) -> Manifests {
    let mut manifests = Manifests::default();
    let mut by_source: BTreeMap<PathBuf, Source> = BTreeMap::new();
    for file in tree.ending(&["yaml", "yml"]).filter(|file| is_aside(file) == aside) {
        let Some(text) = tree.read(file) else {
            manifests.skipped.push(format!("`{}` is large, or not text", file.display()));
            continue;
        };
        let chart = charts.iter().rev().find(|(dir, _)| file.starts_with(dir));
        let (dir, name, text) = match chart {
            Some((dir, chart)) if file.starts_with(dir.join("templates")) => match chart.read.render(&text) {
                Ok(text) => (dir.clone(), Some(chart.name.clone()), text),
                Err(problem) => {
                    manifests.skipped.push(format!("`{}`: {problem}", file.display()));
                    continue;
                }
            },
            Some((dir, chart)) => (dir.clone(), Some(chart.name.clone()), text),
            None => (top(file), None, text),
        };
        let documents = documents(&text);
        manifests.skipped.extend(documents.problems.iter().map(|problem| format!("`{}`: {problem}", file.display())));
        // A CRD from a template is not a file that a build can read.
        let is_template = chart.is_some_and(|(dir, _)| file.starts_with(dir.join("templates")));
        let objects = documents.objects.into_iter().map(|value| Object { file: file.to_owned(), value });
        for object in objects {
            if object.kind() == "CustomResourceDefinition" {
                if !is_template {
                    manifests.crds.push(object);
                }
            } else {
                let source = by_source.entry(dir.clone()).or_default();
                source.dir.clone_from(&dir);
                source.chart.clone_from(&name);
                source.objects.push(object);
            }
        }
        if documents.only_crds && !is_template {
            manifests.crd_files.push(file.to_owned());
        }
    }
    manifests.sources = by_source.into_values().collect();
    manifests.sources.sort_by_key(rank);
    manifests
}

/// Plain files before charts, whose values are a guess; roles and a Deployment before less.
fn rank(source: &Source) -> (bool, bool, bool, bool) {
    let has = |kinds: &[&str]| source.of_kind(kinds).next().is_some();
    let roles = has(&["ClusterRole", "Role"]);
    let workload = has(&["Deployment", "StatefulSet"]);
    (!roles, !workload, source.chart.is_some(), source.dir != Path::new("config"))
}

/// Plain files belong together if they have the same top directory.
fn top(file: &Path) -> PathBuf {
    let dir = file.parent().unwrap_or(Path::new(""));
    dir.iter().next().map(PathBuf::from).unwrap_or_default()
}

struct NamedChart {
    name: String,
    read: Chart,
}

/// The charts by their directories. A chart inside of another one comes after it.
fn charts(tree: &Tree) -> Vec<(PathBuf, NamedChart)> {
    let mut charts = Vec::new();
    let manifests = tree.files.iter().filter(|file| file.file_name().is_some_and(|name| name == "Chart.yaml"));
    for manifest in manifests {
        let dir = manifest.parent().unwrap_or(Path::new("")).to_owned();
        let yaml = |file: &Path| -> Option<Value> { yaml::parse(&tree.read(file)?).ok() };
        let Some(about) = yaml(manifest) else { continue };
        let values = yaml(&dir.join("values.yaml")).unwrap_or_default();
        let helpers: Vec<String> =
            tree.ending(&["tpl"]).filter(|file| file.starts_with(&dir)).filter_map(|file| tree.read(file)).collect();
        let helpers: Vec<&str> = helpers.iter().map(String::as_str).collect();
        let name = about["name"].as_str().unwrap_or_default().to_owned();
        charts.push((dir, NamedChart { name, read: Chart::new(&about, values, &helpers) }));
    }
    charts
}

/// The objects of a YAML file.
#[derive(Debug, Default, PartialEq)]
struct Documents {
    objects: Vec<Value>,
    /// There is an object, and each is a CustomResourceDefinition.
    only_crds: bool,
    problems: Vec<String>,
}

/// Parses each document by itself, so that a broken one does not hide the others. Documents of other kinds, which may
/// be anything, are not parsed.
fn documents(text: &str) -> Documents {
    let mut documents = Documents { only_crds: true, ..Documents::default() };
    let mut crds = 0;
    for text in split(text) {
        if text.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        let Some(kind) = KINDS.iter().find(|kind| mentions(&text, kind)) else {
            documents.only_crds = false;
            continue;
        };
        let value = match parse(&text) {
            Ok(value) => value,
            Err(problem) => {
                documents.problems.push(format!("a document of kind {kind} is not understood: {problem}"));
                documents.only_crds = false;
                continue;
            }
        };
        let items = match value {
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                documents.only_crds = false;
                list.remove("items").and_then(|items| items.as_array().cloned()).unwrap_or_default()
            }
            value => vec![value],
        };
        for item in items {
            let kind = item["kind"].as_str().unwrap_or_default();
            crds += usize::from(kind == "CustomResourceDefinition");
            documents.only_crds &= kind == "CustomResourceDefinition";
            if KINDS.contains(&kind) {
                documents.objects.push(item);
            }
        }
    }
    documents.only_crds &= crds > 0;
    documents
}

/// Whether a line says that the document, or an item in it, has this kind.
fn mentions(text: &str, kind: &str) -> bool {
    text.lines().any(|line| {
        let value = line.trim_start_matches([' ', '-', '{', '"']).strip_prefix("kind");
        let value = value.and_then(|it| it.trim_start_matches('"').trim_start().strip_prefix(':'));
        value.is_some_and(|it| it.trim_start_matches([' ', '"', '\'']).starts_with(kind))
    })
}

/// Splits a stream at `---`.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("---") {
            Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => documents.push(String::new()),
            _ => {
                if let Some(document) = documents.last_mut() {
                    document.push_str(line);
                    document.push('\n');
                }
            }
        }
    }
    documents
}

fn parse(text: &str) -> Result<Value, String> {
    let result = yaml::parse(text);
    if result.is_ok() || !text.contains(UNKNOWN) {
        return result;
    }
    // Where a chart includes several fields, the mark is a line that is no field.
    let known: Vec<&str> = text.lines().filter(|line| line.trim().trim_start_matches("- ") != UNKNOWN).collect();
    yaml::parse(&known.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRD: &str = "kind: CustomResourceDefinition\nmetadata: {name: a.b}\n";

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        for (text, kinds, only_crds, problems) in [
            (format!("{CRD}---\n{CRD}"), vec!["CustomResourceDefinition"; 2], true, 0),
            (format!("# only a comment\n---\n{CRD}---\n"), vec!["CustomResourceDefinition"], true, 0),
            (format!("{CRD}---\nkind: Service\n"), vec!["CustomResourceDefinition"], false, 0),
            ("kind: Role\nrules: [\n---\nkind: Role\n".to_owned(), vec!["Role"], false, 1),
            ("kind: Dashboard\n\t{{ broken }}\n".to_owned(), vec![], false, 0),
            ("items:\n- kind: Role\nkind: List\n".to_owned(), vec!["Role"], false, 0),
            ("{\"kind\": \"Role\"}".to_owned(), vec!["Role"], false, 0),
            ("a: &a [1,1]\nb: *a\nkind: Role\n".to_owned(), vec!["Role"], false, 0),
            (String::new(), vec![], false, 0),
        ] {
            let found = documents(&text);
            let found_kinds: Vec<&str> = found.objects.iter().filter_map(|it| it["kind"].as_str()).collect();
            assert_eq!(found_kinds, kinds, "{text}");
            assert_eq!((found.only_crds, found.problems.len()), (only_crds, problems), "{text}\n{found:?}");
        }
    }

    #[test]
    fn an_unknown_part_between_fields_is_left_out() {
        let text = format!("kind: Role\nmetadata:\n  labels:\n    {UNKNOWN}\n    a: b\nrules: []\n");
        assert_eq!(documents(&text).objects[0]["metadata"]["labels"]["a"], "b");
    }

    #[test]
    fn a_description_with_roles_and_a_workload_is_best() {
        let source = |dir: &str, chart: Option<&str>, kinds: &[&str]| Source {
            dir: dir.into(),
            chart: chart.map(str::to_owned),
            objects: kinds
                .iter()
                .map(|kind| Object { file: PathBuf::new(), value: serde_json::json!({"kind": kind}) })
                .collect(),
        };
        let mut sources = [
            source("charts/a", Some("a"), &["Role", "Deployment"]),
            source("yaml", None, &["Deployment"]),
            source("deploy", None, &["ClusterRole", "Deployment"]),
            source("config", None, &["Role", "Deployment"]),
        ];
        sources.sort_by_key(rank);
        let dirs: Vec<_> = sources.iter().map(|it| it.dir.display().to_string()).collect();
        assert_eq!(dirs, ["config", "deploy", "charts/a", "yaml"]);
    }
}
