//! Builds the Go program in `e2e/controlplane`, once for each content of its sources.
//!
//! The result is kept in the user's cache directory, where other clones and clean target directories find it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

/// Packages that a clean build compiles, for the progress display.
const PACKAGES: usize = 2713;
const HELP_GO: &str = "help: install Go 1.26 or later (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl";

/// Flags of `go vet` and `go test` with which they reuse the packages of the build.
pub const TEST_FLAGS: [&str; 3] = ["-trimpath", "-tags", "grpcnotrace"];

/// The directory of its sources.
pub fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("controlplane")
}

/// Builds the program if necessary, and returns its path.
pub(crate) fn ensure(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let source = source_dir();
    let source = source.as_path();
    let cache = cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| {
        format!("creating {}\nhelp: set XDG_CACHE_HOME to a directory you can write to", cache.display())
    })?;
    let program = cache.join(format!("controlplane-{}", fingerprint(source)?));
    if program.is_file() {
        return Ok(program);
    }
    // Two builds at once would take twice as long. The second one waits and finds the result.
    let lock = File::create(cache.join("controlplane.lock"))?;
    lock.lock()?;
    if !program.is_file() {
        build(source, &program, progress)?;
    }
    Ok(program)
}

fn cache_dir() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .ok_or_else(|| anyhow!("no cache directory\nhelp: set HOME or XDG_CACHE_HOME"))?;
    Ok(base.join("wasmop"))
}

/// A hash of the inputs: sources, versions of dependencies, compiler and platform.
fn fingerprint(source: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(go_output(source, &["env", "GOVERSION", "GOOS", "GOARCH"])?);
    hash.update(TEST_FLAGS.concat());
    hash.update(ldflags(source)?);
    let mut files: Vec<_> =
        fs::read_dir(source)?.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| is_source(path));
    files.sort();
    for path in files {
        let content = fs::read(&path)?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    matches!(name, "go.mod" | "go.sum") || name.ends_with(".go") && !name.ends_with("_test.go")
}

fn go_output(source: &Path, args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("go")
        .args(args)
        .current_dir(source)
        .output()
        .map_err(|error| anyhow!("go cannot be started: {error}\n{HELP_GO}"))?;
    if !output.status.success() {
        bail!("go {} failed:\n{}{HELP_GO}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

fn build(source: &Path, program: &Path, progress: &mut dyn FnMut(&str)) -> Result<()> {
    progress("building the control plane (once; minutes the first time)");
    let unfinished = program.with_extension(format!("tmp-{}", process::id()));
    let mut child = Command::new("go")
        .args(["build", "-v"])
        .args(TEST_FLAGS)
        .args(["-ldflags", &ldflags(source)?, "-o"])
        .arg(&unfinished)
        .arg(".")
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;

    // `-v` prints a line for each compiled package. The last other lines have the reason of a failure.
    let (mut compiled, mut reported, mut last) = (0, Instant::now(), VecDeque::new());
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line?;
        if line.starts_with("go: downloading") || line.contains(' ') || line.starts_with('#') {
            last.push_back(line);
            if last.len() > 30 {
                last.pop_front();
            }
        } else {
            compiled += 1;
        }
        if reported.elapsed() > Duration::from_secs(20) {
            reported = Instant::now();
            progress(&format!("building the control plane: {compiled} of about {PACKAGES} packages compiled"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let _ = fs::remove_file(&unfinished);
        bail!("the control plane cannot be built ({status}):\n{}\n{HELP_GO}", Vec::from(last).join("\n"));
    }
    fs::rename(&unfinished, program).with_context(|| format!("creating {}", program.display()))
}

/// Linker flags that set the version. Clients parse the version that the server reports.
fn ldflags(source: &Path) -> Result<String> {
    let go_mod = fs::read_to_string(source.join("go.mod"))?;
    let version = go_mod
        .lines()
        .find_map(|line| line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes "))
        .ok_or_else(|| anyhow!("{} requires no k8s.io/kubernetes", source.join("go.mod").display()))?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    let mut flags = String::from("-s -w");
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", version),
            ("gitMajor", "1"),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", version),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_version_comes_from_go_mod() {
        let flags = ldflags(&source_dir()).unwrap();
        assert!(flags.contains(" -X k8s.io/client-go/pkg/version.gitVersion=v1."), "{flags}");
        assert!(flags.contains(" -X k8s.io/component-base/version.gitMinor=3"), "{flags}");
    }

    #[test]
    fn tests_and_scripts_cause_no_rebuild() {
        for (name, expected) in
            [("main.go", true), ("go.mod", true), ("go.sum", true), ("pki_test.go", false), ("update.sh", false)]
        {
            assert_eq!(is_source(Path::new(name)), expected, "{name}");
        }
    }
}
