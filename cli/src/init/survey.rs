//! Collects what the files of a project say about its controller.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use wasmop_package::manifest::Language;

use super::cargo_manifest;
use super::client_calls::{self, OwnKind};
use super::controller::{self, Choice, Wanted};
use super::crds::{self, Crds};
use super::deployment::{self, Workload};
use super::go_module::package_argument;
use super::manifests::{self, Manifests, Object, Source};
use super::rbac::{self, Permissions};
use super::tree::{Tree, is_aside};
use super::{dockerfile, markers, name, yaml};
use crate::dns_label::{DNS_LABEL_HELP, dns_label_problem};
use crate::error::{failure, problem_and_help};
use crate::project::crds::crds_of_command;

/// What the files say, for the project file and for the summary.
#[derive(Debug)]
pub struct Findings {
    /// The directory for `wasmop.toml`.
    pub dir: PathBuf,
    pub language: Language,
    pub name: String,
    /// Where the name is from.
    pub name_from: String,
    pub version: String,
    pub version_from: String,
    /// The cargo binary, if its crate has several.
    pub bin: Option<String>,
    /// The cargo example, if the controller is one.
    pub example: Option<String>,
    pub features: Vec<String>,
    /// The Go main package.
    pub package: Option<String>,
    /// With globs relative to `dir`.
    pub crds: Crds,
    pub crds_command: Option<CrdsCommand>,
    pub permissions: Permissions,
    pub workload: Option<Workload>,
    /// Other descriptions of the installation, which were not used.
    pub unused: Vec<String>,
    /// Why some files were not understood.
    pub skipped: Vec<String>,
}

/// A program that prints the CustomResourceDefinitions.
#[derive(Debug)]
pub struct CrdsCommand {
    pub command: Vec<String>,
    /// Why it did not work when it was tried.
    pub problem: Option<String>,
}

/// Looks through the project in `dir`. `wanted_name` takes precedence over the names in the files.
pub fn survey(dir: &Path, wanted: &Wanted, wanted_name: Option<&str>) -> Result<Findings> {
    if let Some(name) = wanted_name
        && let Some(problem) = dns_label_problem(name)
    {
        return Err(failure(format!("the name `{name}` {problem}"), DNS_LABEL_HELP).usage().into());
    }
    let choice = controller::choose(dir, wanted)?;
    let place = Place::of(dir, &choice);
    let names = names(&choice, &place);
    let main_source = place.manifests.sources.first().filter(|source| !source.objects.is_empty());
    let image = dockerfile::find(&place.tree);
    let telling: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let workload = main_source
        .and_then(|source| deployment::workload(source, &telling, image.as_ref().map(|(file, image)| (*file, image))));
    let permissions = permissions(&choice, &place, main_source, workload.as_ref());
    let (name, name_from) = chosen_name(names, wanted_name, main_source, workload.as_ref(), &place.project);
    let mut crds = crds::find(&place.manifests, &place.tree);
    for glob in &mut crds.globs {
        *glob = place.relative(glob);
    }
    let crds_command = if crds.globs.is_empty() { crds_command(&choice, &place.project) } else { None };
    let (version, version_from) = version(&choice);
    let (bin, features, package) = match &choice {
        Choice::Rust { of, bin, .. } => {
            let is_one_of_several = bin.is_example || of.bins.iter().filter(|bin| !bin.is_example).count() > 1;
            (is_one_of_several.then(|| bin.name.clone()), bin.required_features.clone(), None)
        }
        Choice::Go { main, .. } => (None, Vec::new(), Some(package_argument(main))),
    };
    let is_example = matches!(&choice, Choice::Rust { bin, .. } if bin.is_example);
    let (bin, example) = if is_example { (None, bin) } else { (bin, None) };
    Ok(Findings {
        language: if package.is_some() { Language::Go } else { Language::Rust },
        name,
        name_from,
        version,
        version_from,
        bin,
        example,
        features,
        package,
        crds,
        crds_command,
        permissions,
        workload,
        unused: unused(&place.manifests),
        skipped: place.tree.skipped.iter().chain(&place.manifests.skipped).cloned().collect(),
        dir: place.project,
    })
}

/// Where the project is, and the files around it.
struct Place {
    /// The directory for `wasmop.toml`.
    project: PathBuf,
    /// The searched directory: the project's, or the workspace's around it.
    tree: Tree,
    manifests: Manifests,
    /// From `project` to the searched directory.
    to_tree: PathBuf,
}

impl Place {
    fn of(dir: &Path, choice: &Choice) -> Place {
        let project = match choice {
            Choice::Rust { of, .. } if of.dir != Path::new("") => dir.join(&of.dir),
            _ => dir.to_owned(),
        };
        let place = Place::searching(&project, &project);
        let around = match choice {
            Choice::Rust { .. } if project != dir => Some(dir.to_owned()),
            Choice::Rust { .. } => cargo_manifest::workspace_above(dir),
            Choice::Go { .. } => None,
        };
        let says_nothing = place.manifests.sources.is_empty() && place.manifests.crd_files.is_empty();
        match around {
            Some(around) if says_nothing => Place::searching(&project, &around),
            _ => place,
        }
    }

    fn searching(project: &Path, dir: &Path) -> Place {
        let tree = Tree::list(dir);
        let manifests = manifests::read(&tree);
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let depth = absolute(project).strip_prefix(absolute(dir)).map_or(0, |below| below.components().count());
        Place { project: project.to_owned(), tree, manifests, to_tree: (0..depth).map(|_| "..").collect() }
    }

