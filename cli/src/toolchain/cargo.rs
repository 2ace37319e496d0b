//! From a cargo project to its core module: the binary built for `wasm32-wasip1`, with the port
//! rules applied to the locked versions of the crates that need them.
//!
//! The project's own `Cargo.toml` and `Cargo.lock` end up as they were: the ported crates are
//! given to cargo as `--config patch…`, and the lock file cargo then writes is either another one
//! (cargo ≥ 1.97) or put back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use cargo_metadata::{Message, Metadata, MetadataCommand, Package, PackageId};
use semver::Version;
use wasmop_package::manifest::Sdk;

use super::{Core, Request, port};
use crate::error::{HelpExt, failure};
use crate::interrupt::Cleanup;

const TARGET: &str = "wasm32-wasip1";

/// Shadow stack, bytes. It is part of every snapshot as far as it is used, and part of the linear
/// memory in full.
const STACK_BYTES: u32 = 128 << 10;

/// rustc's default: code that is hardly optimized has large frames.
const DEBUG_STACK_BYTES: u32 = 1 << 20;

/// The export that `#[wasmop::main]` defines in a dependency of the binary, where the linker
/// would drop it.
const STEP_EXPORT: &str = "wasmop:controller/guest@0.1.0#step";

/// The first cargo that takes `resolver.lockfile-path`.
const CARGO_WITH_LOCKFILE_PATH: Version = Version::new(1, 97, 0);

/// The name of the package on crates.io that a project must depend on.
const SDK_CRATE: &str = "wasmop";

/// Builds the project's binary.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    let dir = request.dir();
    let manifest = dir.join("Cargo.toml");
    if !manifest.exists() {
        return Err(failure(
            format!("there is no Cargo.toml in `{}`", dir.display()),
            "wasmop.toml says language = \"rust\": put it beside the Cargo.toml of the controller's crate",
        )
        .into());
    }
    let cargo = Cargo::find(dir)?;
    cargo.need_target(dir)?;

    let workspace = cargo.metadata(dir, &["--no-deps"])?;
    let lock = LockFile::of(&workspace);
    lock.restore()?;

    request.step.message("resolving dependencies");
    let metadata = cargo.metadata(dir, &["--filter-platform", TARGET])?;
    let package = root_package(&metadata, &manifest)?;
    let bin = choose_bin(package, request.project.bin.as_deref())?;
    let dependencies = reachable(&metadata, &package.id);
    let sdk = dependencies.iter().find(|package| package.name.as_str() == SDK_CRATE).ok_or_else(|| {
        failure(
            format!("{} does not depend on the crate `{SDK_CRATE}`", package.name),
            format!("add `{SDK_CRATE}` to [dependencies]; `wasmop new` shows a project that has it"),
        )
    })?;
    let sdk = Sdk::new(&sdk.name, &sdk.version.to_string());

    let ported = port_crates(&dependencies, &metadata.target_directory.as_std_path().join("wasmop").join("port"))?;
    let mut command = cargo.command(dir);
    command.arg("rustc").args(["--manifest-path".into(), manifest.into_os_string()]);
    command.args(["--bin", &bin, "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.args(profile(request.debug));
    for (name, path) in &ported {
        command.arg("--config").arg(config(&format!("patch.crates-io.{name}.path"), path));
    }
    let restored_at_end = if cargo.version >= CARGO_WITH_LOCKFILE_PATH {
        let copy = lock.copy_to(&metadata.target_directory.as_std_path().join("wasmop").join("lock"))?;
        command.arg("--config").arg(config("resolver.lockfile-path", &copy));
        None
    } else {
        Some(lock.save()?)
    };
    command.arg("--");
    let stack = if request.debug { DEBUG_STACK_BYTES } else { STACK_BYTES };
    for link_arg in [format!("-zstack-size={stack}"), "--stack-first".to_owned(), format!("--export={STEP_EXPORT}")] {
        command.arg("-C").arg(format!("link-arg={link_arg}"));
    }

    let output = request.run(&mut command);
    drop(restored_at_end);
    let path = executable(&output?, &bin)?;
    let module = fs::read(&path).with_context(|| format!("cannot read what cargo built: {}", path.display()))?;
    Ok(Core { module, sdk })
}

/// The installed cargo.
struct Cargo {
    program: OsString,
    version: Version,
}

impl Cargo {
    fn find(dir: &Path) -> Result<Cargo> {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let text = output_of(Command::new(&program).current_dir(dir).arg("--version")).or_help(
            format!("cannot run `{}`", program.display()),
            "install Rust with rustup (rustup.rs), or put cargo on the PATH",
        )?;
        // `cargo 1.95.0 (f2d3ce0bd 2026-03-21)`
        let version = text.split_whitespace().nth(1).and_then(|version| Version::parse(version).ok());
        let version = version.with_context(|| format!("`cargo --version` says something unexpected: {text}"))?;
        // A nightly's pre-release tag sorts below the release, which is right: it may lack things.
        Ok(Cargo { program, version })
    }

    /// Cargo, to be run in the project's directory, where a `rust-toolchain.toml` counts.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(dir);
        command
    }

    /// That the standard library for wasm is there.
    fn need_target(&self, dir: &Path) -> Result<()> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let libdir =
            output_of(Command::new(&rustc).current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]))
                .or_help(
                    format!("cannot run `{}`", rustc.display()),
                    "install Rust with rustup (rustup.rs), or put rustc on the PATH",
                )?;
        if Path::new(libdir.trim()).is_dir() {
            return Ok(());
        }
        Err(failure(
            format!("this Rust toolchain has no standard library for {TARGET}"),
            format!("rustup target add {TARGET}\nor name the target in rust-toolchain.toml: targets = [\"{TARGET}\"]"),
        )
        .into())
    }

    fn metadata(&self, dir: &Path, options: &[&str]) -> Result<Metadata> {
        MetadataCommand::new()
            .cargo_path(&self.program)
            .current_dir(dir)
            .manifest_path(dir.join("Cargo.toml"))
            .other_options(options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
            .exec()
            .map_err(|error| match error {
                cargo_metadata::Error::CargoMetadata { stderr } => anyhow::anyhow!(stderr.trim_end().to_owned()),
                other => other.into(),
            })
            .with_context(|| format!("cargo cannot read the project in {}", dir.display()))
    }
}

