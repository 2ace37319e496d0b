//! Builds a Go project with TinyGo. Modules have a seventh of the size and a tenth of the memory of mainline Go, but
//! only a part of the standard library.
//!
//! TinyGo comes from the PATH or from the cache directory of `cargo xtask setup --tinygo`. That directory has
//! `bin/tinygo`, and a target file `wasmop.json`, which links the system's libc because that build has none.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use semver::Version;
use wasmop_package::manifest::Mode;

use super::go::{OwnFlags, explain, find_go, need_go_mod, output_of, package_argument, sdk_of};
use super::{Core, Request};
use crate::error::{HelpExt, failure};

/// The oldest TinyGo whose scheduler the SDK supports.
const OLDEST_TINYGO: Version = Version::new(0, 42, 0);

/// Below the user's cache directory. xtask/src/tinygo.rs writes it.
const CACHE_DIR: &str = "wasmop/tinygo-0.42.0";

const HOW_TO_GET: &str = "install TinyGo 0.42 or later (https://tinygo.org/getting-started/install) and put it on the PATH;\n\
     in a checkout of wasmop, `cargo xtask setup --tinygo` builds it\n\
     or use mainline Go: toolchain = \"go\" in wasmop.toml";

/// Builds the project's main package.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    need_go_mod(request.dir())?;
    let tinygo = TinyGo::find()?;
    request.step.message("resolving modules");
    let go = find_go(request)?;
    let sdk = sdk_of(&go)?;

    let path = request.work_dir()?.join(format!("{}.core.wasm", request.project.name));
    let mut command = Command::new(&tinygo.program);
    go.prepare(&mut command);
    command.arg("build").arg("-target").arg(&tinygo.target);
    // The SDK needs this collector and scheduler. They are the target's defaults, which a user's TinyGo may change.
    command.args(["-buildmode=c-shared", "-scheduler=asyncify", "-gc=precise", "-panic=print", "-opt=2"]);
    if !request.debug {
        command.arg("-no-debug");
    }
    let own = OwnFlags::of(request, &go)?;
    if !own.tags.is_empty() {
        command.arg("-tags").arg(own.tags.replace(',', " "));
    }
    let ldflags = without_strip(&own.ldflags);
    if !ldflags.is_empty() {
        command.arg("-ldflags").arg(ldflags);
    }
    let package = package_argument(&request.project.package);
    command.arg("-o").arg(&path).arg(&package);
    request.step.message("compiling");
    request.run(&mut command).map_err(|error| explain(&go, &package, error))?;
    let module = fs::read(&path).with_context(|| format!("cannot read the output of tinygo: {}", path.display()))?;
    Ok(Core { module, sdk, mode: Mode::HostDriven, mode_reason: None, unmodified: false, blame: None })
}

/// Removes Go's `-s` and `-w`, which TinyGo does not support. `-no-debug` does the same.
fn without_strip(ldflags: &str) -> String {
    ldflags.split(' ').filter(|flag| !flag.is_empty() && *flag != "-s" && *flag != "-w").collect::<Vec<_>>().join(" ")
}

/// The TinyGo to use.
struct TinyGo {
    program: PathBuf,
    /// A name or a file, for `-target`.
    target: OsString,
}

impl TinyGo {
    /// Looks on the PATH, then in the cache directory.
    fn find() -> Result<TinyGo> {
        let cached = cache_dir();
        let on_path = PathBuf::from("tinygo");
        let (program, text) = match version_text(&on_path) {
            Ok(text) => (on_path, text),
            Err(missing) => {
                let program = cached.as_deref().map(|dir| dir.join("bin/tinygo")).filter(|file| file.is_file());
                let Some(program) = program else {
                    return Err(missing).or_help("cannot run `tinygo`", HOW_TO_GET);
                };
                let text = version_text(&program).or_help(
                    format!("cannot run `{}`", program.display()),
                    "`cargo xtask setup --tinygo` builds it again",
                )?;
                (program, text)
            }
        };
        let version = parse_version(&text)
            .with_context(|| format!("unexpected output of `{} version`: {text}", program.display()))?;
        if version < OLDEST_TINYGO {
            return Err(failure(format!("TinyGo {version} is too old for wasmop"), HOW_TO_GET).into());
        }
        let root = output_of(Command::new(&program).args(["env", "TINYGOROOT"]))
            .with_context(|| format!("`{} env` failed", program.display()))?;
        let target = if has_libc(Path::new(root.trim())) {
            "wasip1".into()
        } else if let Some(file) = cached.map(|dir| dir.join("wasmop.json")).filter(|file| file.is_file()) {
            file.into()
        } else {
            return Err(failure(
                format!("this TinyGo has no wasi-libc in `{}`", root.trim()),
                "use a complete TinyGo, or `cargo xtask setup --tinygo` in a checkout of wasmop",
            )
            .into());
        };
        Ok(TinyGo { program, target })
    }
}

/// Whether TinyGo can link its wasip1 target: it has libc as sources or as a built library.
fn has_libc(root: &Path) -> bool {
    root.join("lib/wasi-libc/libc-top-half").is_dir() || root.join("lib/wasi-libc/sysroot").is_dir()
}

fn version_text(program: &Path) -> Result<String> {
    output_of(Command::new(program).arg("version"))
}

/// `tinygo version 0.42.0 linux/amd64 (using go version …)`; a development build is `0.43.0-dev-…`.
fn parse_version(text: &str) -> Option<Version> {
    let mut version = Version::parse(text.split_whitespace().nth(2)?).ok()?;
    version.pre = semver::Prerelease::EMPTY;
    Some(version)
}

fn cache_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join(CACHE_DIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_flags_are_limited_to_those_of_tinygo() {
        for (flags, expected) in [("", ""), ("-s -w", ""), ("-s -X main.version=1 -w", "-X main.version=1")] {
            assert_eq!(without_strip(flags), expected);
        }
    }

    #[test]
    fn releases_and_development_builds_of_tinygo_are_understood() {
        for (text, version) in [
            ("tinygo version 0.42.0 linux/amd64 (using go version go1.26.8 and LLVM version 22.1.8)", Some((0, 42, 0))),
            ("tinygo version 0.43.0-dev-0123abc darwin/arm64 (using go version go1.27.0)", Some((0, 43, 0))),
            ("tinygo", None),
        ] {
            let expected = version.map(|(major, minor, patch)| Version::new(major, minor, patch));
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }
}
