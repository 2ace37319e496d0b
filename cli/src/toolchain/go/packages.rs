//! The packages of a program and their modules, from `go list -deps`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// A package that the program consists of.
#[derive(Debug, Deserialize)]
pub struct Package {
    #[serde(rename = "ImportPath")]
    pub path: String,
    /// The name in its `package` lines.
    #[serde(rename = "Name", default)]
    pub name: String,
    /// The directory of its sources, in the module cache, a vendor directory, or elsewhere.
    #[serde(rename = "Dir", default)]
    pub dir: PathBuf,
    /// The names of its Go files.
    #[serde(rename = "GoFiles", default)]
    pub files: Vec<String>,
    /// The paths of the packages that it imports.
    #[serde(rename = "Imports", default)]
    pub imports: Vec<String>,
    /// `None` for the standard library.
    #[serde(rename = "Module")]
    pub module: Option<Module>,
}

/// A module, as go selected it.
#[derive(Debug, Deserialize)]
pub struct Module {
    #[serde(rename = "Path")]
    pub path: String,
    /// Empty for the main module and those of a workspace.
    #[serde(rename = "Version", default)]
    pub version: String,
    /// The directory of its sources. Empty if they are vendored.
    #[serde(rename = "Dir", default)]
    pub dir: PathBuf,
    #[serde(rename = "Replace")]
    pub replace: Option<Box<Module>>,
}

impl Module {
    /// The version of the sources that are compiled. Empty for a local directory.
    pub fn source_version(&self) -> &str {
        self.replace.as_ref().map_or(&self.version, |replace| &replace.version)
    }
}

impl Package {
    /// The package's directory in its module, with `/` between names. Empty for the module's root.
    pub fn dir_in_module(&self) -> Option<&str> {
        let module = self.module.as_ref()?;
        let rest = self.path.strip_prefix(&module.path)?;
        Some(rest.trim_start_matches('/'))
    }
}

/// The packages of a program.
#[derive(Debug)]
pub struct Packages(Vec<Package>);

impl Packages {
    /// Parses the output of `go list -deps -e -json`: JSON objects, one after the other.
    pub fn parse(json: &str) -> Result<Packages> {
        let packages = serde_json::Deserializer::from_str(json).into_iter::<Package>().collect::<Result<_, _>>();
        packages.map(Packages).context("unexpected output of `go list -deps -json`")
    }

    /// A module of the program, by its path.
    pub fn module(&self, path: &str) -> Option<&Module> {
        self.0.iter().filter_map(|package| package.module.as_ref()).find(|module| module.path == path)
    }

    /// All packages, a package after those that it imports.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.0.iter()
    }

    /// The packages of a module.
    pub fn of_module<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Package> {
        self.iter().filter(move |package| package.module.as_ref().is_some_and(|module| module.path == path))
    }

    /// The paths of the packages that the last one imports, without what only `replaced` imports.
    pub fn reachable(&self, replaced: &str) -> BTreeSet<&str> {
        let mut reachable: BTreeSet<&str> = self.0.last().map(|package| &*package.path).into_iter().collect();
        for package in self.0.iter().rev() {
            if reachable.contains(&*package.path) && package.path != replaced {
                reachable.extend(package.imports.iter().map(|import| &**import));
            }
        }
        reachable
    }

    /// The package in a directory of a module.
    pub fn in_module(&self, module: &str, dir: &str) -> Option<&Package> {
        self.0.iter().find(|package| {
            package.module.as_ref().is_some_and(|it| it.path == module) && package.dir_in_module() == Some(dir)
        })
    }
}

/// Splits a file of a module into directory and name.
pub fn split_file(file: &str) -> (&str, &str) {
    file.rsplit_once('/').unwrap_or(("", file))
}

/// Whether a file is in the module cache, where an overlay cannot replace it.
pub fn is_cached(path: &Path, cache: &Path) -> bool {
    path.starts_with(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"
{"Dir": "/go/src/fmt", "ImportPath": "fmt", "Standard": true}
{"Dir": "/mod/a@v1.2.0/x/y", "ImportPath": "example.com/a/x/y",
 "Module": {"Path": "example.com/a", "Version": "v1.2.0", "Dir": "/mod/a@v1.2.0"}}
{"Dir": "/mod/b@v2.0.0", "ImportPath": "example.com/b",
 "Module": {"Path": "example.com/b", "Version": "v1.0.0", "Dir": "/mod/b@v2.0.0",
            "Replace": {"Path": "example.com/b", "Version": "v2.0.0", "Dir": "/mod/b@v2.0.0"}}}
{"Dir": "/src/c", "ImportPath": "example.com/c", "Module": {"Path": "example.com/c", "Version": "v1.0.0",
            "Replace": {"Path": "../c", "Dir": "/src/c"}}}
{"Dir": "/src/main", "ImportPath": "example.com/main", "Module": {"Path": "example.com/main", "Main": true}}
"#;

    #[test]
    fn packages_are_found_by_module_and_directory() {
        let packages = Packages::parse(OUTPUT).expect("parsed");
        for (module, dir, found) in [
            ("example.com/a", "x/y", Some("/mod/a@v1.2.0/x/y")),
            ("example.com/a", "x", None),
            ("example.com/b", "", Some("/mod/b@v2.0.0")),
            ("fmt", "", None),
        ] {
            let package = packages.in_module(module, dir);
            assert_eq!(package.map(|it| it.dir.as_path()), found.map(Path::new), "{module} {dir}");
        }
    }

    #[test]
    fn the_version_of_a_replaced_module_is_that_of_its_sources() {
        let packages = Packages::parse(OUTPUT).expect("parsed");
        for (module, version) in [("a", "v1.2.0"), ("b", "v2.0.0"), ("c", ""), ("main", "")] {
            let module = packages.module(&format!("example.com/{module}")).expect("found");
            assert_eq!(module.source_version(), version);
        }
        assert!(packages.module("fmt").is_none());
    }

    #[test]
    fn imports_of_a_replaced_package_are_not_reachable() {
        let packages = Packages::parse(
            r#"{"ImportPath": "a"} {"ImportPath": "b", "Imports": ["a"]} {"ImportPath": "c"} {"ImportPath": "d", "Imports": ["b", "c"]}"#,
        );
        let packages = packages.expect("parsed");
        for (replaced, reachable) in [("", "abcd"), ("b", "bcd"), ("d", "d")] {
            assert_eq!(packages.reachable(replaced).into_iter().collect::<String>(), reachable);
        }
    }

    #[test]
    fn output_that_is_not_json_is_an_error() {
        assert!(Packages::parse("{\"ImportPath\": \"a\"}\nwarning").is_err());
    }

    #[test]
    fn a_file_of_a_module_has_a_directory_and_a_name() {
        assert_eq!(split_file("pkg/web/server.go"), ("pkg/web", "server.go"));
        assert_eq!(split_file("terminal.go"), ("", "terminal.go"));
    }
}