/// Stdout of a command that ends well.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `key="value"`, as `--config` takes it.
fn config(key: &str, path: &Path) -> OsString {
    let value = toml::Value::String(path.to_string_lossy().into_owned());
    format!("{key}={value}").into()
}

/// The build profile, the project's own notwithstanding: a controller is small and mostly idle,
/// and there is nothing to unwind to.
fn profile(debug: bool) -> Vec<OsString> {
    let (name, settings): (_, &[&str]) = if debug {
        (
            "wasmop-debug",
            &["opt-level=1", "debug=\"line-tables-only\"", "strip=false", "lto=\"off\"", "panic=\"abort\""],
        )
    } else {
        (
            "wasmop",
            &["opt-level=\"s\"", "lto=\"off\"", "codegen-units=4", "debug=false", "strip=true", "panic=\"abort\""],
        )
    };
    let mut arguments: Vec<OsString> = vec!["--profile".into(), name.into()];
    for setting in ["inherits=\"release\""].iter().chain(settings) {
        arguments.push("--config".into());
        arguments.push(format!("profile.{name}.{setting}").into());
    }
    arguments
}

fn root_package<'a>(metadata: &'a Metadata, manifest: &Path) -> Result<&'a Package> {
    let same = |package: &&Package| {
        let path = package.manifest_path.as_std_path();
        path == manifest || path.canonicalize().ok() == manifest.canonicalize().ok()
    };
    metadata.workspace_packages().into_iter().find(same).ok_or_else(|| {
        failure(
            format!("{} has no [package]: it is a workspace", manifest.display()),
            "put wasmop.toml beside the Cargo.toml of the controller's own crate",
        )
        .into()
    })
}

fn choose_bin(package: &Package, wanted: Option<&str>) -> Result<String> {
    let bins: Vec<&str> =
        package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.as_str()).collect();
    match wanted {
        Some(wanted) if bins.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(failure(
            format!("{} has no binary `{wanted}`; it has: {}", package.name, bins.join(", ")),
            "correct `bin` under [build] in wasmop.toml",
        )
        .into()),
        None => match bins[..] {
            [only] => Ok(only.to_owned()),
            [] => Err(failure(
                format!("{} has no binary", package.name),
                "a controller is a program: add src/main.rs with `#[wasmop::main] async fn main()`",
            )
            .into()),
            _ => Err(failure(
                format!("{} has several binaries: {}", package.name, bins.join(", ")),
                "name one with `bin` under [build] in wasmop.toml",
            )
            .into()),
        },
    }
}

/// Everything the package is built from, itself included.
fn reachable<'a>(metadata: &'a Metadata, root: &PackageId) -> Vec<&'a Package> {
    let packages: BTreeMap<&PackageId, &Package> =
        metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let edges: BTreeMap<&PackageId, &[PackageId]> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (&node.id, node.dependencies.as_slice()))
        .collect();
    let mut found: BTreeMap<&PackageId, &Package> = BTreeMap::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        let Some((id, package)) = packages.get_key_value(id) else { continue };
        if found.insert(id, package).is_none() {
            next.extend(edges.get(id).copied().unwrap_or_default());
        }
    }
    found.into_values().collect()
}

/// Makes the ported copies in `dir`; returns each crate's name and copy.
fn port_crates(dependencies: &[&Package], dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let known = port::known()?;
    let mut ported: Vec<(String, PathBuf)> = Vec::new();
    for package in dependencies {
        let (name, version) = (package.name.as_str(), package.version.to_string());
        let Some(port) = port::rules_for(&known, name, &version)? else { continue };
        if !package.source.as_ref().is_some_and(|source| source.is_crates_io()) {
            return Err(failure(
                format!("{port} comes from {}, not from crates.io", package.manifest_path),
                format!("wasmop builds it for wasm with its own patch: remove yours for `{name}` (see [patch.crates-io] in Cargo.toml)"),
            )
            .into());
        }
        let source = package.manifest_path.parent().context("a manifest has a directory")?.as_std_path();
        let copy = dir.join(format!("{name}-{version}"));
        port.apply(source, &copy)?;
        ported.push((name.to_owned(), copy));
    }
    Ok(ported)
}

