//! The `crds` globs: each CustomResourceDefinition of a project once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::manifests::Manifests;
use super::tree::Tree;

/// Where the CustomResourceDefinitions are.
#[derive(Debug, Default, PartialEq)]
pub struct Crds {
    /// Relative to the searched directory.
    pub globs: Vec<String>,
    /// The names of the definitions.
    pub names: Vec<String>,
    /// Remarks, a sentence each.
    pub notes: Vec<String>,
}

/// Chooses the files.
pub fn find(manifests: &Manifests, tree: &Tree) -> Crds {
    let mut crds = Crds::default();
    let mut files: Vec<&PathBuf> = manifests.crd_files.iter().collect();
    let has_status = |file: &Path| manifests.crds.iter().any(|crd| crd.file == file && has_status(&crd.value));
    files.sort_by_key(|file| rank(file, has_status(file)));
    let names = |file: &Path| -> BTreeSet<&str> {
        manifests.crds.iter().filter(|crd| crd.file == file).map(|crd| crd.name()).collect()
    };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut chosen: Vec<&PathBuf> = Vec::new();
    let mut repeated: Vec<&PathBuf> = Vec::new();
    for file in files {
        let new = names(file);
        if new.iter().any(|name| known.contains(name)) {
            repeated.push(file);
            continue;
        }
        known.extend(new);
        chosen.push(file);
    }
    for (dir, files) in by_directory(&repeated) {
        crds.notes.push(match files[..] {
            [file] => format!("{} defines the same.", file.display()),
            _ => format!("{} files in {} define the same.", files.len(), dir.display()),
        });
    }
    let unread: BTreeSet<&str> = manifests.crds.iter().map(|crd| crd.name()).collect();
    for name in unread.difference(&known) {
        let file = manifests.crds.iter().find(|crd| crd.name() == *name).map(|crd| crd.file.display().to_string());
        crds.notes.push(format!(
            "{name} is in {} beside other objects: move it to a file of its own.",
            file.unwrap_or_default()
        ));
    }
    crds.names = known.into_iter().map(str::to_owned).collect();
    crds.globs = globs(&chosen, tree);
    crds
}

fn by_directory<'a>(files: &[&'a PathBuf]) -> BTreeMap<&'a Path, Vec<&'a PathBuf>> {
    let mut directories: BTreeMap<&Path, Vec<&PathBuf>> = BTreeMap::new();
    for file in files {
        directories.entry(file.parent().unwrap_or(Path::new(""))).or_default().push(file);
    }
    directories
}

/// Whether a version has the subresource for its status, without which clients cannot update it.
fn has_status(crd: &Value) -> bool {
    let versions = crd["spec"]["versions"].as_array();
    versions.is_some_and(|versions| versions.iter().any(|version| version["subresources"]["status"].is_object()))
}

/// Generated files first, then those with a status, then the shortest path.
fn rank(file: &Path, has_status: bool) -> (bool, bool, usize, usize, PathBuf) {
    let generated = file.parent().is_some_and(|dir| dir.ends_with("bases"));
    (!generated, !has_status, file.components().count(), file.as_os_str().len(), file.to_owned())
}

/// A glob for the files of a directory if it matches no other file, else the files.
fn globs(chosen: &[&PathBuf], tree: &Tree) -> Vec<String> {
    let mut globs = Vec::new();
    for file in chosen {
        let dir = file.parent().unwrap_or(Path::new(""));
        let siblings: Vec<&PathBuf> = tree.files.iter().filter(|it| it.parent() == Some(dir)).collect();
        let glob = glob_for(file, dir, chosen, &siblings).unwrap_or_else(|| escaped(file));
        if !globs.contains(&glob) {
            globs.push(glob);
        }
    }
    globs
}

