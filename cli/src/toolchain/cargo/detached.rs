//! A program in a workspace that contains crates with port rules, as kube's own examples do. Rules are for released
//! versions, so the program gets a manifest of its own, which depends on those in place of the workspace's crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, Metadata, Package, Target};
use toml::{Table, Value};

use super::program_target::ProgramTarget;
use crate::error::failure;
use crate::toolchain::port::Port;

/// Writes a manifest for `program` of `package` to `dir`, if its workspace contains crates with rules.
pub fn detach(
    workspace: &Metadata,
    package: &Package,
    program: &ProgramTarget,
    known: &[Port],
    dir: &Path,
) -> Result<Option<PathBuf>> {
    let members = workspace.workspace_packages();
    let released = released(&members, known);
    if !package.dependencies.iter().any(|it| released.contains(it.name.as_str())) {
        return Ok(None);
    }
    let mut manifest = Table::new();
    manifest.insert("workspace".to_owned(), Table::new().into());
    let mut about = Table::new();
    about.insert("name".to_owned(), package.name.to_string().into());
    about.insert("version".to_owned(), package.version.to_string().into());
    about.insert("edition".to_owned(), package.edition.as_str().into());
    manifest.insert("package".to_owned(), about.into());
    if let Some(library) = package.targets.iter().find(|target| target.is_lib()) {
        manifest.insert("lib".to_owned(), target(library).into());
    }
    let source = program.target_in(package).context("the program is one of its package")?;
    manifest.insert("bin".to_owned(), Value::Array(vec![target(source).into()]));
    for dependency in package.dependencies.iter().filter(|it| it.kind != DependencyKind::Build) {
        let member = dependency.path.as_ref().and_then(|_| members.iter().find(|it| *it.name == dependency.name));
        let entry = match member {
            Some(member) if released.contains(dependency.name.as_str()) => {
                if member.publish.as_ref().is_some_and(Vec::is_empty) {
                    return Err(failure(
                        format!(
                            "`{}` uses `{}`, which is in its workspace and not published",
                            package.name, member.name
                        ),
                        format!(
                            "wasmop ports released versions: depend on one in place of the workspace's `{}`",
                            member.name
                        ),
                    )
                    .into());
                }
                requirement(dependency, Some(format!("={}", member.version)))
            }
            _ => requirement(dependency, None),
        };
        let key = dependency.rename.clone().unwrap_or_else(|| dependency.name.clone());
        table_of(&mut manifest, dependency).insert(key, entry.into());
    }
    let features = package.features.iter().map(|(name, of)| (name.clone(), Value::from(of.clone())));
    manifest.insert("features".to_owned(), features.collect::<Table>().into());

    let path = dir.join("Cargo.toml");
    let text = toml::to_string(&manifest).context("a manifest is TOML")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if !fs::read_to_string(&path).is_ok_and(|before| before == text) {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Some(dir.to_owned()))
}

/// The members with rules, and those that depend on them.
fn released<'a>(members: &[&'a Package], known: &[Port]) -> BTreeSet<&'a str> {
    let has_rules = |member: &&&Package| known.iter().any(|port| *member.name == port.name);
    let mut found: BTreeSet<&str> = members.iter().filter(has_rules).map(|member| member.name.as_str()).collect();
    loop {
        let depends = |member: &&&Package| {
            let normal = member.dependencies.iter().filter(|it| it.kind == DependencyKind::Normal && it.path.is_some());
            normal.into_iter().any(|it| found.contains(it.name.as_str()))
        };
        let more: Vec<&str> = members.iter().filter(depends).map(|member| member.name.as_str()).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            break;
        }
    }
    // Their own parts, which must be of the same release.
    let parts: Vec<&str> = members
        .iter()
        .filter(|member| found.contains(member.name.as_str()))
        .flat_map(|member| member.dependencies.iter().filter(|it| it.path.is_some()))
        .filter_map(|it| members.iter().find(|member| *member.name == it.name))
        .map(|member| member.name.as_str())
        .collect();
    found.extend(parts);
    found
}

fn target(target: &Target) -> Table {
    let mut table = Table::new();
    table.insert("name".to_owned(), target.name.clone().into());
    table.insert("path".to_owned(), target.src_path.to_string().into());
    table
}

/// A dependency as in a manifest. `version` takes the place of its source.
fn requirement(dependency: &Dependency, version: Option<String>) -> Table {
    let mut table = Table::new();
    let git = dependency.source.as_ref().map(ToString::to_string).and_then(|source| {
        let (url, query) =
            source.strip_prefix("git+")?.split_once('?').map(|(url, query)| (url.to_owned(), query.to_owned()))?;
        Some((url, query))
    });
    match (version, &dependency.path, git) {
        (Some(version), ..) => {
            table.insert("version".to_owned(), version.into());
        }
        (None, Some(path), _) => {
            table.insert("path".to_owned(), path.to_string().into());
        }
        (None, None, Some((url, query))) => {
            table.insert("git".to_owned(), url.into());
            if let Some((kind, name)) = query.split_once('=') {
                table.insert(kind.to_owned(), name.into());
            }
        }
        (None, None, None) => {
            table.insert("version".to_owned(), dependency.req.to_string().into());
        }
    }
    if dependency.rename.is_some() {
        table.insert("package".to_owned(), dependency.name.clone().into());
    }
    if dependency.optional {
        table.insert("optional".to_owned(), true.into());
    }
    if !dependency.uses_default_features {
        table.insert("default-features".to_owned(), false.into());
    }
    if !dependency.features.is_empty() {
        table.insert("features".to_owned(), dependency.features.clone().into());
    }
    table
}

/// The table of a manifest for a dependency: that of its target, or of all.
fn table_of<'a>(manifest: &'a mut Table, dependency: &Dependency) -> &'a mut Table {
    fn within<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
        let entry = table.entry(key.to_owned()).or_insert_with(|| Table::new().into());
        entry.as_table_mut().expect("only tables are inserted under this key")
    }
    let table = match &dependency.target {
        Some(target) => within(within(manifest, "target"), &target.to_string()),
        None => manifest,
    };
    within(table, "dependencies")
}
