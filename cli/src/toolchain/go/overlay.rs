//! The overlay of a build: which files of the standard library and of modules the compiler reads from elsewhere.
//!
//! ```text
//! <work>/port/overlay.json          for go build -overlay
//! <work>/port/std/…                 files of the standard library, added or edited
//! <work>/port/modules/PATH/VERSION  a link to a module in the module cache
//! <work>/port/edited/PATH/…         files of modules, added or edited
//! <work>/port/go.mod (or go.work)   the project's, with a `replace` for each link
//! ```
//!
//! Go refuses to replace files of the module cache. So a module that is there is replaced by a link to it, and the files
//! are replaced below the link. Vendored modules and local copies need no link. Nothing in the project changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::packages::{Packages, is_cached, split_file};
use super::port_rules::{self, Rule};
use super::{GoCommand, output_of};

/// Builds an overlay in a directory.
#[derive(Debug)]
pub struct Overlay {
    /// `<work>/port`.
    dir: PathBuf,
    /// The module cache.
    cache: PathBuf,
    replaced: BTreeMap<PathBuf, PathBuf>,
    /// Modules to replace by a link: `PATH@VERSION` and the link.
    links: BTreeMap<String, PathBuf>,
}

/// The overlay file, in go's format.
#[derive(Serialize)]
struct OverlayFile<'a> {
    #[serde(rename = "Replace")]
    replace: &'a BTreeMap<PathBuf, PathBuf>,
}

impl Overlay {
    pub fn new(dir: PathBuf, cache: PathBuf) -> Overlay {
        Overlay { dir, cache, replaced: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// Applies a rule on the standard library below `src`. `go` names the version of Go in errors.
    pub fn port_std(&mut self, rule: &Rule, src: &Path, go: &str) -> Result<()> {
        for added in rule.added()? {
            self.put(src.join(added.file), Path::new("std").join(added.file), added.content)?;
        }
        for edit in &rule.edits {
            let file = src.join(&edit.file);
            let text = rule.apply(edit, &self.read(&file)?, go)?;
            self.put(file, Path::new("std").join(&edit.file), text.as_bytes())?;
        }
        Ok(())
    }

    /// Adds the SDK's interface to the host to the standard library below `src`.
    pub fn add_abi(&mut self, src: &Path) -> Result<()> {
        let package = Path::new("internal/wasmop/abi");
        for added in port_rules::abi_files() {
            let file = package.join(added.file);
            self.put(src.join(&file), Path::new("std").join(&file), added.content)?;
        }
        Ok(())
    }

    /// Applies a rule on a module, in the packages that the program has.
    pub fn port_module(&mut self, rule: &Rule, path: &str, packages: &Packages) -> Result<()> {
        let Some(module) = packages.module(path) else { return Ok(()) };
        let version = module.source_version();
        if !rule.fits_module(version) {
            return Ok(());
        }
        let what = format!("{path} {version}");
        for added in rule.added()? {
            self.put_in_module(path, added.file, added.content, packages)?;
        }
        for edit in &rule.edits {
            let Some(file) = self.file_of(path, &edit.file, packages)? else { continue };
            let text = rule.apply(edit, &self.read(&file)?, what.trim_end())?;
            self.put(file, Path::new("edited").join(path).join(&edit.file), text.as_bytes())?;
        }
        Ok(())
    }

    /// Adds or replaces a file of a module, if the program has its package.
    pub fn put_in_module(&mut self, module: &str, file: &str, content: &[u8], packages: &Packages) -> Result<()> {
        match self.file_of(module, file, packages)? {
            Some(place) => self.put(place, Path::new("edited").join(module).join(file), content),
            None => Ok(()),
        }
    }

    /// The text of a file of a module, with the edits so far. `None` if the program does not have its package.
    pub fn text_in_module(&mut self, module: &str, file: &str, packages: &Packages) -> Result<Option<String>> {
        self.file_of(module, file, packages)?.map(|place| self.read(&place)).transpose()
    }

    /// Whether a file of a module was added or replaced.
    pub fn changes(&mut self, module: &str, file: &str, packages: &Packages) -> Result<bool> {
        Ok(self.file_of(module, file, packages)?.is_some_and(|place| self.replaced.contains_key(&place)))
    }

    /// Where go finds a file of a module. `None` if the program does not have its package.
    fn file_of(&mut self, module: &str, file: &str, packages: &Packages) -> Result<Option<PathBuf>> {
        let (dir, name) = split_file(file);
        let Some(package) = packages.in_module(module, dir) else { return Ok(None) };
        if !is_cached(&package.dir, &self.cache) {
            return Ok(Some(package.dir.join(name)));
        }
        let module = package.module.as_ref().context("found by its module")?;
        let replaced = format!("{}@{}", module.path, module.version);
        let link = match self.links.get(&replaced) {
            Some(link) => link.clone(),
            None => {
                // Without `@`, which `go work edit` takes for the beginning of a version.
                let link = self.dir.join("modules").join(&module.path).join(&module.version);
                make_link(&module.dir, &link)?;
                // A module that is older than Go modules has no go.mod, but the target of a `replace` needs one.
                if !module.dir.join("go.mod").exists() {
                    let text = format!("module {}\n", module.path);
                    self.put(
                        link.join("go.mod"),
                        Path::new("edited").join(&module.path).join("go.mod"),
                        text.as_bytes(),
                    )?;
                }
                self.links.insert(replaced, link.clone());
                link
            }
        };
        Ok(Some(link.join(file)))
    }

    /// The text of a file, with the edits so far.
    fn read(&self, file: &Path) -> Result<String> {
        let from = self.replaced.get(file).map_or(file, PathBuf::as_path);
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))
    }