/// A glob that matches `file` and, of its siblings, only chosen ones.
fn glob_for(file: &Path, dir: &Path, chosen: &[&PathBuf], siblings: &[&PathBuf]) -> Option<String> {
    let is_for_crds = dir.iter().any(|part| part.to_string_lossy().contains("crd"));
    if dir == Path::new("") || (!is_for_crds && siblings.iter().filter(|it| chosen.contains(it)).count() < 2) {
        return None;
    }
    let ending = file.extension()?.to_str()?;
    // The second is controller-gen's `group_plural.yaml`, often beside a `kustomization.yaml`.
    [format!("*.{ending}"), format!("*_*.{ending}")].into_iter().map(|name| format!("{}/{name}", escaped(dir))).find(
        |glob| {
            let pattern = glob::Pattern::new(glob);
            let matches = |file: &Path| pattern.as_ref().is_ok_and(|pattern| pattern.matches_path(file));
            matches(file) && siblings.iter().all(|it| !matches(it) || chosen.contains(it))
        },
    )
}

fn escaped(path: &Path) -> String {
    glob::Pattern::escape(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifests::Object;
    use super::*;

    /// `files`: a path and the names of its definitions. Other files have none.
    fn found(files: &[(&str, &[&str])]) -> Crds {
        let mut manifests = Manifests::default();
        for (file, names) in files {
            if !names.is_empty() {
                manifests.crd_files.push(file.into());
            }
            for name in *names {
                let value = json!({"kind": "CustomResourceDefinition", "metadata": {"name": name}});
                manifests.crds.push(Object { file: file.into(), value });
            }
        }
        let tree = Tree { files: files.iter().map(|(file, _)| file.into()).collect(), ..Tree::default() };
        find(&manifests, &tree)
    }

    #[test]
    fn a_definition_with_a_status_is_preferred() {
        for (status, chosen) in [(json!({"status": {}}), "x/crd-with-status.yaml"), (json!({}), "x/crd.yaml")] {
            let object = |file: &str, subresources: Value| Object {
                file: file.into(),
                value: json!({"metadata": {"name": "a"}, "spec": {"versions": [{"subresources": subresources}]}}),
            };
            let manifests = Manifests {
                crds: vec![object("x/crd.yaml", Value::Null), object("x/crd-with-status.yaml", status)],
                crd_files: vec!["x/crd.yaml".into(), "x/crd-with-status.yaml".into()],
                ..Manifests::default()
            };
            let tree = Tree { files: manifests.crd_files.clone(), ..Tree::default() };
            assert_eq!(find(&manifests, &tree).globs, [chosen]);
        }
    }

    #[test]
    fn each_definition_is_matched_once() {
        for (files, globs, notes) in [
            (
                vec![("config/crd/bases/a.yaml", &["a"][..]), ("config/crd/bases/b.yaml", &["b"])],
                vec!["config/crd/bases/*.yaml"],
                0,
            ),
            (vec![("config/crd/bases/a.yaml", &["a"])], vec!["config/crd/bases/*.yaml"], 0),
            (
                vec![("config/crd/bases/a.yaml", &["a"]), ("charts/x/crds/a.yaml", &["a"])],
                vec!["config/crd/bases/*.yaml"],
                1,
            ),
            (vec![("yaml/crd.yaml", &["a"]), ("yaml/deployment.yaml", &[])], vec!["yaml/crd.yaml"], 0),
            (vec![("examples/crd-status.yaml", &["a"]), ("examples/crd.yaml", &["a"])], vec!["examples/crd.yaml"], 1),
            (vec![("a/[x]/crd.yaml", &["a"]), ("a/[x]/b.yaml", &[])], vec!["a/[[]x[]]/crd.yaml"], 0),
            (vec![("crd.yaml", &["a"])], vec!["crd.yaml"], 0),
            (
                vec![("crds/g_a.yaml", &["a"]), ("crds/g_b.yaml", &["b"]), ("crds/kustomization.yaml", &[])],
                vec!["crds/*_*.yaml"],
                0,
            ),
            (
                vec![
                    ("crds/bundle.yaml", &["a", "b"]),
                    ("config/crd/bases/a.yaml", &["a"]),
                    ("config/crd/bases/b.yaml", &["b"]),
                ],
                vec!["config/crd/bases/*.yaml"],
                1,
            ),
            (vec![], vec![], 0),
        ] {
            let crds = found(&files);
            assert_eq!(
                (crds.globs, crds.notes.len()),
                (globs.into_iter().map(str::to_owned).collect(), notes),
                "{files:?}"
            );
        }
    }
}
