//! A new Rust project inside a cargo workspace. Cargo refuses to build it unless the workspace names it, or the project
//! is a workspace itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use toml::Table;

use crate::error::HelpExt;

const MANIFEST: &str = "Cargo.toml";

/// Makes the project its own workspace. The SDK inside it is a dependency, not a member.
const OWN_WORKSPACE: &str = "\n[workspace]\nexclude = [\".wasmop\"]\n";

/// The directory of the enclosing workspace that neither has `dir` as a member nor excludes it.
pub fn around(dir: &Path) -> Result<Option<PathBuf>> {
    let dir = std::path::absolute(dir).or_help(format!("cannot find `{}`", dir.display()), "name a directory")?;
    for root in dir.ancestors().skip(1) {
        // Cargo reports manifests that it cannot read or parse.
        let Ok(text) = fs::read_to_string(root.join(MANIFEST)) else { continue };
        let Ok(manifest) = text.parse::<Table>() else { continue };
        let Some(workspace) = manifest.get("workspace").and_then(toml::Value::as_table) else { continue };
        let inside = dir.strip_prefix(root).unwrap_or(&dir);
        return Ok((!is_member(workspace, inside) && !is_excluded(workspace, inside)).then(|| root.to_owned()));
    }
    Ok(None)
}

/// Adds a `[workspace]` to the project's `Cargo.toml`.
pub fn stand_alone(files: &mut [(PathBuf, Vec<u8>)]) {
    for (_, text) in files.iter_mut().filter(|(path, _)| path == Path::new(MANIFEST)) {
        text.extend_from_slice(OWN_WORKSPACE.as_bytes());
    }
}

fn is_member(workspace: &Table, dir: &Path) -> bool {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    strings(workspace, "members").any(|member| {
        let pattern = glob::Pattern::new(member.trim_start_matches("./").trim_end_matches('/'));
        pattern.is_ok_and(|pattern| pattern.matches_path_with(dir, options))
    })
}

fn is_excluded(workspace: &Table, dir: &Path) -> bool {
    strings(workspace, "exclude").any(|excluded| dir.starts_with(excluded.trim_start_matches("./")))
}

fn strings<'a>(workspace: &'a Table, key: &str) -> impl Iterator<Item = &'a str> {
    workspace.get(key).and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_needs_its_own_workspace_only_where_cargo_would_refuse_it() {
        for (manifest, dir, found) in [
            ("[workspace]", "web", true),
            ("[workspace]\nmembers = [\"crates/*\"]", "web", true),
            ("[workspace]\nmembers = [\"crates/*\"]", "crates/web", false),
            ("[workspace]\nmembers = [\"crates/*\"]", "crates/deep/web", true),
            ("[workspace]\nmembers = [\"./web/\"]", "web", false),
            ("[workspace]\nexclude = [\"tools\"]", "tools/web", false),
            ("[package]\nname = \"x\"", "web", false),
            ("not TOML [", "web", false),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            fs::write(root.path().join(MANIFEST), manifest).expect("written");
            let around = around(&root.path().join(dir)).expect("looked for");
            assert_eq!(around, found.then(|| root.path().to_owned()), "{manifest}: {dir}");
        }
    }

    #[test]
    fn only_the_projects_own_manifest_gets_a_workspace() {
        let mut files = [(PathBuf::from(MANIFEST), b"[package]\n".to_vec()), (PathBuf::from("sdk/Cargo.toml"), vec![])];
        stand_alone(&mut files);
        assert!(String::from_utf8_lossy(&files[0].1).parse::<Table>().expect("TOML").contains_key("workspace"));
        assert!(files[1].1.is_empty());
    }
}