    /// Replaces a file by one with this content, written to `to` below the directory.
    fn put(&mut self, file: PathBuf, to: PathBuf, content: &[u8]) -> Result<()> {
        let to = self.dir.join(to);
        write(&to, content)?;
        self.replaced.insert(file, to);
        Ok(())
    }

    /// Replaces the linked modules in the project's go.mod or go.work, and writes the overlay file.
    pub fn finish(mut self, go: &GoCommand<'_>) -> Result<PathBuf> {
        if !self.links.is_empty() {
            let [workspace, module] = ["GOWORK", "GOMOD"].map(|name| output_of(go.command().args(["env", name])));
            let workspace = PathBuf::from(workspace?.trim());
            let (verb, file) = match workspace.is_absolute() {
                true => ("work", workspace),
                false => ("mod", PathBuf::from(module?.trim())),
            };
            let name = format!("go.{verb}");
            let copy = self.dir.join(&name);
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            write(&copy, &text)?;
            let mut edit = go.command();
            edit.args([verb, "edit"]);
            for (module, link) in &self.links {
                edit.arg(format!("-replace={module}={}", link.display()));
            }
            output_of(edit.arg(&copy)).with_context(|| format!("cannot edit a copy of {}", file.display()))?;
            self.replaced.insert(file, copy);
        }
        let path = self.dir.join("overlay.json");
        write(&path, &serde_json::to_vec_pretty(&OverlayFile { replace: &self.replaced })?)?;
        Ok(path)
    }
}

/// Writes a file unless it has this content, so that its time is that of its last change.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, content)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes `link` point to a directory.
pub fn make_link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let make = || {
        fs::create_dir_all(link.parent().unwrap_or(link))?;
        match fs::remove_file(link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(target, link)
    };
    make().with_context(|| format!("cannot make the link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"
module = "example.com/a"
versions = ">=1.2"
why = "it is native"
[[edit]]
file = "x/a.go"
find = "native()"
replace = "wasm()"
[[edit]]
file = "x/a.go"
find = "package x"
replace = "package x // ported"
[[edit]]
file = "unused/a.go"
find = "is not looked for"
replace = ""
"#;

    /// A module at version 1.2.0 in a directory, and an overlay whose cache is `cache`.
    struct Fixture {
        root: tempfile::TempDir,
        module: PathBuf,
    }

    impl Fixture {
        fn new(text: &str) -> Fixture {
            let root = tempfile::tempdir().expect("a directory");
            let module = root.path().join("cache/example.com/a@v1.2.0");
            fs::create_dir_all(module.join("x")).expect("made");
            fs::write(module.join("x/a.go"), text).expect("written");
            Fixture { root, module }
        }

        fn port(&self, cache: &str) -> Result<Overlay> {
            let module = self.module.display();
            let packages = format!(
                r#"{{"ImportPath": "example.com/a/x", "Dir": "{module}/x",
                     "Module": {{"Path": "example.com/a", "Version": "v1.2.0", "Dir": "{module}"}}}}"#
            );
            let mut overlay = Overlay::new(self.root.path().join("port"), self.root.path().join(cache));
            let rule = Rule::parse("a-native", RULE).expect("parsed");
            overlay.port_module(&rule, "example.com/a", &Packages::parse(&packages).expect("parsed"))?;
            Ok(overlay)
        }
    }

    #[test]
    fn files_outside_the_module_cache_are_replaced_where_they_are() {
        let fixture = Fixture::new("package x\nnative()");
        let overlay = fixture.port("elsewhere").expect("ported");
        assert!(overlay.links.is_empty());
        let edited = &overlay.replaced[&fixture.module.join("x/a.go")];
        assert_eq!(fs::read_to_string(edited).expect("read"), "package x // ported\nwasm()");
        assert_eq!(fs::read_to_string(fixture.module.join("x/a.go")).expect("read"), "package x\nnative()");
    }

    #[test]
    fn files_of_the_module_cache_are_replaced_below_a_link() {
        let fixture = Fixture::new("package x\nnative()");
        // Twice: the link of an earlier build is used again.
        for _ in 0..2 {
            let overlay = fixture.port("cache").expect("ported");
            let link = &overlay.links["example.com/a@v1.2.0"];
            assert_eq!(fs::read_link(link).expect("a link"), fixture.module);
            assert!(overlay.replaced.contains_key(&link.join("x/a.go")));
            assert!(overlay.replaced.contains_key(&link.join("go.mod")), "it has no go.mod of its own");
            assert!(!overlay.replaced.keys().any(|file| file.starts_with(&fixture.module)));
        }
    }

    #[test]
    fn a_module_that_differs_is_an_error() {
        let error = Fixture::new("package x").port("cache").expect_err("an error").to_string();
        for part in ["a-native", "example.com/a v1.2.0", "x/a.go", "0 times"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
