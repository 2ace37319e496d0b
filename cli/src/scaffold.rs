//! Creates a project from a template: fills in placeholders, copies the SDK, and overwrites nothing.
//!
//! A template is `templates/<name>/`: `template.toml` describes it, and `content/` is the project. In files that end in
//! `.tmpl`, placeholders are filled in and the ending is dropped. All other files are copied unchanged.

pub mod cargo_workspace;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use wasmop_package::manifest::{Language, Toolchain};

use crate::error::{HelpExt, failure};
use crate::interrupt::Cleanup;
use crate::project::{language_name, toolchain_name};

/// The templates and SDKs at the time of this program's build.
pub(crate) mod embedded {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// An embedded file.
pub struct File {
    /// Its path, with `/` between directories.
    pub path: &'static str,
    pub bytes: &'static [u8],
}

/// The directory of a project's copy of the SDK, which is meant to be committed.
pub const SDK_DIR: &str = ".wasmop/sdk";

/// The suffix of files with placeholders.
const TEMPLATE_ENDING: &str = ".tmpl";

/// A template's `template.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    #[serde(skip)]
    name: &'static str,
    pub description: String,
    pub language: Language,
}

/// The values for a template's placeholders.
#[derive(Clone, Debug)]
pub struct NewProject {
    /// A DNS label.
    pub name: String,
    pub toolchain: Toolchain,
}

impl Template {
    /// The template of a language.
    pub fn for_language(language: Language) -> Result<Template> {
        for file in embedded::TEMPLATES {
            let Some(name) = file.path.strip_suffix("/template.toml") else { continue };
            let text = std::str::from_utf8(file.bytes).with_context(|| format!("template {name}"))?;
            let mut template: Template = toml::from_str(text).with_context(|| format!("template {name}"))?;
            if template.language == language {
                template.name = name;
                return Ok(template);
            }
        }
        anyhow::bail!("this program was built without a template for {language:?}")
    }

    /// The project's files: their paths, relative to its directory, and their contents.
    pub fn files(&self, project: &NewProject) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let prefix = format!("{}/content/", self.name);
        let mut files = Vec::new();
        for file in embedded::TEMPLATES {
            let Some(path) = file.path.strip_prefix(&prefix) else { continue };
            files.push(match path.strip_suffix(TEMPLATE_ENDING) {
                Some(path) => {
                    let text =
                        std::str::from_utf8(file.bytes).with_context(|| format!("template file {}", file.path))?;
                    (PathBuf::from(path), fill_in(text, project).into_bytes())
                }
                None => (PathBuf::from(path), file.bytes.to_vec()),
            });
        }
        let (sdk, sdk_files) = match self.language {
            Language::Rust => ("rust", embedded::SDK_RUST),
            Language::Go => ("go", embedded::SDK_GO),
            other => bail!("there is no SDK for {}", language_name(other)),
        };
        for file in sdk_files {
            files.push((Path::new(SDK_DIR).join(sdk).join(file.path), file.bytes.to_vec()));
        }
        Ok(files)
    }
}

/// Replaces every placeholder.
fn fill_in(text: &str, project: &NewProject) -> String {
    text.replace("{{name}}", &project.name)
        .replace("{{crate}}", &project.name.replace('-', "_"))
        .replace("{{toolchain}}", toolchain_name(project.toolchain))
}

/// Refuses a directory that is not empty, and a path that cannot be a directory.
pub fn check_target(dir: &Path) -> Result<()> {
    let help = "nothing is overwritten; choose another name, or another directory with `--path DIR`";
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(failure(format!("the directory `{}` is not empty", dir.display()), help).into()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(failure(format!("`{}` is a file, or below a file", dir.display()), help).into())
        }
        Err(error) => Err(error).or_help(format!("cannot read the directory `{}`", dir.display()), help),
    }
}

