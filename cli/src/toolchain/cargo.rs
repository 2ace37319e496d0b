//! Builds a program of a cargo project for `wasm32-wasip1`, with port rules applied to the crates that need them.
//!
//! The build does not change the project's `Cargo.toml` and `Cargo.lock`. Cargo gets the ported crates as
//! `--config patch…`. From version 1.97 it writes another lock file; before, the build restores the original.

mod detached;
mod drop_in;
mod failed;
mod graph;
mod lock_file;
mod ported;
mod program;
mod program_target;
mod runtime_crate;
mod rustflags;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use semver::Version;
use wasmop_package::manifest::Mode;
use wasmop_package::traps::make_traps;

use self::drop_in::Built;
use self::graph::Graph;
use self::lock_file::LockFile;
use self::ported::Ported;
use self::program_target::ProgramTarget;
use self::rustflags::Rustflags;
use super::port::Port;
use super::{Core, Request, need_sdk_copy, port};
use crate::error::{HelpExt, failure};
use crate::process::Failed;
use crate::project::BuildOptions;

const TARGET: &str = "wasm32-wasip1";

/// The directory with the ported copies, in that of the build.
const PORT_DIR: &str = "port";

/// The size of the shadow stack in bytes. Linear memory has all of it, a snapshot only the used part.
const STACK_BYTES: u32 = 128 << 10;

/// rustc's default. Unoptimized code has large frames.
const DEBUG_STACK_BYTES: u32 = 1 << 20;

/// The export of the crate `wasmop-runtime`. It is in a dependency of the binary, so the linker would drop it.
const STEP_EXPORT: &str = "wasmop:controller/guest@0.1.0#step";

/// The first cargo that supports `resolver.lockfile-path`.
const CARGO_WITH_LOCKFILE_PATH: Version = Version::new(1, 97, 0);

/// Lets the event `start` call the function `main` of a program; see `guest-rust/runtime/src/unmodified.rs`.
const WRAP_MAIN: &str = "--wrap=__main_void";

/// The crate that has `Controller`.
const KUBE_RUNTIME: &str = "kube-runtime";

/// Each round replaces one crate by another version.
const MAX_REPLACED: usize = 16;

/// Builds the project's program.
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
    need_sdk_copy(dir, "Cargo.toml", "rust")?;
    let cargo = Cargo::find(dir)?;
    cargo.need_target(dir)?;

    let known_ports = port::known(dir, &request.project.port)?;
    let mut workspace = cargo.metadata(dir, &["--no-deps".to_owned()])?;
    let work_dir = workspace.target_directory.as_std_path().join("wasmop");
    let package = root_package(&workspace, &manifest)?;
    let mut program = ProgramTarget::choose(package, request.project)?;
    let detached = detached::detach(&workspace, package, &program, &known_ports, &work_dir.join("detached"))?;
    let (dir, manifest) = match &detached {
        Some(dir) => {
            request.step.line("the workspace has crates that wasmop ports: building with their released versions");
            workspace = cargo.metadata(dir, &["--no-deps".to_owned()])?;
            program = program.into_binary();
            (dir.as_path(), dir.join("Cargo.toml"))
        }
        None => (dir, manifest),
    };
    let lock = LockFile::of(&workspace);
    lock.restore()?;

    request.step.message("resolving dependencies");
    let options = &request.project.options;
    let features = features(options);
    let filter = ["--filter-platform", TARGET].map(str::to_owned);
    let metadata = cargo.metadata(dir, &[&filter[..], &features].concat())?;
    let package = root_package(&metadata, &manifest)?;
    let root = package.id.clone();
    let mut graph = Graph::new(&metadata, &root);
    program.need_features(package, graph.features())?;
    let (sdk, unmodified) = program::sdk(&package.name, &graph.reachable())?;
    drop_in::check(request.project, unmodified)?;
    let runtime = runtime_crate::write(&work_dir.join("runtime"))?;
    let build = port::Build { unmodified, runtime: &runtime, drop_in: false };

    let (restored_at_end, lock_arguments) = if cargo.version >= CARGO_WITH_LOCKFILE_PATH {
        let copy = lock.copy_to(&work_dir.join("lock"))?;
        (None, vec!["--config".into(), config("resolver.lockfile-path", &copy)])
    } else {
        (Some(lock.save()?), Vec::new())
    };
    for _ in 0..MAX_REPLACED {
        let replaced = ported::other_versions(&graph, &known_ports, build);
        if replaced.is_empty() {
            break;
        }
        cargo.use_one(dir, &lock_arguments, &replaced)?;
        let lock_arguments = lock_arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        let arguments: Vec<String> = filter.iter().chain(&features).cloned().chain(lock_arguments).collect();
        graph = Graph::new(&cargo.metadata(dir, &arguments)?, &root);
    }

    let compilation = Compilation {
        cargo: &cargo,
        request,
        dir,
        graph: &graph,
        ports: &known_ports,
        copies: work_dir.join(PORT_DIR),
        program: &program,
        common: [&["--manifest-path".into(), manifest.into(), "--target".into(), TARGET.into()][..], &lock_arguments]
            .concat()
            .into_iter()
            .chain(features.iter().map(OsString::from))
            .collect(),
    };
    let has_controller = graph.find(KUBE_RUNTIME, None).is_some();
    let built = if !unmodified {
        Built { module: compilation.run(build)?, mode: Mode::HostDriven, reason: None }
    } else if options.mode == Some(Mode::GuestDriven) || !has_controller {
        let reason = Some(drop_in::no_choice(options));
        Built { module: compilation.run(build)?, mode: Mode::GuestDriven, reason }
    } else {
        drop_in::build(request, |drop_in| compilation.run(port::Build { drop_in, ..build }))?
    };
    drop(restored_at_end);
    let Built { module, mode, reason } = built;
    let blame = Box::new(move |symptom: &str| failed::by_symptom(&graph, unmodified, symptom));
    Ok(Core { module, sdk, mode, mode_reason: reason, unmodified, blame: Some(blame) })
}

