//! The go command in a project. It switches off an enclosing `go.work` that does not use the project's module, because
//! go would then only know the modules of the workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{how_to_get_go, output_of};
use crate::error::HelpExt;

/// The go command, in a project's directory.
#[derive(Debug)]
pub struct GoCommand<'a> {
    dir: &'a Path,
    /// The `go.work` that does not use the project's module.
    foreign: Option<PathBuf>,
}

impl<'a> GoCommand<'a> {
    /// Looks for a workspace around `dir`.
    pub fn find(dir: &'a Path) -> Result<GoCommand<'a>> {
        let file = output_of(Command::new("go").current_dir(dir).args(["env", "GOWORK"]))
            .or_help("cannot run `go`", how_to_get_go())?;
        let file = Path::new(file.trim());
        // Without a workspace it is empty or `off`.
        if !file.is_absolute() {
            return Ok(GoCommand { dir, foreign: None });
        }
        let mut edit = Command::new("go");
        edit.current_dir(dir).args(["work", "edit", "-json"]).arg(file);
        let text = output_of(&mut edit).or_help(
            format!("cannot read the Go workspace `{}`", file.display()),
            "correct it, or build with GOWORK=off in the environment",
        )?;
        let workspace = Workspace::parse(&text)?;
        let is_foreign = module_root(dir).is_some_and(|root| !workspace.uses(file, &root));
        Ok(GoCommand { dir, foreign: is_foreign.then(|| file.to_owned()) })
    }

    /// `go` without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("go");
        self.prepare(&mut command);
        command
    }

    /// Sets the directory and the environment for `go`, or for a program that runs it.
    pub fn prepare(&self, command: &mut Command) {
        command.current_dir(self.dir);
        if self.foreign.is_some() {
            command.env("GOWORK", "off");
        }
    }

    /// The message about a workspace that is switched off.
    pub fn notice(&self) -> Option<String> {
        let file = self.foreign.as_ref()?;
        Some(format!(
            "The Go workspace {} does not use this project's module: building with GOWORK=off.\n\
             `go work use {}` adds it.",
            file.display(),
            module_root(self.dir).as_deref().unwrap_or(self.dir).display()
        ))
    }
}

/// The output of `go work edit -json`.
#[derive(Debug, Deserialize)]
struct Workspace {
    /// Null if empty.
    #[serde(rename = "Use", default)]
    uses: Option<Vec<Use>>,
}

#[derive(Debug, Deserialize)]
struct Use {
    /// Relative to the file.
    #[serde(rename = "DiskPath")]
    path: PathBuf,
}

impl Workspace {
    fn parse(json: &str) -> Result<Workspace> {
        serde_json::from_str(json).context("unexpected output of `go work edit -json`")
    }

    /// Whether the workspace in `file` uses the module in `root`.
    fn uses(&self, file: &Path, root: &Path) -> bool {
        let Ok(root) = fs::canonicalize(root) else { return false };
        let dir = file.parent().unwrap_or(file);
        self.uses.iter().flatten().any(|used| fs::canonicalize(dir.join(&used.path)).is_ok_and(|used| used == root))
    }
}

/// The root directory of the module of `dir`.
fn module_root(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|dir| dir.join("go.mod").is_file()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_uses_a_module_by_any_form_of_its_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("go.work");
        for dir in ["a", "deep/b"] {
            fs::create_dir_all(root.path().join(dir)).expect("made");
        }
        let absolute = format!(r#"{{"Use": [{{"DiskPath": "{}"}}]}}"#, root.path().join("a").display());
        for (json, used) in [
            (r#"{"Go": "1.26"}"#, &[][..]),
            (r#"{"Use": null}"#, &[]),
            (r#"{"Use": [{"DiskPath": "./a"}]}"#, &["a"]),
            (r#"{"Use": [{"DiskPath": "a/"}, {"DiskPath": "./deep/b", "ModulePath": "x"}]}"#, &["a", "deep/b"]),
            (r#"{"Use": [{"DiskPath": "./deep"}, {"DiskPath": "./gone"}]}"#, &[]),
            (&absolute, &["a"]),
        ] {
            let workspace = Workspace::parse(json).expect("JSON");
            for dir in ["a", "deep/b"] {
                assert_eq!(workspace.uses(&file, &root.path().join(dir)), used.contains(&dir), "{json}: {dir}");
            }
        }
    }

    #[test]
    fn the_module_of_a_directory_is_the_nearest_above() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("web/cmd");
        fs::create_dir_all(&dir).expect("made");
        fs::write(root.path().join("web/go.mod"), "module web\n").expect("written");
        assert_eq!(module_root(&dir), Some(root.path().join("web")));
    }
}
