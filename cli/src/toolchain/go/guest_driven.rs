//! Builds a program that does not use the SDK: an operator with controller-runtime or client-go, as it is.
//!
//! Its own informers and work queues run in the guest. Port rules give it a standard library whose requests, timers,
//! files and start are those of the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use semver::Version;
use wasmop_package::manifest::Sdk;

use super::overlay::{Overlay, make_link};
use super::packages::{Packages, is_cached};
use super::{GoCommand, SDK_MODULE, output_of, port_rules, trim};
use crate::error::{HelpExt, failure};

/// The modules by which a program is a controller, the more specific one first.
const LIBRARIES: [&str; 2] = ["sigs.k8s.io/controller-runtime", "k8s.io/client-go"];

/// How to build a program without the SDK.
#[derive(Debug)]
pub struct Port {
    overlay: PathBuf,
    /// The directory of Go, if it must be used under another name.
    goroot: Option<PathBuf>,
    /// What could not be left out of the program, for people.
    pub kept: Vec<String>,
}

impl Port {
    /// Writes the overlay for the main package `package` below `work_dir`. Also returns the library that the program
    /// uses as its SDK.
    ///
    /// `tags` are those of the build, separated by commas. `trimmed`: leaves out what the program cannot use.
    pub fn prepare(
        go: &GoCommand<'_>,
        version: &Version,
        package: &str,
        tags: &str,
        trimmed: bool,
        work_dir: &Path,
    ) -> Result<(Sdk, Port)> {
        let mut list = go.command();
        list.env("GOOS", "wasip1").env("GOARCH", "wasm").args([
            "list",
            "-deps",
            "-e",
            "-json=ImportPath,Name,Dir,GoFiles,Imports,Module",
        ]);
        let text = output_of(list.arg(format!("-tags={tags}")).arg(package)).or_help(
            format!("cannot list the packages of `{package}`"),
            "its go.mod may be incomplete: `go mod tidy` completes it",
        )?;
        let packages = Packages::parse(&text)?;
        let sdk = library(&packages, package)?;

        let cache = PathBuf::from(output_of(go.command().args(["env", "GOMODCACHE"]))?.trim());
        let dir = work_dir.join("port");
        let found = PathBuf::from(output_of(go.command().args(["env", "GOROOT"]))?.trim());
        // A Go that was selected by a `toolchain` line is in the module cache, whose files go refuses to replace.
        let goroot = is_cached(&found, &cache).then(|| dir.join("goroot"));
        if let Some(link) = &goroot {
            make_link(&found, link)?;
        }
        let src = goroot.as_ref().unwrap_or(&found).join("src");

        let mut overlay = Overlay::new(dir, cache);
        overlay.add_abi(&src)?;
        let called = format!("Go {version}");
        for rule in port_rules::all()? {
            if let Some(module) = &rule.module {
                overlay.port_module(&rule, module, &packages)?;
            } else {
                rule.need_go(version)?;
                overlay.port_std(&rule, &src, &called)?;
            }
        }
        let kept = if trimmed { trim::trim(&mut overlay, &packages, version)? } else { Vec::new() };
        Ok((sdk, Port { overlay: overlay.finish(go)?, goroot, kept }))
    }

    /// The go command for the build.
    pub fn command(&self, go: &GoCommand<'_>) -> Command {
        let Some(goroot) = &self.goroot else { return go.command() };
        let mut command = Command::new(goroot.join("bin/go"));
        go.prepare(&mut command);
        // Otherwise it would run the same Go again, under the name in the module cache.
        command.env("GOROOT", goroot).env("GOTOOLCHAIN", "local");
        command
    }

    /// The argument with the overlay.
    pub fn argument(&self) -> String {
        format!("-overlay={}", self.overlay.display())
    }
}

/// The library that makes the program a controller.
fn library(packages: &Packages, package: &str) -> Result<Sdk> {
    let module = LIBRARIES.iter().find_map(|path| packages.module(path)).ok_or_else(|| {
        failure(
            format!("`{package}` is not a controller: it imports neither {SDK_MODULE}, nor {}", LIBRARIES.join(" or ")),
            "name the controller's main package with `package` in [build] of wasmop.toml; `wasmop new` makes a new controller",
        )
    })?;
    let version = module.source_version();
    let version = if version.is_empty() { &module.version } else { version };
    Ok(Sdk::new(&module.path, version.trim_start_matches('v')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(modules: &[(&str, &str)]) -> Packages {
        let package = |(path, version): &(&str, &str)| {
            format!(r#"{{"ImportPath": "{path}/pkg", "Module": {{"Path": "{path}", "Version": "{version}"}}}}"#)
        };
        Packages::parse(&modules.iter().map(package).collect::<String>()).expect("parsed")
    }

    #[test]
    fn the_sdk_is_the_most_specific_library() {
        let [runtime, client] = [("sigs.k8s.io/controller-runtime", "v0.25.2"), ("k8s.io/client-go", "v0.37.2")];
        for (modules, sdk) in [
            (&[client, runtime][..], Sdk::new("sigs.k8s.io/controller-runtime", "0.25.2")),
            (&[client], Sdk::new("k8s.io/client-go", "0.37.2")),
        ] {
            assert_eq!(library(&packages(modules), ".").expect("found"), sdk);
        }
        let error = library(&packages(&[("example.com/a", "v1.0.0")]), "./cmd").expect_err("an error").to_string();
        assert!(error.contains("`./cmd`") && error.contains("controller-runtime"), "{error}");
    }
}