/// The lock file of the project's workspace.
///
/// Invariant: while a build with patches runs on a cargo that writes to it, its original is in
/// `saved`; whoever finds a `saved` file puts it back.
struct LockFile {
    path: PathBuf,
    saved: PathBuf,
}

impl LockFile {
    fn of(metadata: &Metadata) -> LockFile {
        let root = metadata.workspace_root.as_std_path();
        LockFile { path: root.join("Cargo.lock"), saved: root.join("target").join("wasmop").join("Cargo.lock.saved") }
    }

    /// Puts back what a build that was killed has left behind.
    fn restore(&self) -> Result<()> {
        put_back(&self.saved, &self.path).or_help(
            format!("cannot put {} back after a build that was interrupted", self.path.display()),
            format!("its original is {}", self.saved.display()),
        )
    }

    /// Keeps the original until the returned value is dropped, or the program interrupted.
    fn save(&self) -> Result<Cleanup> {
        let dir = self.saved.parent().context("a file has a directory")?;
        let partial = self.saved.with_extension("partial");
        fs::create_dir_all(dir)
            .and_then(|()| fs::copy(&self.path, &partial))
            .and_then(|_| fs::rename(&partial, &self.saved))
            .with_context(|| format!("cannot keep a copy of {}", self.path.display()))?;
        let (saved, path) = (self.saved.clone(), self.path.clone());
        Ok(Cleanup::new(move || {
            // If this fails the copy is still there, and the next build tries again.
            let _ = put_back(&saved, &path);
        }))
    }

    fn copy_to(&self, dir: &Path) -> Result<PathBuf> {
        let copy = dir.join("Cargo.lock");
        fs::create_dir_all(dir)
            .and_then(|()| fs::copy(&self.path, &copy))
            .with_context(|| format!("cannot copy {} to {}", self.path.display(), copy.display()))?;
        Ok(copy)
    }
}

fn put_back(saved: &Path, path: &Path) -> std::io::Result<()> {
    match fs::rename(saved, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The file that cargo says it made for this binary.
fn executable(messages: &[u8], bin: &str) -> Result<PathBuf> {
    let mut path = None;
    for message in Message::parse_stream(messages) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo's messages are not understood")?
            && artifact.target.is_bin()
            && artifact.target.name == bin
        {
            path = artifact.executable;
        }
    }
    Ok(path.with_context(|| format!("cargo did not say where it put the binary `{bin}`"))?.into_std_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_file(dir: &Path) -> LockFile {
        let lock = LockFile { path: dir.join("Cargo.lock"), saved: dir.join("target/wasmop/Cargo.lock.saved") };
        fs::write(&lock.path, "original").expect("written");
        lock
    }

    fn content(lock: &LockFile) -> String {
        fs::read_to_string(&lock.path).expect("read")
    }

    #[test]
    fn the_lock_file_is_as_it_was_after_a_build_that_changed_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = lock_file(dir.path());
        let kept = lock.save().expect("saved");
        fs::write(&lock.path, "patched").expect("written");
        drop(kept);
        assert_eq!(content(&lock), "original");
        assert!(!lock.saved.exists());
    }

    #[test]
    fn the_lock_file_is_put_back_by_the_build_after_one_that_was_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = lock_file(dir.path());
        std::mem::forget(lock.save().expect("saved"));
        fs::write(&lock.path, "patched").expect("written");
        lock.restore().expect("restored");
        assert_eq!(content(&lock), "original");
        lock.restore().expect("nothing to do");
        assert_eq!(content(&lock), "original");
    }

    #[test]
    fn a_path_is_quoted_for_config() {
        let argument = config("patch.crates-io.kube-client.path", Path::new(r#"/a "b"\c"#));
        let text = argument.to_str().expect("text");
        let parsed: toml::Table = text.parse().expect("TOML");
        assert_eq!(parsed["patch"]["crates-io"]["kube-client"]["path"].as_str(), Some(r#"/a "b"\c"#));
    }

    #[test]
    fn the_executable_is_the_one_of_the_binary_asked_for() {
        let artifact = |name: &str, kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"p","manifest_path":"/p/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["{kind}"],"name":"{name}","src_path":"/p/src/main.rs","edition":"2024","doc":true,"doctest":false,"test":true}},"profile":{{"opt_level":"s","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false}},"features":[],"filenames":["{file}"],"executable":"{file}","fresh":false}}"#
            )
        };
        let messages = format!("{}\n{}\n", artifact("other", "bin", "/o.wasm"), artifact("mine", "bin", "/m.wasm"));
        assert_eq!(executable(messages.as_bytes(), "mine").expect("found"), Path::new("/m.wasm"));
        assert!(executable(messages.as_bytes(), "third").is_err());
    }
}
