//! Crates, their binaries and their versions, from the `Cargo.toml` files of a project. Runs no cargo, so that it works
//! before anything is installed.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// A crate of the project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crate {
    /// Its directory, relative to the project's; empty for the same.
    pub dir: PathBuf,
    pub name: String,
    pub version: Option<String>,
    pub bins: Vec<Bin>,
    pub default_run: Option<String>,
    /// It depends on the `kube` crate, or on ours.
    pub is_controller: bool,
}

/// A binary, or an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    pub name: String,
    pub required_features: Vec<String>,
    pub is_example: bool,
}

/// Where the manifest and the directory of a crate have programs of one kind.
struct Programs {
    section: &'static str,
    /// The key that turns off the search for files.
    automatic: &'static str,
    dir: &'static str,
}

const BINARIES: Programs = Programs { section: "bin", automatic: "autobins", dir: "src/bin" };

const EXAMPLES: Programs = Programs { section: "example", automatic: "autoexamples", dir: "examples" };

/// Crates whose users are controllers.
const CLIENTS: [&str; 4] = ["kube", "kube-client", "kube-runtime", "wasmop"];

/// The crates in `dir`: its own, and the members of its workspace. `None` without a readable `Cargo.toml`.
pub fn crates(dir: &Path) -> Option<Vec<Crate>> {
    let root = manifest(dir)?;
    let workspace = root.get("workspace").and_then(Value::as_table);
    let mut crates = Vec::new();
    crates.extend(read(dir, Path::new(""), &root, workspace));
    for member in members(dir, workspace) {
        if let Some(table) = manifest(&dir.join(&member)) {
            crates.extend(read(dir, &member, &table, workspace));
        }
    }
    Some(crates)
}

/// The workspace around a crate: the nearest directory above with a `[workspace]`.
pub fn workspace_above(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    absolute
        .ancestors()
        .skip(1)
        .find(|dir| manifest(dir).is_some_and(|it| it.contains_key("workspace")))
        .map(Path::to_owned)
}

fn manifest(dir: &Path) -> Option<Table> {
    std::fs::read_to_string(dir.join("Cargo.toml")).ok()?.parse().ok()
}

/// The directories of a workspace's members, from its globs.
fn members(dir: &Path, workspace: Option<&Table>) -> Vec<PathBuf> {
    let list = |key: &str| {
        let items = workspace.and_then(|it| it.get(key)).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let excluded = list("exclude");
    // Globs would not keep a `.` at the start.
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let mut members = Vec::new();
    for pattern in list("members") {
        let full = Path::new(&glob::Pattern::escape(&dir.to_string_lossy())).join(&pattern);
        for path in glob::glob(&full.to_string_lossy()).into_iter().flatten().flatten() {
            let Ok(member) = path.strip_prefix(&dir) else { continue };
            let is_new = !member.as_os_str().is_empty() && !members.contains(&member.to_owned());
            if is_new && !excluded.iter().any(|it| member.starts_with(it)) {
                members.push(member.to_owned());
            }
        }
    }
    members
}

fn read(root: &Path, dir: &Path, manifest: &Table, workspace: Option<&Table>) -> Option<Crate> {
    let package = manifest.get("package")?.as_table()?;
    let name = package.get("name")?.as_str()?.to_owned();
    let inherited = || workspace?.get("package")?.get("version")?.as_str();
    let version = match package.get("version") {
        Some(Value::String(version)) => Some(version.as_str()),
        Some(_) => inherited(),
        None => None,
    };
    let has_dependency = |table: &Table| CLIENTS.iter().any(|name| table.contains_key(*name));
    // Examples may use those for development.
    let dependencies = ["dependencies", "dev-dependencies"].map(|key| manifest.get(key).and_then(Value::as_table));
    let root = root.join(dir);
    let mut bins = programs(&root, manifest, package, Some(&name), &BINARIES);
    bins.extend(programs(&root, manifest, package, None, &EXAMPLES));
    Some(Crate {
        dir: dir.to_owned(),
        version: version.map(str::to_owned),
        bins,
        default_run: package.get("default-run").and_then(Value::as_str).map(str::to_owned),
        is_controller: dependencies.into_iter().flatten().any(has_dependency),
        name,
    })
}

/// The sections of the manifest, and the files that cargo finds by itself. `main` is the name of `src/main.rs`.
fn programs(dir: &Path, manifest: &Table, package: &Table, main: Option<&str>, kind: &Programs) -> Vec<Bin> {
    let is_example = main.is_none();
    let mut bins: Vec<Bin> = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for section in manifest.get(kind.section).and_then(Value::as_array).into_iter().flatten() {
        let Some(bin) = section.get("name").and_then(Value::as_str) else { continue };
        let features = section.get("required-features").and_then(Value::as_array).into_iter().flatten();
        let required_features = features.filter_map(Value::as_str).map(str::to_owned).collect();
        paths.extend(section.get("path").and_then(Value::as_str).map(PathBuf::from));
        bins.push(Bin { name: bin.to_owned(), required_features, is_example });
    }
    if package.get(kind.automatic).and_then(Value::as_bool) == Some(false) {
        return bins;
    }
    let mut add = |bin: &str, path: &Path| {
        if !bins.iter().any(|it| it.name == bin) && !paths.iter().any(|it| it == path) {
            bins.push(Bin { name: bin.to_owned(), required_features: Vec::new(), is_example });
        }
    };
    if let Some(name) = main
        && dir.join("src/main.rs").is_file()
    {
        add(name, Path::new("src/main.rs"));
    }
    let entries = std::fs::read_dir(dir.join(kind.dir)).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| Path::new(kind.dir).join(entry.file_name())).collect();
    found.sort();
    for path in found {
        let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|it| it == "rs") {
            add(stem, &path);
        } else if dir.join(&path).join("main.rs").is_file() {
            add(stem, &path.join("main.rs"));
        }
    }
    bins
}

