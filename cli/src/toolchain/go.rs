//! Builds the main package of a Go project with mainline Go as a WASI reactor.
//!
//! `-buildmode=c-shared` makes a module that the host initialises once and then calls. The SDK starts `main` itself and
//! gets the next timer from the runtime, both through `//go:linkname`. That needs `-checklinkname=0`.
//!
//! A project without the SDK is built unchanged, see [`guest_driven`].

mod failed_build;
mod guest_driven;
mod overlay;
mod packages;
mod port_rules;
mod trim;
mod workspace;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use semver::Version;
use serde::Deserialize;
use wasmop_package::manifest::{Mode, Sdk};

use super::{Core, Request, need_sdk_copy};
use crate::error::{HelpExt, failure};

pub(super) use self::failed_build::explain;
use self::guest_driven::Port;
pub(super) use self::workspace::GoCommand;

/// The first Go whose runtime counts runnable goroutines, by which the SDK detects the end of a step.
const OLDEST_GO: Version = Version::new(1, 26, 0);

/// The module path of the SDK that a project must require.
const SDK_MODULE: &str = "github.com/wasmop/wasmop/guest-go";

/// Builds the project's main package.
pub fn build_core(request: &Request<'_>) -> Result<Core> {
    need_go_mod(request.dir())?;
    let go = find_go(request)?;
    let version = go_version(&go)?;
    if version < OLDEST_GO {
        return Err(failure(
            format!("Go {version} is too old for wasmop"),
            format!("install Go {}.{} or later, see https://go.dev/doc/install", OLDEST_GO.major, OLDEST_GO.minor),
        )
        .into());
    }
    request.step.message("resolving modules");
    let own = OwnFlags::of(request, &go)?;
    let package = package_argument(&request.project.package);
    let (sdk, mode, port) = match find_sdk(&go)? {
        Some(sdk) => (sdk, Mode::HostDriven, None),
        None => {
            let trimmed = request.project.options.trim;
            let (sdk, port) = Port::prepare(&go, &version, &package, &own.tags, trimmed, &request.work_dir()?)?;
            port.kept.iter().for_each(|line| request.step.line(line));
            (sdk, Mode::GuestDriven, Some(port))
        }
    };

    let path = request.work_dir()?.join(format!("{}.core.wasm", request.project.name));
    let mut command = port.as_ref().map_or_else(|| go.command(), |port| port.command(&go));
    command.env("GOOS", "wasip1").env("GOARCH", "wasm");
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]);
    command.args(port.as_ref().map(Port::argument));
    // Without this flag, Go uses the tags of GOFLAGS.
    if !request.project.options.tags.is_empty() {
        command.arg(format!("-tags={}", own.tags));
    }
    // Our flags come last and take precedence. Go ignores a -ldflags in GOFLAGS if this one is given.
    let ours = if request.debug { "-checklinkname=0" } else { "-s -w -checklinkname=0" };
    command.arg(format!("-ldflags={}", format!("{} {ours}", own.ldflags).trim_start()));
    command.arg("-o").arg(&path).arg(&package);
    request.step.message("compiling");
    request.run(&mut command).map_err(|error| explain(&go, &package, error))?;
    let module = fs::read(&path).with_context(|| format!("cannot read the output of go: {}", path.display()))?;
    let unmodified = port.is_some();
    Ok(Core { module, sdk, mode, mode_reason: None, unmodified, blame: None })
}

/// The user's flags, from `wasmop.toml` or the command line, else from `GOFLAGS`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnFlags {
    /// Separated by commas.
    pub tags: String,
    pub ldflags: String,
}

impl OwnFlags {
    /// The flags for one build.
    pub fn of(request: &Request<'_>, go: &GoCommand<'_>) -> Result<OwnFlags> {
        // This includes values of `go env -w`.
        let goflags = output_of(go.command().args(["env", "GOFLAGS"]))?;
        let options = &request.project.options;
        let tags = match options.tags.is_empty() {
            false => options.tags.join(","),
            true => in_goflags(goflags.trim(), "tags").unwrap_or_default(),
        };
        let ldflags = options.ldflags.clone().or_else(|| in_goflags(goflags.trim(), "ldflags")).unwrap_or_default();
        Ok(OwnFlags { tags, ldflags: without_pattern(&ldflags).to_owned() })
    }
}

/// The value of a flag in `GOFLAGS`, the last one if there are several.
fn in_goflags(goflags: &str, flag: &str) -> Option<String> {
    let entries = split_quoted(goflags);
    let mut values = entries.iter().filter_map(|entry| {
        let (name, value) = entry.trim_start_matches('-').split_once('=')?;
        (name == flag).then(|| value.to_owned())
    });
    values.next_back()
}

/// Splits at spaces as the go command does: only an entry that begins with a quote is quoted, up to the next quote. Not
/// shlex: a shell also has quotes inside a word, and backslashes, which `go env` passes on.
fn split_quoted(text: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (entry, after) = match first {
            '\'' | '"' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        entries.push(entry.to_owned());
        rest = after.trim_start();
    }
    entries
}

