//! Which program of a package is built: a binary or an example.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{Message, Package, Target};

use crate::error::failure;
use crate::project::{FILE_NAME, Project};

/// The program of a package.
pub struct ProgramTarget {
    pub name: String,
    is_example: bool,
}

impl ProgramTarget {
    /// The program that the project names, or the only binary.
    pub fn choose(package: &Package, project: &Project) -> Result<ProgramTarget> {
        match &project.example {
            Some(example) => named(package, example, true),
            None => match &project.bin {
                Some(bin) => named(package, bin, false),
                None => only_binary(package),
            },
        }
    }

    /// The target of the package that it is.
    pub fn target_in<'a>(&self, package: &'a Package) -> Option<&'a Target> {
        package.targets.iter().find(|target| self.is(target))
    }

    /// The same program as a binary of another manifest.
    pub fn into_binary(self) -> ProgramTarget {
        ProgramTarget { is_example: false, ..self }
    }

    /// The argument that selects it.
    pub fn arguments(&self) -> [&str; 2] {
        [if self.is_example { "--example" } else { "--bin" }, &self.name]
    }

    /// Checks that the features are enabled that it requires. Otherwise cargo skips it silently.
    pub fn need_features(&self, package: &Package, active: &[String]) -> Result<()> {
        let target = self.target_in(package);
        let missing: Vec<&str> = target
            .iter()
            .flat_map(|target| &target.required_features)
            .filter(|feature| !active.contains(feature))
            .map(String::as_str)
            .collect();
        let (features, active) = match missing.len() {
            0 => return Ok(()),
            1 => (format!("the feature `{}`", missing[0]), "is"),
            _ => (format!("the features `{}`", missing.join("`, `")), "are"),
        };
        Err(failure(
            format!("the {} `{}` requires {features}, which {active} not active", self.kind(), self.name),
            format!(
                "wasmop build --features {}\nor write `features = [\"{}\"]` under [build] in {FILE_NAME}",
                missing.join(","),
                missing.join("\", \"")
            ),
        )
        .into())
    }

    /// Its file, from cargo's messages.
    pub fn executable(&self, messages: &[u8]) -> Result<PathBuf> {
        let mut path = None;
        for message in Message::parse_stream(messages) {
            if let Message::CompilerArtifact(artifact) = message.context("cargo's messages are not understood")?
                && self.is(&artifact.target)
            {
                path = artifact.executable;
            }
        }
        let missing = || format!("cargo did not say where it put the {} `{}`", self.kind(), self.name);
        Ok(path.with_context(missing)?.into_std_path_buf())
    }

    fn kind(&self) -> &'static str {
        if self.is_example { "example" } else { "binary" }
    }

    fn is(&self, target: &Target) -> bool {
        target.name == self.name && if self.is_example { target.is_example() } else { target.is_bin() }
    }
}

fn named(package: &Package, name: &str, is_example: bool) -> Result<ProgramTarget> {
    let target = ProgramTarget { name: name.to_owned(), is_example };
    if package.targets.iter().any(|it| target.is(it)) {
        return Ok(target);
    }
    let (kind, key) = (target.kind(), if is_example { "example" } else { "bin" });
    let others = package.targets.iter().filter(|it| if is_example { it.is_example() } else { it.is_bin() });
    let others: Vec<&str> = others.map(|it| it.name.as_str()).collect();
    let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    Err(failure(
        format!("{} has no {kind} `{name}`; it has: {others}", package.name),
        format!("correct `{key}` under [build] in {FILE_NAME}"),
    )
    .into())
}

fn only_binary(package: &Package) -> Result<ProgramTarget> {
    let names = |of: fn(&Target) -> bool| -> Vec<&str> {
        package.targets.iter().filter(|target| of(target)).map(|target| target.name.as_str()).collect()
    };
    let bins = names(Target::is_bin);
    match bins[..] {
        [only] => Ok(ProgramTarget { name: only.to_owned(), is_example: false }),
        [] => {
            let help = match names(Target::is_example)[..] {
                [] => "a controller is a program: add src/main.rs with `#[tokio::main] async fn main()`".to_owned(),
                ref examples => format!(
                    "if one of its examples is the controller, name it with `example` under [build] in {FILE_NAME}: {}",
                    examples.join(", ")
                ),
            };
            Err(failure(format!("{} has no binary", package.name), help).into())
        }
        _ => Err(failure(
            format!("{} has several binaries: {}", package.name, bins.join(", ")),
            format!("name one with `bin` under [build] in {FILE_NAME}"),
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_one_of_the_program_asked_for() {
        let artifact = |name: &str, kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/p/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"{name}","src_path":"/p/src/main.rs","edition":"2024","doc":true,"doctest":false,"test":true}},"profile":{{"opt_level":"s","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false}},"features":[],"filenames":["{file}"],"executable":"{file}","fresh":false}}"#
            )
        };
        let messages = [
            artifact("other", "bin", "/o.wasm"),
            artifact("mine", "bin", "/m.wasm"),
            artifact("mine", "example", "/e.wasm"),
        ]
        .join("\n");
        let file = |name: &str, is_example| {
            ProgramTarget { name: name.to_owned(), is_example }.executable(messages.as_bytes()).ok()
        };
        assert_eq!(file("mine", false), Some("/m.wasm".into()));
        assert_eq!(file("mine", true), Some("/e.wasm".into()));
        assert_eq!(file("other", true), None);
    }
}