    /// A path or glob in the tree, relative to the project.
    fn relative(&self, path: &str) -> String {
        self.to_tree.join(path).display().to_string()
    }
}

/// Names of the project, the best first, and where they are from.
fn names(choice: &Choice, place: &Place) -> Vec<(String, &'static str)> {
    let mut names = Vec::new();
    if let Some(name) = kubebuilder_name(&place.tree) {
        names.push((name, "projectName in PROJECT"));
    }
    match choice {
        Choice::Rust { bin, .. } if bin.is_example => names.push((bin.name.clone(), "the example")),
        Choice::Rust { of, .. } => names.push((of.name.clone(), "[package] in Cargo.toml")),
        Choice::Go { module, main } => {
            // Of several programs, each has its own name.
            if let Some(program) = main.file_name().and_then(|it| it.to_str())
                && module.mains.len() > 1
                && program != "cmd"
                && !name::is_generic(program)
            {
                names.push((program.to_owned(), "the main package"));
            }
            names.push((module.name().to_owned(), "go.mod"));
        }
    }
    names
}

fn kubebuilder_name(tree: &Tree) -> Option<String> {
    let project = yaml::parse(&tree.read(Path::new("PROJECT"))?).ok()?;
    project["projectName"].as_str().map(str::to_owned)
}

fn chosen_name(
    mut names: Vec<(String, &'static str)>,
    wanted: Option<&str>,
    source: Option<&Source>,
    workload: Option<&Workload>,
    project: &Path,
) -> (String, String) {
    if let Some(wanted) = wanted {
        return (wanted.to_owned(), "--name".to_owned());
    }
    let chart = source.and_then(|source| source.chart.clone());
    names.extend(chart.map(|name| (name, "Chart.yaml")));
    names.extend(workload.and_then(|it| it.name.clone()).map(|name| (name, "the Deployment")));
    let absolute = std::path::absolute(project).unwrap_or_default();
    let directory = absolute.file_name().map(|it| it.to_string_lossy().into_owned());
    names.extend(directory.map(|name| (name, "the directory")));
    let chosen = name::choose(&names).unwrap_or_else(|| ("controller".to_owned(), "a default"));
    (chosen.0, chosen.1.to_owned())
}

fn version(choice: &Choice) -> (String, String) {
    if let Choice::Rust { of, .. } = choice
        && let Some(version) = &of.version
        && semver::Version::parse(version).is_ok()
    {
        return (version.clone(), "Cargo.toml".to_owned());
    }
    ("0.1.0".to_owned(), "a default".to_owned())
}

/// The rules of the operator's roles, or of the markers in a Go project without roles.
fn permissions(choice: &Choice, place: &Place, source: Option<&Source>, workload: Option<&Workload>) -> Permissions {
    let account = workload.and_then(|it| it.account.as_deref());
    let of_roles = source.map(|source| rbac::permissions(source, account)).unwrap_or_default();
    if !of_roles.is_empty() || matches!(choice, Choice::Rust { .. }) {
        return of_roles;
    }
    let files =
        place.tree.ending(&["go"]).filter(|file| !is_aside(file) && !file.to_string_lossy().ends_with("_test.go"));
    let texts: Vec<String> = files.filter_map(|file| place.tree.read(file)).collect();
    let rules: Vec<_> = texts.iter().flat_map(|text| markers::rules(text)).collect();
    if !rules.is_empty() {
        return Permissions::from_rules("`+kubebuilder:rbac` comments in Go files".to_owned(), rules);
    }
    let own: Vec<OwnKind> = place.manifests.crds.iter().filter_map(own_kind).collect();
    let mut rules = client_calls::rules(texts.iter().map(String::as_str), &own);
    if rules.is_empty() {
        return of_roles;
    }
    rules.extend(texts.iter().find_map(|text| client_calls::events(text)));
    Permissions::from_rules("Calls of client-go in Go files, as the project has no roles".to_owned(), rules)
}

fn own_kind(crd: &Object) -> Option<OwnKind> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let spec = &crd.value["spec"];
    Some(OwnKind { group: text(&spec["group"])?, plural: text(&spec["names"]["plural"])? })
}

/// Runs the binary that prints the definitions, if there is one.
fn crds_command(choice: &Choice, project: &Path) -> Option<CrdsCommand> {
    let Choice::Rust { generator: Some(generator), .. } = choice else { return None };
    let mut command: Vec<String> = ["cargo", "run", "--quiet"].map(str::to_owned).into();
    if !generator.required_features.is_empty() {
        command.extend(["--features".to_owned(), generator.required_features.join(",")]);
    }
    command.extend(["--bin".to_owned(), generator.name.clone()]);
    let problem = match crds_of_command(project, &command) {
        Ok(documents) if documents.is_empty() => Some("it printed nothing".to_owned()),
        Ok(_) => None,
        Err(error) => Some(problem_and_help(&error).0),
    };
    Some(CrdsCommand { command, problem })
}

/// Other descriptions that have roles or workloads.
fn unused(manifests: &Manifests) -> Vec<String> {
    let others = manifests.sources.iter().skip(1);
    let has = |source: &&Source| source.of_kind(&["ClusterRole", "Role", "Deployment", "StatefulSet"]).next().is_some();
    let shown = |source: &Source| match &source.chart {
        Some(_) => format!("the chart in {}", source.dir.display()),
        None if source.dir == Path::new("") => "YAML files beside it".to_owned(),
        None => source.dir.display().to_string(),
    };
    others.filter(has).map(shown).collect()
}