/// `-ldflags` may begin with a pattern of packages: `all=-X main.version=1`. A controller is one program.
fn without_pattern(flags: &str) -> &str {
    let flags = flags.trim();
    if flags.starts_with(['-', '\'', '"']) { flags } else { flags.split_once('=').map_or(flags, |(_, flags)| flags) }
}

/// Checks that the project is a Go module.
pub(super) fn need_go_mod(dir: &Path) -> Result<()> {
    need_sdk_copy(dir, "go.mod", "go")?;
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

fn how_to_get_go() -> String {
    format!(
        "install Go {}.{} or later (https://go.dev/doc/install) and put it on the PATH",
        OLDEST_GO.major, OLDEST_GO.minor
    )
}

/// The go command for a build. Prints a notice if it switches a workspace off.
pub(super) fn find_go<'a>(request: &Request<'a>) -> Result<GoCommand<'a>> {
    let go = GoCommand::find(request.project.dir())?;
    if let Some(notice) = go.notice() {
        request.step.line(notice);
    }
    Ok(go)
}

/// The version of Go in the project, which a `toolchain` line can select.
fn go_version(go: &GoCommand<'_>) -> Result<Version> {
    let text = output_of(go.command().args(["env", "GOVERSION"])).or_help("cannot run `go`", how_to_get_go())?;
    parse_go_version(text.trim()).with_context(|| format!("unexpected output of `go env GOVERSION`: {text}"))
}

/// `go1.26.8`, `go1.27rc1` or `devel go1.28-abcdef …`. Ignores everything after the numbers.
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

/// The SDK in the project's go.mod, which must be there.
pub(super) fn sdk_of(go: &GoCommand<'_>) -> Result<Sdk> {
    find_sdk(go)?.ok_or_else(|| {
        failure(
            format!("the project does not require the module {SDK_MODULE}"),
            "`wasmop new` shows a project that has it; `toolchain = \"go\"` in [build] of wasmop.toml builds one without it",
        )
        .into()
    })
}

/// The SDK in the project's go.mod, if it has one.
fn find_sdk(go: &GoCommand<'_>) -> Result<Option<Sdk>> {
    #[derive(Deserialize)]
    struct Module {
        #[serde(rename = "Version", default)]
        version: String,
    }
    // With `-mod=mod`, it could change go.mod.
    let mut list = go.command();
    list.args(["list", "-mod=readonly", "-m", "-json", SDK_MODULE]);
    let text = match output_of(&mut list) {
        Err(error) if error.to_string().contains("not a known dependency") => return Ok(None),
        Err(error) => {
            let text = error.to_string();
            let (problem, help) = failed_build::help_on_modules(&text).unwrap_or_else(|| {
                let problem = format!("the modules of the project cannot be loaded: {text}");
                (problem, "`go mod tidy` completes a go.mod".to_owned())
            });
            return Err(failure(problem, help).into());
        }
        Ok(text) => text,
    };
    let module: Module = serde_json::from_str(&text).context("unexpected output of `go list -m -json`")?;
    let version = module.version.strip_prefix('v').unwrap_or(&module.version);
    // In the SDK's own repository it is the main module or in a workspace, without a version.
    let version = if version.is_empty() { env!("CARGO_PKG_VERSION") } else { version };
    Ok(Some(Sdk::new(SDK_MODULE, version)))
}

/// A directory as an argument for go, for which `cmd/x` alone is a package of the standard library.
pub(super) fn package_argument(package: &str) -> String {
    if package.starts_with('.') || package.starts_with('/') { package.to_owned() } else { format!("./{package}") }
}

/// The stdout of a command, or its stderr as the error.
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
    fn go_versions_of_every_kind_are_parsed() {
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
    fn flags_are_found_in_goflags_with_any_quotes() {
        for (goflags, tags, ldflags) in [
            ("", None, None),
            ("-mod=mod -tags=a,b", Some("a,b"), None),
            ("--tags=a -tags=b '-ldflags=-s -X main.version=1.2'", Some("b"), Some("-s -X main.version=1.2")),
            ("\"-ldflags=-X 'main.name=a b'\" -v", None, Some("-X 'main.name=a b'")),
            ("'-tags=unfinished", Some("unfinished"), None),
        ] {
            assert_eq!(in_goflags(goflags, "tags").as_deref(), tags, "{goflags}");
            assert_eq!(in_goflags(goflags, "ldflags").as_deref(), ldflags, "{goflags}");
        }
    }

    #[test]
    fn a_pattern_before_linker_flags_is_dropped() {
        for (flags, expected) in [("-X a=b", "-X a=b"), ("all=-X a=b", "-X a=b"), ("", ""), ("'-X a=b'", "'-X a=b'")] {
            assert_eq!(without_pattern(flags), expected);
        }
    }

    #[test]
    fn a_directory_is_never_a_package_of_the_standard_library() {
        assert_eq!(package_argument("cmd/manager"), "./cmd/manager");
        assert_eq!(package_argument("."), ".");
        assert_eq!(package_argument("../guest"), "../guest");
    }
}
