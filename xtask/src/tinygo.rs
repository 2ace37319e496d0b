//! Finds or builds TinyGo, which compiles some of the guests.
//!
//! A TinyGo on PATH takes precedence. Otherwise it is built from its Go module (pinned in xtask/tinygo/go.mod) against
//! Debian's LLVM, in the user's cache folder, which all checkouts share:
//!
//! ```text
//! $XDG_CACHE_HOME/wasmop/tinygo-0.42.0/
//!     bin/tinygo  src/  targets/   TINYGOROOT
//!     wasmop.json                  the wasip1 target with Debian's libc: the Go module lacks the libc
//!                                  sources of a release
//! ```
//!
//! `wasmop build` searches the same places (cli/src/toolchain/tinygo.rs).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::ci::is_ci;
use crate::{command, debian, repository};

const MODULE: &str = "github.com/tinygo-org/tinygo";

/// A folder in [`repository::user_cache`].
const CACHE_FOLDER: &str = "tinygo-0.42.0";

/// What building and running TinyGo requires.
const PACKAGES: debian::Packages = &[
    ("llvm-22-dev", "/usr/lib/llvm-22/include/llvm-c/Core.h"),
    ("libclang-22-dev", "/usr/lib/llvm-22/include/clang-c/Index.h"),
    ("clang-22", "/usr/bin/clang-22"),
    ("lld-22", "/usr/bin/wasm-ld-22"),
    ("binaryen", "/usr/bin/wasm-opt"),
    ("libclang-rt-22-dev-wasm32", BUILTINS),
    ("wasi-libc", LIBC),
];
const BUILTINS: &str = "/usr/lib/llvm-22/lib/clang/22/lib/wasi/libclang_rt.builtins-wasm32.a";
const LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

/// The TinyGo that `wasmop build` uses, if there is one.
pub fn find() -> Option<PathBuf> {
    if runs(Path::new("tinygo")) {
        return Some("tinygo".into());
    }
    let folder = cache_folder().ok()?;
    let program = folder.join("bin/tinygo");
    (folder.join("wasmop.json").is_file() && runs(&program)).then_some(program)
}

/// The reason if there is no TinyGo. On a CI machine this builds it; elsewhere it does not, because that installs packages.
pub fn missing() -> Option<String> {
    if find().is_some() {
        return None;
    }
    if !is_ci() {
        return Some("TinyGo is neither on PATH nor built (cargo xtask setup --tinygo)".into());
    }
    ensure(repository::root())
        .err()
        .map(|error| format!("TinyGo is unavailable: {}", format!("{error:#}").lines().next().unwrap_or_default()))
}

/// Finds TinyGo or builds it. `root` is the repository.
///
/// # Errors
///
/// It is missing and cannot be built.
pub fn ensure(root: &Path) -> Result<PathBuf> {
    if let Some(program) = find() {
        return Ok(program);
    }
    if !command::succeeds(Command::new("go").arg("version")) {
        bail!(
            "TinyGo is built with Go, and there is no `go` on PATH\nhelp: install Go 1.26, see https://go.dev/doc/install"
        );
    }
    debian::install(
        "TinyGo",
        PACKAGES,
        "install TinyGo 0.42 itself instead, see https://tinygo.org/getting-started/install",
    )?;
    build(root, &cache_folder()?)?;
    find().context("TinyGo was built but does not run\nhelp: run `tinygo version` in the cache folder to see why")
}

/// Builds TinyGo in a staging folder and renames it, so that an interrupted build leaves nothing.
fn build(root: &Path, folder: &Path) -> Result<()> {
    let modules = root.join("xtask/tinygo");
    let staging = folder.with_extension(format!("{}.tmp", std::process::id()));
    let _cleanup = RemoveAtEnd(staging.clone());
    fs::create_dir_all(staging.join("bin")).with_context(|| format!("cannot create `{}`", staging.display()))?;

    eprintln!("tinygo: building TinyGo in {} (1 to 3 minutes, once)", folder.display());
    let mut go_build = Command::new("go");
    // CGO finds LLVM through the flags in TinyGo's own binding for this version.
    go_build.current_dir(&modules).env("CGO_ENABLED", "1").args(["build", "-mod=readonly", "-tags=llvm22"]);
    go_build.arg(format!("-ldflags=-s -w -X {MODULE}/goenv.TINYGOROOT={}", folder.display()));
    go_build.arg("-o").arg(staging.join("bin/tinygo")).arg(MODULE);
    command::run_aside(&mut go_build).context(
        "cannot build TinyGo from its Go module\nhelp: is a Go module proxy reachable, and is there a C++ compiler?",
    )?;

    let module =
        command::output(Command::new("go").current_dir(&modules).args(["list", "-m", "-f", "{{.Dir}}", MODULE]))?;
    let goroot = command::output(Command::new("go").args(["env", "GOROOT"]))?;
    let module = Path::new(module.trim());
    for part in ["src", "targets"] {
        copy_folder(&module.join(part), &staging.join(part))?;
    }
    // A submodule that the Go module lacks. TinyGo only checks that it exists.
    copy_folder(&Path::new(goroot.trim()).join("src/net/http"), &staging.join("src/net/http"))?;
    let target = include_str!("../tinygo/wasmop.json").replace("{libc}", LIBC).replace("{builtins}", BUILTINS);
    fs::write(staging.join("wasmop.json"), target)?;

    match fs::rename(&staging, folder) {
        Ok(()) => Ok(()),
        // There is a broken one, or another build was faster.
        Err(_) if find().is_none() => {
            fs::remove_dir_all(folder).with_context(|| format!("cannot replace `{}`", folder.display()))?;
            fs::rename(&staging, folder).with_context(|| format!("cannot create `{}`", folder.display()))
        }
        Err(_) => Ok(()),
    }
}

/// Removes the staging folder when the build ends, in whichever way.
struct RemoveAtEnd(PathBuf);

impl Drop for RemoveAtEnd {
    fn drop(&mut self) {
        // After a success it was renamed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies a folder and makes everything writable, which files in Go's module cache are not.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create `{}`", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("cannot copy `{}`", source.display()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn cache_folder() -> Result<PathBuf> {
    Ok(repository::user_cache()?.join(CACHE_FOLDER))
}

fn runs(program: &Path) -> bool {
    command::succeeds(Command::new(program).arg("version"))
}