/// Whether a binary prints CustomResourceDefinitions, by its name.
pub fn is_crd_generator(bin: &str) -> bool {
    has_part(bin, &["crd", "crds", "crdgen", "gencrd", "gencrds"])
}

/// Whether a binary is made for the build, and no controller.
pub fn is_helper(bin: &str) -> bool {
    is_crd_generator(bin) || has_part(bin, &["xtask", "gen", "codegen", "openapi", "schema", "docs", "bench"])
}

/// Whether one of the parts between dashes is one of these.
fn has_part(name: &str, parts: &[&str]) -> bool {
    name.to_lowercase().split(['-', '_']).any(|part| parts.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let file = dir.join(file);
            std::fs::create_dir_all(file.parent().expect("has one")).expect("makes it");
            std::fs::write(file, text).expect("writes");
        }
    }

    fn names(found: &Crate) -> Vec<&str> {
        found.bins.iter().map(|bin| bin.name.as_str()).collect()
    }

    #[test]
    fn binaries_are_those_that_cargo_finds() {
        let package = "[package]\nname = \"web\"\nversion = \"1.2.3\"\n";
        let bin = "[[bin]]\nname = \"a\"\npath = \"src/main.rs\"\nrequired-features = [\"f\"]\n";
        for (manifest, expected) in [
            (package.to_owned(), vec!["web", "one", "two"]),
            (format!("{package}{bin}"), vec!["a", "one", "two"]),
            (format!("{package}autobins = false\n{bin}"), vec!["a"]),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let files = ["src/main.rs", "src/bin/one.rs", "src/bin/two/main.rs", "src/bin/no/lib.rs"];
            write(dir.path(), &files.map(|file| (file, "")));
            write(dir.path(), &[("Cargo.toml", &manifest)]);
            let found = crates(dir.path()).expect("has a manifest");
            assert_eq!(names(&found[0]), expected, "{manifest}");
            assert_eq!(found[0].version.as_deref(), Some("1.2.3"));
        }
    }

    #[test]
    fn members_of_a_workspace_inherit_its_version() {
        let dir = tempfile::tempdir().expect("a directory");
        write(
            dir.path(),
            &[
                (
                    "Cargo.toml",
                    "workspace = { members = [\"crates/*\"], exclude = [\"crates/c\"], package = { version = \"2.0.0\" } }\n",
                ),
                (
                    "crates/a/Cargo.toml",
                    "[package]\nname = \"a\"\nversion.workspace = true\n[dependencies]\nkube.workspace = true\n",
                ),
                ("crates/a/src/main.rs", ""),
                ("crates/b/Cargo.toml", "[package]\nname = \"b\"\n"),
                ("crates/c/Cargo.toml", "[package]\nname = \"c\"\n"),
                ("crates/d/README.md", ""),
                ("crates/e/Cargo.toml", "broken"),
            ],
        );
        let found = crates(dir.path()).expect("has a manifest");
        assert_eq!(found.len(), 2);
        let a = &found[0];
        assert_eq!((a.name.as_str(), a.version.as_deref(), a.is_controller), ("a", Some("2.0.0"), true));
        assert_eq!((a.dir.as_path(), names(a)), (Path::new("crates/a"), vec!["a"]));
        assert_eq!((found[1].version.as_deref(), found[1].is_controller), (None, false));
        let absolute = std::path::absolute(dir.path()).expect("absolute");
        assert_eq!(workspace_above(&dir.path().join("crates/a")), Some(absolute));
    }

    #[test]
    fn generators_are_known_by_their_names() {
        for (name, generates, helps) in [
            ("crdgen", true, true),
            ("crd-gen", true, true),
            ("gen_crds", true, true),
            ("my-operator-crd", true, true),
            ("export-openapi", false, true),
            ("controller", false, false),
            ("generic-operator", false, false),
            ("crdb-operator", false, false),
        ] {
            assert_eq!((is_crd_generator(name), is_helper(name)), (generates, helps), "{name}");
        }
    }
}