/// A build of the project's program from ported crates.
struct Compilation<'a> {
    cargo: &'a Cargo,
    request: &'a Request<'a>,
    /// The directory of the project, or of its copy.
    dir: &'a Path,
    graph: &'a Graph,
    ports: &'a [Port],
    /// The directory of ported copies.
    copies: PathBuf,
    program: &'a ProgramTarget,
    /// The arguments of both `cargo tree` and `cargo rustc`.
    common: Vec<OsString>,
}

impl Compilation<'_> {
    /// Builds the program and returns its module.
    fn run(&self, build: port::Build<'_>) -> Result<Vec<u8>> {
        let Compilation { cargo, request, dir, graph, program, .. } = self;
        let options = &request.project.options;
        let mut common = self.common.clone();
        let ported = ported::port_crates(graph, self.ports, &self.copies, build)?;
        common.extend(ported.iter().flat_map(Ported::arguments));
        let active = cargo.active_features(dir, &common)?;
        if !build.unmodified
            && let Some(failure) = active.iter().find_map(|it| failed::by_features(graph, it))
        {
            return Err(failure.into());
        }

        let mut command = cargo.command(dir);
        command.arg("rustc").args(&common);
        command.args(program.arguments()).args(["--message-format", "json-render-diagnostics"]);
        command.args(profile(options.profile.as_deref(), request.debug));
        // The ported tokio needs no flag.
        set_rustflags(&mut command, request, !build.unmodified && needs_tokio_unstable(&active));
        command.arg("--");
        let stack = if request.debug || options.profile.is_some() { DEBUG_STACK_BYTES } else { STACK_BYTES };
        let mut link_args =
            vec![format!("-zstack-size={stack}"), "--stack-first".to_owned(), format!("--export={STEP_EXPORT}")];
        if build.unmodified {
            link_args.push(WRAP_MAIN.to_owned());
        }
        for link_arg in link_args {
            command.arg("-C").arg(format!("link-arg={link_arg}"));
        }
        let calls_c = |ported: &&Ported| ported.traps && active.iter().any(|it| ported.is(&it.name, &it.version));
        let without_c: Vec<&Ported> = ported.iter().filter(calls_c).collect();
        for ported in &without_c {
            request.step.line(format!("{ported} is built without its C code: a call of it traps"));
        }

        let output = request.run(&mut command).map_err(|error| match error.downcast::<Failed>() {
            Ok(failed) => failed::explain(graph, build.unmodified, &ported, failed),
            Err(error) => error,
        })?;
        let path = program.executable(&output)?;
        let module = fs::read(&path).with_context(|| format!("cannot read the output of cargo: {}", path.display()))?;
        if without_c.is_empty() {
            return Ok(module);
        }
        make_traps(&module).context("the output of cargo is not understood")
    }
}

