//! The module path and the main packages of a Go project.

use std::path::{Path, PathBuf};

use super::tree::{Tree, is_aside};

/// A Go module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoModule {
    /// `github.com/example/site`
    pub path: String,
    /// Directories of main packages, relative to the module's; empty for the same.
    pub mains: Vec<PathBuf>,
}

/// Reads the module in the root of `tree`. `None` without a `go.mod`.
pub fn read(tree: &Tree) -> Option<GoModule> {
    let path = module_path(&tree.read(Path::new("go.mod"))?)?;
    let nested: Vec<&Path> = tree
        .files
        .iter()
        .filter(|file| file.file_name().is_some_and(|name| name == "go.mod"))
        .filter_map(|file| file.parent())
        .filter(|dir| *dir != Path::new(""))
        .collect();
    let mut mains: Vec<PathBuf> = Vec::new();
    for file in tree.ending(&["go"]) {
        let dir = file.parent().unwrap_or(Path::new(""));
        let is_test = file.to_string_lossy().ends_with("_test.go");
        let is_other = is_aside(file) || nested.iter().any(|nested| dir.starts_with(nested));
        if is_test || is_other || mains.iter().any(|it| it == dir) {
            continue;
        }
        if tree.read(file).is_some_and(|text| is_main(&text)) {
            mains.push(dir.to_owned());
        }
    }
    Some(GoModule { path, mains })
}

fn module_path(go_mod: &str) -> Option<String> {
    let line = go_mod.lines().find_map(|line| line.trim().strip_prefix("module "))?;
    let path = line.split("//").next().unwrap_or_default().trim().trim_matches(['"', '`']);
    (!path.is_empty()).then(|| path.to_owned())
}

/// Whether a file has the `main` function of a program.
fn is_main(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end);
    // Files that the build leaves out, such as generators.
    let ignored =
        text.lines().take(50).any(|line| line.starts_with("//go:build ignore") || line.starts_with("// +build ignore"));
    !ignored
        && lines.clone().any(|line| line.split("//").next().unwrap_or_default().trim() == "package main")
        && lines.any(|line| line.starts_with("func main()"))
}

impl GoModule {
    /// The last part of the path that is no version: `site` of `github.com/example/site/v2`.
    pub fn name(&self) -> &str {
        let is_version = |part: &str| part.strip_prefix('v').is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()));
        self.path.rsplit('/').find(|part| !is_version(part)).unwrap_or(&self.path)
    }

    /// The main packages that may be the controller. `./cmd` and `.` are where kubebuilder puts it; otherwise names
    /// like `controller` decide.
    pub fn candidates(&self) -> Vec<&Path> {
        let all: Vec<&Path> = self.mains.iter().map(PathBuf::as_path).collect();
        for usual in ["cmd", ""] {
            if let Some(main) = all.iter().find(|main| **main == Path::new(usual)) {
                return vec![main];
            }
        }
        let words = ["controller", "operator", "manager"];
        let name = |main: &Path| main.file_name().map(|it| it.to_string_lossy().to_lowercase()).unwrap_or_default();
        let named: Vec<&Path> =
            all.iter().copied().filter(|main| words.iter().any(|word| name(main).contains(word))).collect();
        if named.is_empty() { all } else { named }
    }
}

/// A package's directory as `package` in the project file: `./cmd`.
pub fn package_argument(dir: &Path) -> String {
    if dir == Path::new("") { ".".to_owned() } else { format!("./{}", dir.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "package main\n\nfunc main() {\n}\n";

    fn module(files: &[(&str, &str)]) -> GoModule {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().expect("has one")).expect("makes it");
            std::fs::write(file, text).expect("writes");
        }
        std::fs::write(dir.path().join("go.mod"), "// comment\nmodule example.com/site/v2 // here\n\ngo 1.26\n")
            .expect("writes");
        read(&Tree::list(dir.path())).expect("has a go.mod")
    }

    #[test]
    fn main_packages_are_those_that_a_build_finds() {
        let module = module(&[
            ("cmd/site/main.go", MAIN),
            ("cmd/site/more.go", MAIN),
            ("pkg/lib.go", "package pkg\n"),
            ("pkg/x_test.go", MAIN),
            ("gen/main.go", "//go:build ignore\n\npackage main\nfunc main() {}\n"),
            ("hack/main.go", MAIN),
            ("tools/go.mod", "module example.com/tools\n"),
            ("sub/go.mod", "module example.com/sub\n"),
            ("sub/main.go", MAIN),
            ("plugin/main.go", "package main\n"),
        ]);
        assert_eq!((module.name(), &module.mains[..]), ("site", &[PathBuf::from("cmd/site")][..]));
    }

    #[test]
    fn the_usual_places_and_names_are_preferred() {
        for (mains, expected) in [
            (vec!["cmd"], vec!["cmd"]),
            (vec!["", "cmd/tool"], vec![""]),
            (vec!["", "cmd"], vec!["cmd"]),
            (vec!["cmd/controller", "cmd/seal"], vec!["cmd/controller"]),
            (vec!["cmd/a-operator", "cmd/b-operator", "cmd/c"], vec!["cmd/a-operator", "cmd/b-operator"]),
            (vec!["cmd/a", "cmd/b"], vec!["cmd/a", "cmd/b"]),
            (vec![], vec![]),
        ] {
            let module = GoModule { path: "x".into(), mains: mains.iter().map(PathBuf::from).collect() };
            let expected: Vec<&Path> = expected.into_iter().map(Path::new).collect();
            assert_eq!(module.candidates(), expected, "{mains:?}");
        }
    }
}
