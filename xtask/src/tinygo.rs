//! From a machine with Go to one with a TinyGo that builds wasmop's guests.
//!
//! A TinyGo on the PATH is taken as it is. Otherwise one is built from its Go module (pinned in
//! xtask/tinygo/go.mod) against Debian's LLVM, into the user's cache folder, so that every checkout
//! shares it:
//!
//! ```text
//! $XDG_CACHE_HOME/wasmop/tinygo-0.42.0/
//!     bin/tinygo  src/  targets/   what TinyGo calls TINYGOROOT
//!     wasmop.json                  the wasip1 target, linking Debian's libc: the module's zip lacks
//!                                  the libc sources a release has
//! ```
//!
//! `wasmop build` looks in the same places (cli/src/toolchain/tinygo.rs).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, debian, repository};

const MODULE: &str = "github.com/tinygo-org/tinygo";

/// The folder below wasmop's in the user's cache folder.
const CACHE_FOLDER: &str = "tinygo-0.42.0";

/// What TinyGo is built with and needs at run time: Debian's packages, and a file each brings.
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

/// The TinyGo that `wasmop build` would use, if there is one.
pub fn find() -> Option<PathBuf> {
    if runs(Path::new("tinygo")) {
        return Some("tinygo".into());
    }
    let folder = cache_folder().ok()?;
    let program = folder.join("bin/tinygo");
    (folder.join("wasmop.json").is_file() && runs(&program)).then_some(program)
}

/// Why there is no TinyGo, if there is none. On a CI machine it is built, elsewhere only looked
/// for: building it installs packages.
pub fn missing() -> Option<String> {
    if find().is_some() {
        return None;
    }
    if std::env::var_os("CI").is_none_or(|value| value.is_empty()) {
        return Some("TinyGo is neither on PATH nor built (cargo xtask setup --tinygo)".into());
    }
    ensure(repository::root())
        .err()
        .map(|error| format!("TinyGo cannot be had: {}", format!("{error:#}").lines().next().unwrap_or_default()))
}

/// Finds TinyGo or builds it; an error says why it can't be had. `root` is the repository.
pub fn ensure(root: &Path) -> Result<PathBuf> {
    if let Some(program) = find() {
        return Ok(program);
    }
    if !command::succeeds(Command::new("go").arg("version")) {
        bail!(
            "TinyGo is built with Go, and there is no `go` on the PATH\nhelp: install Go 1.26, see https://go.dev/doc/install"
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

/// Builds TinyGo and makes its folder; atomic, so that an interrupted build is none.
fn build(root: &Path, folder: &Path) -> Result<()> {
    let modules = root.join("xtask/tinygo");
    let staging = folder.with_extension(format!("{}.tmp", std::process::id()));
    let _cleanup = RemoveAtEnd(staging.clone());
    fs::create_dir_all(staging.join("bin")).with_context(|| format!("cannot make `{}`", staging.display()))?;

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
    // A submodule that the module's zip lacks; TinyGo only needs to see that it is there.
    copy_folder(&Path::new(goroot.trim()).join("src/net/http"), &staging.join("src/net/http"))?;
    let target = include_str!("../tinygo/wasmop.json").replace("{libc}", LIBC).replace("{builtins}", BUILTINS);
    fs::write(staging.join("wasmop.json"), target)?;

    match fs::rename(&staging, folder) {
        Ok(()) => Ok(()),
        // An older, broken one; or another build that was faster.
        Err(_) if find().is_none() => {
            fs::remove_dir_all(folder).with_context(|| format!("cannot replace `{}`", folder.display()))?;
            fs::rename(&staging, folder).with_context(|| format!("cannot make `{}`", folder.display()))
        }
        Err(_) => Ok(()),
    }
}

/// Removes the staging folder however the build ends.
struct RemoveAtEnd(PathBuf);

impl Drop for RemoveAtEnd {
    fn drop(&mut self) {
        // Usually it has been renamed away.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies a folder; everything becomes writable, which files in Go's module cache are not.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make `{}`", to.display()))?;
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