/// Writes the files to `dir`, all or none of them.
pub fn write(dir: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    check_target(dir)?;
    let help = "choose a directory that you can write to, with `--path DIR`";
    let cannot = || format!("cannot write the project to `{}`", dir.display());
    let dir = std::path::absolute(dir).or_help(cannot(), help)?;
    let parent = dir.parent().unwrap_or(&dir);
    fs::create_dir_all(parent).or_help(cannot(), help)?;

    // Everything is first written beside the target, so that an interrupted run leaves nothing.
    let staging = tempfile::Builder::new()
        .prefix(".wasmop-new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(parent)
        .or_help(cannot(), help)?;
    let cleanup = {
        let staging = staging.path().to_owned();
        Cleanup::new(move || {
            let _ = fs::remove_dir_all(&staging);
        })
    };
    for (path, bytes) in files {
        let file = staging.path().join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).or_help(cannot(), help)?;
        }
        fs::write(&file, bytes).or_help(cannot(), help)?;
    }
    // The target may be the current directory, which must not be replaced. So the entries move, one by one.
    fs::create_dir_all(&dir).or_help(cannot(), help)?;
    for entry in fs::read_dir(staging.path()).or_help(cannot(), help)? {
        let entry = entry.or_help(cannot(), help)?;
        fs::rename(entry.path(), dir.join(entry.file_name())).or_help(cannot(), help)?;
    }
    drop(cleanup);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(toolchain: Toolchain) -> NewProject {
        NewProject { name: "my-site".to_owned(), toolchain }
    }

    #[test]
    fn every_template_fills_in_all_placeholders() {
        for (language, toolchain) in
            [(Language::Rust, Toolchain::Cargo), (Language::Go, Toolchain::Go), (Language::Go, Toolchain::Tinygo)]
        {
            let template = Template::for_language(language).expect("is embedded");
            let files = template.files(&project(toolchain)).expect("valid");
            let wasmop = files.iter().find(|(path, _)| path == Path::new("wasmop.toml")).expect("has a wasmop.toml");
            let text = String::from_utf8(wasmop.1.clone()).expect("text");
            assert!(text.contains("\"my-site\""), "{text}");
            for (path, bytes) in &files {
                assert!(path.extension().is_none_or(|ending| ending != "tmpl"), "{}", path.display());
                if !path.starts_with(SDK_DIR) {
                    let text = String::from_utf8_lossy(bytes);
                    assert!(!text.contains("{{name}}") && !text.contains("{{crate}}"), "{}", path.display());
                }
            }
            assert!(files.iter().any(|(path, _)| path.starts_with(SDK_DIR)), "has a copy of the SDK");
        }
    }

    #[test]
    fn placeholders_are_name_crate_and_toolchain() {
        let text = fill_in("{{name}} {{crate}} {{toolchain}} {{other}}", &project(Toolchain::Tinygo));
        assert_eq!(text, "my-site my_site tinygo {{other}}");
    }

    #[test]
    fn a_directory_that_is_not_empty_is_refused_and_unchanged() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = dir.path().join("kept");
        fs::write(&kept, "mine").expect("writes");
        let files = [(PathBuf::from("kept"), b"theirs".to_vec())];
        let error = write(dir.path(), &files).expect_err("refused").to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert_eq!(fs::read(&kept).expect("is there"), b"mine");
    }

    #[test]
    fn files_are_written_to_a_new_or_empty_directory_without_leftovers() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = [(PathBuf::from("a/b"), b"1".to_vec()), (PathBuf::from(".c"), b"2".to_vec())];
        for target in ["new/deep", "empty"] {
            if target == "empty" {
                fs::create_dir(dir.path().join(target)).expect("makes it");
            }
            let target = dir.path().join(target);
            write(&target, &files).expect("writes");
            assert_eq!(fs::read(target.join("a/b")).expect("is there"), b"1");
            assert_eq!(fs::read(target.join(".c")).expect("is there"), b"2");
            let beside = fs::read_dir(target.parent().expect("has one")).expect("reads");
            assert!(beside.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with(".wasmop-new")));
        }
    }
}
