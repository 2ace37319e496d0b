//! What an operator's directory has that a story needs: its samples, and how it is built and started natively.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use wasmop_package::Package;
use wasmop_package::manifest::{Language, Manifest, Mode};

use crate::guests::wasmop;

/// Folders in which operators keep samples of their custom resources.
const SAMPLE_FOLDERS: [&str; 8] =
    ["config/samples", "examples", "example", "samples", "artifacts/examples", "deploy/examples", "yaml", "demo"];
/// A sample larger than this is something else.
const MAX_SAMPLE_BYTES: u64 = 1 << 20;

/// An operator, built as a package.
pub struct Project {
    pub dir: PathBuf,
    pub name: String,
    pub manifest: Manifest,
    /// The package.
    pub package: PathBuf,
    pub package_bytes: u64,
    /// Objects that make it work.
    pub samples: Vec<Value>,
    /// What `[build]` of wasmop.toml says of the program.
    build: BuildKeys,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ProjectFile {
    package: PackageKeys,
    build: BuildKeys,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PackageKeys {
    name: String,
}

/// Those keys that a native build needs as well.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct BuildKeys {
    bin: Option<String>,
    package: Option<String>,
    features: Vec<String>,
    tags: Vec<String>,
    ldflags: Option<String>,
}

impl Project {
    /// Runs `wasmop init` where there is no wasmop.toml yet, then `wasmop build`.
    ///
    /// # Errors
    /// Either fails: what it said.
    pub fn build(dir: &Path, samples: Option<&Path>) -> Result<Project> {
        let file = dir.join("wasmop.toml");
        if !file.is_file() {
            run(Command::new(wasmop()?).arg("init").current_dir(dir)).context("wasmop init")?;
        }
        run(Command::new(wasmop()?).arg("build").current_dir(dir)).context("wasmop build")?;
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let ProjectFile { package, build } = toml::from_str(&text).context("reading wasmop.toml")?;
        let path = dir.join(format!("target/wasmop/{}.wasm", package.name));
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let package_bytes = bytes.len() as u64;
        let manifest = Package::parse(bytes)?.manifest;
        let samples = samples_of(dir, samples, &manifest.crds)?;
        Ok(Project { dir: dir.to_owned(), name: package.name, manifest, package: path, package_bytes, samples, build })
    }

    pub fn mode(&self) -> Mode {
        self.manifest.mode
    }

    /// Builds the same source for this machine, and returns the program. `optimized` is for figures: it takes longer.
    ///
    /// # Errors
    /// The compiler fails: what it said.
    pub fn build_natively(&self, optimized: bool) -> Result<PathBuf> {
        let target = self.dir.join("target/native");
        fs::create_dir_all(&target)?;
        let program = target.join(&self.name);
        match self.manifest.language {
            Language::Rust => {
                let mut cargo = Command::new("cargo");
                cargo.args(["build", "--message-format", "json-render-diagnostics"]).arg("--target-dir").arg(&target);
                if optimized {
                    cargo.arg("--release");
                }
                if let Some(bin) = &self.build.bin {
                    cargo.args(["--bin", bin]);
                }
                if !self.build.features.is_empty() {
                    cargo.args(["--features", &self.build.features.join(",")]);
                }
                let messages = run(cargo.current_dir(&self.dir))?;
                let executables = messages.lines().filter_map(|line| {
                    let message: Value = serde_json::from_str(line).ok()?;
                    Some(PathBuf::from(message["executable"].as_str()?))
                });
                let found: Vec<PathBuf> = executables.collect();
                let wanted = self.build.bin.as_deref().unwrap_or(&self.name);
                let named = found.iter().find(|path| path.file_name().is_some_and(|name| name == wanted));
                named.or(found.last()).cloned().context("cargo built no program")
            }
            Language::Go => {
                let mut go = Command::new("go");
                go.args(["build", "-o"]).arg(&program);
                if !self.build.tags.is_empty() {
                    go.arg(format!("-tags={}", self.build.tags.join(",")));
                }
                if let Some(ldflags) = &self.build.ldflags {
                    go.arg(format!("-ldflags={ldflags}"));
                }
                let package = self.build.package.as_deref().unwrap_or(".");
                let package = if package.starts_with('.') { package.to_owned() } else { format!("./{package}") };
                run(go.arg(package).current_dir(&self.dir))?;
                Ok(program)
            }
            other => bail!("a native build of {other:?} is not known"),
        }
    }
}

/// Runs a command and returns its stdout. The error has the last lines of its stderr.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        bail!("{}", lines[lines.len().saturating_sub(12)..].join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The objects in the sample folders whose kinds the operator's CRDs define; all objects in `own`, if that is given.
fn samples_of(dir: &Path, own: Option<&Path>, crds: &[String]) -> Result<Vec<Value>> {
    let mut samples = Vec::new();
    if let Some(own) = own {
        read_objects(own, &mut |object| samples.push(object))?;
        return Ok(samples);
    }
    let groups: Vec<String> = crds
        .iter()
        .filter_map(|crd| serde_norway::from_str::<Value>(crd).ok()?["spec"]["group"].as_str().map(str::to_owned))
        .collect();
    for folder in SAMPLE_FOLDERS {
        read_objects(&dir.join(folder), &mut |object| {
            let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|it| it.0);
            if group.is_some_and(|group| groups.iter().any(|known| known == group)) {
                samples.push(object);
            }
        })?;
    }
    let key = |object: &Value| {
        [&object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]].map(Value::to_string)
    };
    let mut seen = std::collections::BTreeSet::new();
    samples.retain(|object| seen.insert(key(object)));
    Ok(samples)
}

/// Reads the YAML documents of a file, or of all files below a folder.
fn read_objects(path: &Path, found: &mut dyn FnMut(Value)) -> Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        return entries.iter().filter(|entry| !entry.is_symlink()).try_for_each(|entry| read_objects(entry, found));
    }
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if !is_yaml || fs::metadata(path).is_ok_and(|file| file.len() > MAX_SAMPLE_BYTES) {
        return Ok(());
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    for document in serde_norway::Deserializer::from_str(&text) {
        // Templates are no YAML.
        let Ok(object) = Value::deserialize(document) else { break };
        if object["kind"].is_string() && object["metadata"]["name"].is_string() {
            found(object);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_the_objects_of_the_operators_own_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("config/samples");
        fs::create_dir_all(&folder).unwrap();
        let sample = "apiVersion: demo.dev/v1\nkind: Thing\nmetadata: {name: a}\n---\n";
        let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n";
        fs::write(folder.join("one.yaml"), format!("{sample}{sample}{other}")).unwrap();
        fs::write(folder.join("kustomization.yaml"), "resources: [one.yaml]\n").unwrap();
        fs::write(folder.join("template.yaml"), "{{ if }}\n").unwrap();
        fs::write(folder.join("notes.txt"), sample).unwrap();
        let crds = ["spec: {group: demo.dev}".to_owned()];
        let names = |samples: Vec<Value>| {
            samples.iter().map(|it| it["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(samples_of(dir.path(), None, &crds).unwrap()), ["a"]);
        assert!(samples_of(dir.path(), None, &[]).unwrap().is_empty());
        assert_eq!(names(samples_of(dir.path(), Some(&folder.join("one.yaml")), &[]).unwrap()), ["a", "a", "b"]);
    }
}