/// The project's features, as arguments for cargo.
fn features(options: &BuildOptions) -> Vec<String> {
    let mut arguments = Vec::new();
    if !options.default_features {
        arguments.push("--no-default-features".to_owned());
    }
    if !options.features.is_empty() {
        arguments.extend(["--features".to_owned(), options.features.join(",")]);
    }
    arguments
}

/// A crate of a build and its enabled features.
struct ActiveFeatures {
    name: String,
    version: Version,
    features: Vec<String>,
}

/// Parses a line of `cargo tree`: `tokio v1.54.1|rt,time (*)`. A local crate has its path before the bar.
fn parse_tree_line(line: &str) -> Option<ActiveFeatures> {
    let (package, features) = line.rsplit_once('|')?;
    let mut words = package.split(' ');
    let name = words.next()?.to_owned();
    let version = Version::parse(words.next()?.strip_prefix('v')?).ok()?;
    let features = features.trim_end_matches(" (*)").split(',').filter(|name| !name.is_empty());
    Some(ActiveFeatures { name, version, features: features.map(str::to_owned).collect() })
}

/// The features of tokio that build for wasm only with `--cfg tokio_unstable`.
const UNSTABLE_ON_WASM: [&str; 6] = ["fs", "io-std", "net", "process", "rt-multi-thread", "signal"];

/// Whether tokio needs `--cfg tokio_unstable`. Programs often enable all features (`full`) and use few.
fn needs_tokio_unstable(active: &[ActiveFeatures]) -> bool {
    let of_tokio = active.iter().filter(|it| it.name == "tokio");
    of_tokio.flat_map(|it| &it.features).any(|feature| UNSTABLE_ON_WASM.contains(&feature.as_str()))
}

