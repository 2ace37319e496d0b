//! The keys of `wasmop.toml`, as a checked [`Project`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use wasmop_package::external::HostPattern;
use wasmop_package::manifest::{Language, Limits, Mode, Toolchain};
use wasmop_policy::Policy;

use super::Project;
use super::build_options::{BuildOptions, ProfileName};
use super::language::{builds, default_toolchain, language_name, toolchain_name, toolchains_for};
use crate::dns_label::{DNS_LABEL_HELP, dns_label_problem};
use crate::environment;
use crate::error::{Failure, failure};
use crate::limits::LimitKeys;
use crate::rules::RuleKeys;
use crate::toml_file::value::{Text, tables, written};
use crate::toml_file::{Document, item};

/// The top level.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ProjectFile {
    package: Option<PackageKeys>,
    /// Read later, because its keys depend on the toolchain.
    build: Option<IgnoredAny>,
    #[serde(deserialize_with = "tables")]
    permissions: Vec<RuleKeys>,
    external_hosts: Vec<Text<HostPattern>>,
    limits: LimitKeys,
    suspend: SuspendKeys,
    #[serde(deserialize_with = "environment::variables")]
    env: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "environment::arguments")]
    args: Option<Vec<String>>,
}

/// `[package]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct PackageKeys {
    name: Option<String>,
    version: Option<String>,
    #[serde(deserialize_with = "written")]
    language: Option<Language>,
    #[serde(deserialize_with = "written")]
    toolchain: Option<Toolchain>,
}

/// `[suspend]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct SuspendKeys {
    #[serde(deserialize_with = "written")]
    policy: Option<Policy>,
}

/// `[build]` for cargo.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct CargoKeys {
    bin: Option<String>,
    example: Option<String>,
    port: Vec<String>,
    features: Vec<String>,
    default_features: Option<bool>,
    #[serde(deserialize_with = "written")]
    profile: Option<ProfileName>,
    #[serde(deserialize_with = "written")]
    mode: Option<Mode>,
    crds: Vec<String>,
    crds_command: Vec<String>,
}

/// `[build]` for Go and TinyGo.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct GoKeys {
    package: Option<String>,
    tags: Vec<String>,
    ldflags: Option<String>,
    crds: Vec<String>,
    crds_command: Vec<String>,
    trim: Option<bool>,
}

/// `[build]` for a project that builds its component itself.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct ComponentKeys {
    component: String,
    command: Vec<String>,
    crds: Vec<String>,
    crds_command: Vec<String>,
}

/// Reads the text of a `wasmop.toml`. `dir` is the project's directory. Errors name the file as `file`.
pub(super) fn parse(dir: PathBuf, file: PathBuf, text: &str) -> Result<Project, Failure> {
    let document = Document::parse(&file, text, None, "docs/wasmop-toml.md")?;
    let keys: ProjectFile = document.read()?;
    let package = keys.package.ok_or_else(|| {
        failure(
            format!("{}: the [package] section is missing", file.display()),
            "add [package] with `name`, `version` and `language`",
        )
    })?;
    let language = package.language;
    let name = package.name.ok_or_else(|| document.missing(&["package", "name"], "my-controller"))?;
    if let Some(problem) = dns_label_problem(&name) {
        return Err(document.wrong(&["package", "name"], format!("`{name}` {problem}"), DNS_LABEL_HELP));
    }
    let version = package.version.ok_or_else(|| document.missing(&["package", "version"], "0.1.0"))?;
    if let Err(error) = semver::Version::parse(&version) {
        let problem = format!("`{version}` is not a semantic version ({error})");
        return Err(document.wrong(&["package", "version"], problem, "write it like `0.1.0`"));
    }
    let language = language.ok_or_else(|| document.missing(&["package", "language"], "rust"))?;
    let toolchain = package.toolchain.unwrap_or(default_toolchain(language));
    if !builds(toolchain, language) {
        return Err(document.wrong(
            &["package", "toolchain"],
            format!("`{}` does not build {}", toolchain_name(toolchain), language_name(language)),
            format!("for {} use: {}", language_name(language), toolchains_for(language).join(", ")),
        ));
    }
    for (position, rule) in keys.permissions.iter().enumerate() {
        rule.check(&document, &["permissions", &item(position)])?;
    }
    let mut project = Project {
        dir,
        file: file.clone(),
        name,
        version,
        language,
        toolchain,
        bin: None,
        example: None,
        port: Vec::new(),
        package: ".".to_owned(),
        options: BuildOptions::default(),
        component: String::new(),
        command: Vec::new(),
        permissions: keys.permissions.iter().map(RuleKeys::to_rule).collect(),
        external_hosts: keys.external_hosts.into_iter().map(|Text(host)| host).collect(),
        limits: keys.limits.over(Limits::default()),
        suspend_policy: keys.suspend.policy,
        env: keys.env.unwrap_or_default(),
        args: keys.args.unwrap_or_default(),
        crds: Vec::new(),
        crds_command: Vec::new(),
    };
    read_build(&document, &mut project, &file)?;
    Ok(project)
}

/// `[build]`, whose keys depend on the toolchain.
fn read_build(document: &Document<'_>, project: &mut Project, file: &Path) -> Result<(), Failure> {
    match project.toolchain {
        Toolchain::Cargo => {
            let keys: CargoKeys = document.read_table("build")?;
            if keys.bin.is_some() && keys.example.is_some() {
                let problem = "`bin` and `example` both name the program";
                return Err(document.wrong(&["build", "example"], problem, "remove one of them"));
            }
            project.bin = keys.bin;
            project.example = keys.example;
            project.port = keys.port;
            project.options.features = keys.features;
            project.options.default_features = keys.default_features.unwrap_or(true);
            project.options.profile = keys.profile.map(|ProfileName(name)| name);
            project.options.mode = keys.mode;
            (project.crds, project.crds_command) = (keys.crds, keys.crds_command);
        }
        Toolchain::Go | Toolchain::Tinygo => {
            let keys: GoKeys = document.read_table("build")?;
            project.package = keys.package.unwrap_or_else(|| ".".to_owned());
            project.options.tags = keys.tags;
            project.options.ldflags = keys.ldflags;
            project.options.trim = keys.trim.unwrap_or(true);
            (project.crds, project.crds_command) = (keys.crds, keys.crds_command);
        }
        Toolchain::Component => {
            let keys: ComponentKeys = document.read_table("build")?;
            if keys.component.is_empty() {
                return Err(failure(
                    format!("{}: `component` is missing in [build]", file.display()),
                    "name the component that your build makes, like `component = \"target/wasm32-wasip2/release/x.wasm\"`",
                ));
            }
            project.component = keys.component;
            project.command = keys.command;
            (project.crds, project.crds_command) = (keys.crds, keys.crds_command);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
