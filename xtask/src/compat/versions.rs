//! The versions that are tried, and the project for each.

use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

const VERSIONS: &str = include_str!("../../compat/versions.toml");

/// `xtask/compat/versions.toml`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Versions {
    kube: Vec<Kube>,
    controller_runtime: Vec<ControllerRuntime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kube {
    version: String,
    k8s_openapi: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ControllerRuntime {
    version: String,
    client_go: String,
    /// The language version in go.mod.
    go: String,
}

/// One build.
pub enum Trial {
    Kube(Kube),
    ControllerRuntime(ControllerRuntime),
}

/// All of them, in the order of the file.
///
/// # Errors
///
/// The file is malformed.
pub fn all() -> Result<Vec<Trial>> {
    let Versions { kube, controller_runtime } = toml::from_str(VERSIONS).context("xtask/compat/versions.toml")?;
    let go = controller_runtime.into_iter().map(Trial::ControllerRuntime);
    Ok(kube.into_iter().map(Trial::Kube).chain(go).collect())
}

impl Trial {
    /// The framework and its version; also the folder.
    pub fn name(&self) -> String {
        format!("{}-{}", self.framework(), self.version())
    }

    pub fn framework(&self) -> &'static str {
        match self {
            Trial::Kube(_) => "kube",
            Trial::ControllerRuntime(_) => "controller-runtime",
        }
    }

    pub fn version(&self) -> &str {
        match self {
            Trial::Kube(kube) => &kube.version,
            Trial::ControllerRuntime(runtime) => &runtime.version,
        }
    }

    /// What the framework is used with.
    pub fn companion(&self) -> String {
        match self {
            Trial::Kube(kube) => format!("k8s-openapi {}", kube.k8s_openapi),
            Trial::ControllerRuntime(runtime) => format!("client-go {}", runtime.client_go),
        }
    }

    /// The files of the project, by their paths in it.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        match self {
            Trial::Kube(kube) => vec![
                ("wasmop.toml", project_file("rust")),
                (
                    "Cargo.toml",
                    include_str!("../../compat/rust/Cargo.toml.template")
                        .replace("K8S_OPENAPI", &kube.k8s_openapi)
                        .replace("KUBE", &kube.version),
                ),
                ("src/main.rs", include_str!("../../compat/rust/src/main.rs").into()),
            ],
            Trial::ControllerRuntime(runtime) => vec![
                ("wasmop.toml", project_file("go")),
                (
                    "go.mod",
                    include_str!("../../compat/go/go.mod.template")
                        .replace("CONTROLLER_RUNTIME", &runtime.version)
                        .replace("CLIENT_GO", &runtime.client_go)
                        .replace("GO\n", &format!("{}\n", runtime.go)),
                ),
                ("main.go", include_str!("../../compat/go/main.go").into()),
            ],
        }
    }

    /// The command that resolves the dependencies.
    pub fn resolve(&self) -> Command {
        let mut command = Command::new(match self {
            Trial::Kube(_) => "cargo",
            Trial::ControllerRuntime(_) => "go",
        });
        match self {
            Trial::Kube(_) => command.args(["update", "--quiet"]),
            Trial::ControllerRuntime(_) => command.args(["mod", "tidy"]),
        };
        command
    }
}

fn project_file(language: &str) -> String {
    format!(
        r#"[package]
name = "labeller"
version = "0.1.0"
language = "{language}"

[[permissions]]
api-groups = [""]
resources = ["configmaps"]
verbs = ["get", "list", "watch", "patch"]

[[permissions]]
api-groups = [""]
resources = ["secrets"]
verbs = ["get", "list", "watch"]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_replaced() {
        for trial in all().unwrap() {
            let files = trial.files();
            let (_, manifest) = &files[1];
            assert!(manifest.contains(trial.version()), "{manifest}");
            for placeholder in ["KUBE", "K8S_OPENAPI", "GO\n", "CLIENT_GO", "CONTROLLER_RUNTIME"] {
                assert!(!manifest.contains(placeholder), "{placeholder} in {manifest}");
            }
        }
    }
}