/// Passes the user's rustflags to the compiler, without those for native code.
fn set_rustflags(command: &mut Command, request: &Request<'_>, tokio_unstable: bool) {
    let mut flags = Rustflags::sort(rustflags::configured(request.dir()).unwrap_or_default());
    if !flags.left_out.is_empty() {
        let left_out = flags.left_out.join("` `");
        request.step.line(format!("left out of the configured rustflags, because it is for native code: `{left_out}`"));
    }
    let asked_for = flags.kept.iter().any(|flag| flag.trim_start_matches("--cfg=") == "tokio_unstable");
    if tokio_unstable && !asked_for {
        flags.kept.extend(["--cfg", "tokio_unstable"].map(str::to_owned));
    } else if flags.left_out.is_empty() {
        // Cargo reads them itself.
        return;
    }
    command.env(rustflags::VARIABLE, flags.encoded());
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
        let version = version.with_context(|| format!("unexpected output of `cargo --version`: {text}"))?;
        // A nightly sorts below its release, which is right: it may lack features.
        Ok(Cargo { program, version })
    }

    /// Cargo in the project's directory, where it reads `rust-toolchain.toml`.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(dir);
        command
    }

    /// Checks that the standard library for wasm is installed.
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

    /// The crates of a build for wasm and their features. `cargo metadata` would include those of other targets.
    fn active_features(&self, dir: &Path, common: &[OsString]) -> Result<Vec<ActiveFeatures>> {
        let mut command = self.command(dir);
        command.arg("tree").args(common);
        command.args([
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}|{f}",
            "--color",
            "never",
        ]);
        let text = output_of(&mut command).context("`cargo tree` failed")?;
        Ok(text.lines().filter_map(parse_tree_line).collect())
    }

    /// Locks one of these crates at the version of its rules. Not each can be first: tokio requires a version of
    /// tokio-macros.
    fn use_one(&self, dir: &Path, lock_arguments: &[OsString], replaced: &[(&Package, &Port)]) -> Result<()> {
        let mut last = Ok(());
        for (package, port) in replaced {
            last = self.use_version(dir, lock_arguments, package, &port.version);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Locks a crate at another version.
    fn use_version(&self, dir: &Path, lock_arguments: &[OsString], package: &Package, version: &str) -> Result<()> {
        let spec = format!("{}@{}", package.name, package.version);
        let mut command = self.command(dir);
        command.args(["update", "--package", &spec, "--precise", version]).args(lock_arguments);
        output_of(&mut command).map(drop).or_help(
            format!("wasmop builds `{}` {version} in place of {}, but cannot", package.name, package.version),
            format!("cargo update --package {spec} --precise {version}"),
        )
    }

    fn metadata(&self, dir: &Path, options: &[String]) -> Result<Metadata> {
        MetadataCommand::new()
            .cargo_path(&self.program)
            .current_dir(dir)
            .manifest_path(dir.join("Cargo.toml"))
            .other_options(options.to_vec())
            .exec()
            .map_err(|error| match error {
                cargo_metadata::Error::CargoMetadata { stderr } => anyhow::anyhow!(stderr.trim_end().to_owned()),
                other => other.into(),
            })
            .or_help(
                format!("cargo cannot read the project in {}", dir.display()),
                "correct its Cargo.toml until `cargo metadata` succeeds there",
            )
    }
}

/// The stdout of a command, or its stderr as the error.
fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `key="value"` for `--config`.
fn config(key: &str, path: &Path) -> OsString {
    let value = toml::Value::String(path.to_string_lossy().into_owned());
    format!("{key}={value}").into()
}

/// The build profile: based on the project's own, or wasmop's for small code. Panics abort, since nothing can catch an
/// unwind.
fn profile(own: Option<&str>, debug: bool) -> Vec<OsString> {
    let name = if debug { "wasmop-debug" } else { "wasmop" };
    let inherits = format!("inherits=\"{}\"", own.unwrap_or("release"));
    let mut settings = vec![inherits.as_str(), "panic=\"abort\""];
    if debug {
        settings.extend(["debug=\"line-tables-only\"", "strip=false"]);
    }
    if own.is_none() {
        settings.extend(match debug {
            true => &["opt-level=1", "lto=\"off\""][..],
            false => &["opt-level=\"s\"", "lto=\"off\"", "codegen-units=4", "debug=false", "strip=true"],
        });
    }
    let mut arguments: Vec<OsString> = vec!["--profile".into(), name.into()];
    for setting in settings {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_a_crate_with_its_features() {
        let parsed = |line: &str| parse_tree_line(line).map(|it| (it.name, it.version.to_string(), it.features));
        for (line, expected) in [
            ("tokio v1.54.1|rt,time", Some(("tokio", "1.54.1", vec!["rt", "time"]))),
            ("tokio v1.54.1|rt (*)", Some(("tokio", "1.54.1", vec!["rt"]))),
            ("fcrs v0.1.0 (/a|b/fcrs)|", Some(("fcrs", "0.1.0", vec![]))),
            ("", None),
            ("[build-dependencies]", None),
        ] {
            let expected = expected.map(|(name, version, features): (&str, &str, Vec<&str>)| {
                (name.to_owned(), version.to_owned(), features.into_iter().map(str::to_owned).collect())
            });
            assert_eq!(parsed(line), expected, "{line}");
        }
    }

    #[test]
    fn tokio_is_unstable_only_with_features_that_wasm_lacks() {
        for (line, expected) in [
            ("tokio v1.54.1|default,macros,rt,sync,time", false),
            ("tokio v1.54.1|full,fs,net,rt", true),
            ("other v1.0.0|net", false),
        ] {
            assert_eq!(needs_tokio_unstable(&[parse_tree_line(line).expect("a crate")]), expected, "{line}");
        }
    }

    #[test]
    fn a_profile_of_the_project_keeps_what_it_says() {
        let text = |own, debug| {
            profile(own, debug).iter().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert!(text(None, false).contains("inherits=\"release\"") && text(None, false).contains("opt-level=\"s\""));
        assert!(text(Some("dist"), false).contains("inherits=\"dist\""));
        assert!(!text(Some("dist"), false).contains("opt-level") && !text(Some("dist"), false).contains("strip"));
        assert!(text(Some("dist"), true).contains("strip=false"));
    }

    #[test]
    fn a_path_is_quoted_for_config() {
        let argument = config("patch.crates-io.kube-client.path", Path::new(r#"/a "b"\c"#));
        let text = argument.to_str().expect("text");
        let parsed: toml::Table = text.parse().expect("TOML");
        assert_eq!(parsed["patch"]["crates-io"]["kube-client"]["path"].as_str(), Some(r#"/a "b"\c"#));
    }
}
