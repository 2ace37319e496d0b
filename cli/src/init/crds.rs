//! The `crds` globs: each CustomResourceDefinition of a project once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::manifests::Manifests;
use super::tree::{Tree, is_aside};

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

/// Chooses the files. Files aside, like examples, count only if there are no others.
pub fn find(manifests: &Manifests, tree: &Tree) -> Crds {
    let mut crds = Crds::default();
    let mut files: Vec<&PathBuf> = manifests.crd_files.iter().collect();
    if files.iter().any(|file| !is_aside(file)) {
        files.retain(|file| !is_aside(file));
    }
    files.sort_by_key(|file| rank(file));
    let names = |file: &Path| -> BTreeSet<&str> {
        manifests.crds.iter().filter(|crd| crd.file == file).map(|crd| crd.name()).collect()
    };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut chosen: Vec<&PathBuf> = Vec::new();
    for file in files {
        let new = names(file);
        if new.iter().any(|name| known.contains(name)) {
            crds.notes.push(format!("{} defines the same.", file.display()));
            continue;
        }
        known.extend(new);
        chosen.push(file);
    }
    let unread: BTreeSet<&str> =
        manifests.crds.iter().filter(|crd| !is_aside(&crd.file)).map(|crd| crd.name()).collect();
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

/// Generated files first, then the shortest path: `crd.yaml` before `crd-with-status.yaml`.
fn rank(file: &Path) -> (bool, usize, usize, PathBuf) {
    let generated = file.starts_with("config/crd/bases");
    (!generated, file.components().count(), file.as_os_str().len(), file.to_owned())
}

/// A glob for a directory if it matches no other file, else the files.
fn globs(chosen: &[&PathBuf], tree: &Tree) -> Vec<String> {
    let mut globs = Vec::new();
    for file in chosen {
        let dir = file.parent().unwrap_or(Path::new(""));
        let ending = file.extension().unwrap_or_default();
        let alike = tree.files.iter().filter(|it| it.parent() == Some(dir) && it.extension() == Some(ending));
        let alike: Vec<&PathBuf> = alike.collect();
        let is_whole = dir != Path::new("") && alike.iter().all(|it| chosen.contains(it));
        let is_for_more = alike.len() > 1 || dir.iter().any(|part| part.to_string_lossy().contains("crd"));
        let escaped = |path: &Path| glob::Pattern::escape(&path.to_string_lossy());
        let glob = if is_whole && is_for_more {
            format!("{}/*.{}", escaped(dir), ending.to_string_lossy())
        } else {
            escaped(file)
        };
        if !globs.contains(&glob) {
            globs.push(glob);
        }
    }
    globs
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
            (vec![("crds/a.yaml", &["a"]), ("tests/crds/b.yaml", &["b"])], vec!["crds/*.yaml"], 0),
            (vec![("a/[x]/crd.yaml", &["a"]), ("a/[x]/b.yaml", &[])], vec!["a/[[]x[]]/crd.yaml"], 0),
            (vec![("crd.yaml", &["a"])], vec!["crd.yaml"], 0),
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
