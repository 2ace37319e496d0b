//! From a Go project to its core module: the main package built by mainline Go as a WASI reactor.
//!
//! `-buildmode=c-shared` makes a module that is initialised once and then called, which is what a
//! guest is. The SDK starts `main` itself and asks the runtime for the next timer, both through
//! `//go:linkname`; hence `-checklinkname=0`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use semver::Version;
use serde::Deserialize;
use wasmop_package::manifest::Sdk;

use super::{Core, Request};
use crate::error::{HelpExt, failure};

/// The first Go whose runtime counts runnable goroutines, which tells the SDK that a step is over.
const OLDEST_GO: Version = Version::new(1, 26, 0);

/// The module path of the SDK that a project must require.
const SDK_MODULE: &str = "github.com/wasmop/wasmop/guest-go";

/// Builds the project's main package.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    need_go_mod(request.dir())?;
    let version = go_version(request.dir())?;
    if version < OLDEST_GO {
        return Err(failure(
            format!("Go {version} is too old for wasmop"),
            format!("install Go {}.{} or later, see https://go.dev/doc/install", OLDEST_GO.major, OLDEST_GO.minor),
        )
        .into());
    }
    request.step.message("resolving modules");
    let sdk = sdk_of(request.dir())?;

    let path = request.work_dir()?.join(format!("{}.core.wasm", request.project.name));
    let mut command = Command::new("go");
    command.current_dir(request.dir()).env("GOOS", "wasip1").env("GOARCH", "wasm");
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]);
    command.arg(if request.debug { "-ldflags=-checklinkname=0" } else { "-ldflags=-s -w -checklinkname=0" });
    command.arg("-o").arg(&path).arg(package_argument(&request.project.package));
    request.step.message("compiling");
    request.run(&mut command)?;
    let module = fs::read(&path).with_context(|| format!("cannot read what go built: {}", path.display()))?;
    Ok(Core { module, sdk })
}

/// That the project is a Go module.
pub(super) fn need_go_mod(dir: &Path) -> Result<()> {
    // The module's root may be above the project.
    if dir.ancestors().any(|dir| dir.join("go.mod").is_file()) {
        return Ok(());
    }
    Err(failure(
        format!("there is no go.mod in `{}`", dir.display()),
        "wasmop.toml says language = \"go\": put it beside the go.mod of the controller, or run `go mod init`",
    )
    .into())
}

/// The version of the Go that builds in `dir`, where a `toolchain` line counts.
pub(super) fn go_version(dir: &Path) -> Result<Version> {
    let text = output_of(Command::new("go").current_dir(dir).args(["env", "GOVERSION"])).or_help(
        "cannot run `go`",
        format!(
            "install Go {}.{} or later (https://go.dev/doc/install) and put it on the PATH",
            OLDEST_GO.major, OLDEST_GO.minor
        ),
    )?;
    parse_go_version(text.trim()).with_context(|| format!("`go env GOVERSION` says something unexpected: {text}"))
}

/// `go1.26.8`, `go1.27rc1`, or `devel go1.28-abcdef …`; what follows the numbers is left out.
fn parse_go_version(text: &str) -> Option<Version> {
    let numbers = text.split_once("go1.")?.1;
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    let minor = parts.next()?.parse().ok()?;
    let patch = match numbers.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('.') {
        Some(_) => parts.next()?.parse().ok()?,
        None => 0,
    };
    Some(Version::new(1, minor, patch))
}

/// The SDK the project requires, as its go.mod has it.
pub(super) fn sdk_of(dir: &Path) -> Result<Sdk> {
    #[derive(Deserialize)]
    struct Module {
        #[serde(rename = "Version", default)]
        version: String,
    }
    // `-mod=mod` would let it change go.mod, which a build must not.
    let mut list = Command::new("go");
    list.current_dir(dir).args(["list", "-mod=readonly", "-m", "-json", SDK_MODULE]);
    let text = output_of(&mut list).or_help(
        format!("the project does not require the module {SDK_MODULE}, or its go.mod is broken"),
        "`wasmop new` shows a project that has it; `go mod tidy` completes a go.mod",
    )?;
    let module: Module = serde_json::from_str(&text).context("`go list -m -json` says something unexpected")?;
    let version = module.version.strip_prefix('v').unwrap_or(&module.version);
    // The SDK's own repository has it as the main module or in a workspace, without a version.
    let version = if version.is_empty() { env!("CARGO_PKG_VERSION") } else { version };
    Ok(Sdk::new(SDK_MODULE, version))
}

/// A folder as the go command takes it: `cmd/x` alone would mean a package of the standard library.
pub(super) fn package_argument(package: &str) -> String {
    if package.starts_with('.') || package.starts_with('/') { package.to_owned() } else { format!("./{package}") }
}

/// What a command prints; an error with what it says if it fails.
pub(super) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_of_every_kind_are_understood() {
        for (text, version) in [
            ("go1.26.8", Some(Version::new(1, 26, 8))),
            ("go1.27", Some(Version::new(1, 27, 0))),
            ("go1.27rc2", Some(Version::new(1, 27, 0))),
            ("devel go1.28-0123abc Tue Nov", Some(Version::new(1, 28, 0))),
            ("gccgo 12", None),
            ("", None),
        ] {
            assert_eq!(parse_go_version(text), version, "{text}");
        }
    }

    #[test]
    fn a_folder_is_never_taken_for_a_package_of_the_standard_library() {
        assert_eq!(package_argument("cmd/manager"), "./cmd/manager");
        assert_eq!(package_argument("."), ".");
        assert_eq!(package_argument("../guest"), "../guest");
    }
}
