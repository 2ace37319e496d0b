//! The guests that a benchmark measures: the same controller in each language, if this machine has its compiler.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wasmop_e2e::guests::{self, COLUMNS};
use wasmop_package::{Package, with_manifest};

/// `cargo xtask bench` sets it to the reason if there is no TinyGo.
const NO_TINYGO: &str = "WASMOP_E2E_SKIP_TINYGO";
/// Room for the largest heap that is measured, and for the headroom of a collector.
const MEMORY_BYTES: u64 = 512 << 20;

/// A guest to measure.
pub struct Variant {
    /// Names it in the rows.
    pub name: &'static str,
    /// Its package.
    pub path: PathBuf,
}

impl Variant {
    /// Reads the package and raises its memory limit.
    pub fn load(&self) -> Result<Package> {
        let bytes = fs::read(&self.path).with_context(|| format!("{}", self.path.display()))?;
        let package = Package::parse(bytes).with_context(|| format!("{}", self.path.display()))?;
        let mut manifest = package.manifest.clone();
        manifest.limits.memory_bytes = MEMORY_BYTES;
        Ok(Package::parse(with_manifest(package.bytes(), &manifest)?)?)
    }
}

/// Builds the guests named in `only`, or all. Prints a line for each that it leaves out for lack of a compiler.
pub fn build(out: &Path, only: &[String]) -> Result<Vec<Variant>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let no_tinygo = env::var(NO_TINYGO).ok().filter(|reason| !reason.is_empty());
    let mut variants = Vec::new();
    for name in selected(only)? {
        match missing_compiler(name, &path, no_tinygo.as_deref()) {
            Some(reason) => eprintln!("{name} is left out: {reason}"),
            None => variants.push(Variant { name, path: guests::build(name, out)?.package }),
        }
    }
    if variants.is_empty() {
        bail!("no guest is left to measure\nhelp: install the compiler of one, or select others with --guest");
    }
    Ok(variants)
}

fn selected(only: &[String]) -> Result<Vec<&'static str>> {
    if let Some(unknown) = only.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        bail!("there is no guest `{unknown}`\nhelp: the guests are {}", COLUMNS.join(", "));
    }
    Ok(COLUMNS.into_iter().filter(|name| only.is_empty() || only.iter().any(|one| one == name)).collect())
}

/// The reason if this machine cannot compile the guest. `no_tinygo` is the reason if there is no TinyGo, on PATH or elsewhere.
fn missing_compiler(guest: &str, path: &OsStr, no_tinygo: Option<&str>) -> Option<String> {
    match guest {
        "go" if !has(path, "go") => Some("no `go` on PATH".into()),
        // TinyGo compiles the standard library of an installed Go.
        "tinygo" if !has(path, "go") => Some("no `go` on PATH, which TinyGo needs".into()),
        "tinygo" => no_tinygo.map(str::to_owned),
        _ => None,
    }
}

/// Whether a directory of `path` has an executable file of that name.
pub fn has(path: &OsStr, program: &str) -> bool {
    let is_executable = |file: PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).any(|dir| is_executable(dir.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_with(programs: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for program in programs {
            let file = dir.path().join(program);
            fs::write(&file, "").expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
        }
        dir
    }

    #[test]
    fn guests_without_a_compiler_are_left_out() {
        let (nothing, go) = (path_with(&["cargo"]), path_with(&["cargo", "go"]));
        let none = Some("TinyGo is neither on PATH nor built");
        for (guest, path, no_tinygo, expected) in [
            ("rust", &nothing, none, None),
            ("go", &nothing, none, Some("no `go` on PATH")),
            ("tinygo", &nothing, none, Some("no `go` on PATH, which TinyGo needs")),
            ("tinygo", &nothing, None, Some("no `go` on PATH, which TinyGo needs")),
            ("go", &go, none, None),
            ("tinygo", &go, none, none),
            ("tinygo", &go, None, None),
        ] {
            let reason = missing_compiler(guest, path.path().as_os_str(), no_tinygo);
            assert_eq!(reason.as_deref(), expected, "{guest}");
        }
    }

    #[test]
    fn a_file_that_is_not_executable_is_no_program() {
        let dir = path_with(&["go"]);
        assert!(has(dir.path().as_os_str(), "go"));
        fs::set_permissions(dir.path().join("go"), fs::Permissions::from_mode(0o644)).expect("set");
        assert!(!has(dir.path().as_os_str(), "go"));
        assert!(!has(OsStr::new(""), "go"));
    }

    #[test]
    fn guests_are_selected_by_name_and_an_unknown_name_is_an_error() {
        let only = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(selected(&[]).expect("all"), COLUMNS);
        assert_eq!(selected(&only(&["go", "rust"])).expect("two"), ["rust", "go"]);
        let error = selected(&only(&["java"])).expect_err("unknown").to_string();
        assert_eq!(error, "there is no guest `java`\nhelp: the guests are rust, go, tinygo");
    }
}
