//! The files of a project that may say something about it. Reads no directory that is generated or of others, follows
//! no symbolic link, and stops at a number of files.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories of dependencies and of build results.
const SKIPPED: [&str; 7] = ["vendor", "target", "node_modules", "third_party", "thirdparty", "external", "bin"];

/// Parts of paths of files that are no part of the operator's own installation: tests, examples, generated bundles.
const ASIDE: [&str; 23] = [
    "test",
    "tests",
    "testdata",
    "testing",
    "e2e",
    "examples",
    "example",
    "samples",
    "sample",
    "docs",
    "doc",
    "hack",
    "contrib",
    "bundle",
    "bundles",
    "dist",
    "integration",
    "tools",
    "benchmark",
    "scripts",
    "patches",
    "release",
    "releases",
];

/// Files that are looked at. More than any operator has.
const MAX_FILES: usize = 20_000;

/// Deeper directories are not searched.
const MAX_DEPTH: usize = 12;

/// Larger files are skipped. The largest CustomResourceDefinitions have 2 MiB.
const MAX_BYTES: u64 = 8 << 20;

/// The files of a project.
#[derive(Debug, Default)]
pub struct Tree {
    pub root: PathBuf,
    /// Relative to `root`, the files of a directory before those of its subdirectories, in alphabetical order.
    pub files: Vec<PathBuf>,
    /// Why some files were not read.
    pub skipped: Vec<String>,
}

impl Tree {
    /// Lists the files below `root`.
    pub fn list(root: &Path) -> Tree {
        let mut tree = Tree { root: root.to_owned(), ..Tree::default() };
        let mut queue = VecDeque::from([(PathBuf::new(), 0)]);
        while let Some((dir, depth)) = queue.pop_front() {
            let entries = match fs::read_dir(root.join(&dir)) {
                Ok(entries) => entries,
                Err(error) => {
                    tree.skipped.push(format!("`{}`: {error}", shown(&dir)));
                    continue;
                }
            };
            let mut entries: Vec<_> = entries.flatten().collect();
            entries.sort_by_key(|entry| entry.file_name());
            for entry in entries {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let path = dir.join(name);
                // Of the link itself, so that no loop is followed.
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_file() {
                    tree.files.push(path);
                } else if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name) {
                    if depth < MAX_DEPTH {
                        queue.push_back((path, depth + 1));
                    } else {
                        tree.skipped.push(format!("`{}` is nested too deeply", shown(&path)));
                    }
                }
            }
            if tree.files.len() > MAX_FILES {
                tree.skipped.push(format!("files after the first {MAX_FILES}"));
                break;
            }
        }
        tree
    }

    /// The text of a file; `None` if it is large, binary or cannot be read.
    pub fn read(&self, file: &Path) -> Option<String> {
        let path = self.root.join(file);
        if fs::metadata(&path).ok()?.len() > MAX_BYTES {
            return None;
        }
        fs::read_to_string(path).ok()
    }

    /// The files with one of these endings.
    pub fn ending(&self, endings: &[&str]) -> impl Iterator<Item = &Path> {
        let has = |file: &&PathBuf| file.extension().and_then(|it| it.to_str()).is_some_and(|it| endings.contains(&it));
        self.files.iter().filter(has).map(PathBuf::as_path)
    }
}

/// Whether a file belongs to tests, examples or generated bundles.
pub fn is_aside(file: &Path) -> bool {
    let mut parts = file.parent().into_iter().flat_map(Path::iter);
    parts.any(|part| part.to_str().is_some_and(|part| ASIDE.contains(&part)))
}

/// A path with `/`, `.` if empty.
pub fn shown(path: &Path) -> String {
    if path == Path::new("") { ".".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_directories_and_links_are_not_searched() {
        let dir = tempfile::tempdir().expect("a directory");
        for file in ["a.yaml", "b/c.yaml", "vendor/d.yaml", ".git/e.yaml", "target/f.yaml", "b/.hidden/g.yaml"] {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().expect("has one")).expect("makes it");
            fs::write(file, "x").expect("writes");
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop")).expect("links");
        let tree = Tree::list(dir.path());
        assert_eq!(tree.files, [Path::new("a.yaml"), Path::new("b/c.yaml")]);
        assert_eq!(tree.read(Path::new("a.yaml")).as_deref(), Some("x"));
        fs::write(dir.path().join("a.yaml"), b"\xff\xfe").expect("writes");
        assert_eq!(tree.read(Path::new("a.yaml")), None);
    }

    #[test]
    fn tests_examples_and_bundles_are_aside() {
        for (file, aside) in [
            ("config/rbac/role.yaml", false),
            ("config/samples/x.yaml", true),
            ("dist/chart/templates/x.yaml", true),
            ("test.yaml", false),
            ("tests/x.yaml", true),
        ] {
            assert_eq!(is_aside(Path::new(file)), aside, "{file}");
        }
    }
}
