//! `wasmop.toml`, the one project file for every language, as checked values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::de::DeTable;
use wasmop_package::external::HostPattern;
use wasmop_package::manifest::{Language, Limits, PolicyRule, Toolchain};
use wasmop_policy::Policy;

use crate::environment;
use crate::error::{Failure, HelpExt, failure};
use crate::limits;
use crate::rules;
use crate::toml_table::{Source, Table, nearest};

pub mod build_options;

pub use build_options::BuildOptions;

/// The project file's name.
pub const FILE_NAME: &str = "wasmop.toml";

/// A project: its directory and what its `wasmop.toml` says.
#[derive(Debug)]
pub struct Project {
    dir: PathBuf,
    /// `wasmop.toml`, as shown in errors.
    file: PathBuf,
    pub name: String,
    pub version: String,
    pub language: Language,
    pub toolchain: Toolchain,
    /// The cargo binary to build; the only one if not given.
    pub bin: Option<String>,
    /// The Go main package, relative to the project's directory.
    pub package: String,
    /// What the compiler gets besides.
    pub options: BuildOptions,
    /// The component that `command` makes, relative to the project's directory.
    pub component: String,
    /// A program and its arguments, run in the project's directory; may be empty.
    pub command: Vec<String>,
    pub permissions: Vec<PolicyRule>,
    pub external_hosts: Vec<HostPattern>,
    pub limits: Limits,
    /// When it is suspended if its owner does not say.
    pub suspend_policy: Option<Policy>,
    /// Its environment variables, as far as its owner does not set them.
    pub env: BTreeMap<String, String>,
    /// Its arguments if its owner gives none.
    pub args: Vec<String>,
    /// Globs, relative to the project's directory.
    crds: Vec<String>,
}

impl Project {
    /// Reads the project in `dir`.
    pub fn load(dir: &Path) -> Result<Project> {
        let file = if dir == Path::new(".") { PathBuf::from(FILE_NAME) } else { dir.join(FILE_NAME) };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !dir.exists() => {
                return Err(failure(
                    format!("there is no directory `{}`", dir.display()),
                    "give the directory of a project, one with a `wasmop.toml`",
                )
                .into());
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Err(failure(
                    format!("`{}` is not there, so `{}` is not a wasmop project", file.display(), dir.display()),
                    "run this in a project's directory or name one; `wasmop new` makes a project",
                )
                .into());
            }
            Err(error) => {
                return Err(error)
                    .or_help(format!("cannot read `{}`", file.display()), "it must be a file you may read, in UTF-8");
            }
        };
        let absolute = std::path::absolute(dir).with_context(|| format!("cannot find `{}`", dir.display()))?;
        Ok(parse(absolute, file, &text)?)
    }

    /// The project's directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `<project>/target/wasmop`, for the package and what is made on the way to it; exists.
    pub fn work_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("target").join("wasmop");
        std::fs::create_dir_all(&dir).or_help(
            format!("cannot make the directory `{}`", dir.display()),
            "the project's directory must be writable",
        )?;
        Ok(dir)
    }

    /// The documents of every file that `crds` matches, in the order of their names.
    pub fn read_crds(&self) -> Result<Vec<String>> {
        let mut documents = Vec::new();
        for pattern in &self.crds {
            let help = format!("correct `crds` in `{}`", self.file.display());
            let full = Path::new(&glob::Pattern::escape(&self.dir.to_string_lossy())).join(pattern);
            let matches = glob::glob(&full.to_string_lossy())
                .or_help(format!("`crds`: `{pattern}` is not a valid pattern"), help.clone())?;
            let mut found = false;
            for file in matches {
                let file = file.or_help(format!("`crds`: cannot look for `{pattern}`"), help.clone())?;
                found = true;
                let text = std::fs::read_to_string(&file)
                    .or_help(format!("cannot read `{}`", file.display()), help.clone())?;
                documents.extend(crd_documents(&file, &text)?);
            }
            if !found {
                return Err(
                    failure(format!("`crds`: no file matches `{pattern}` in `{}`", self.dir.display()), help).into()
                );
            }
        }
        Ok(documents)
    }
}

/// Splits a YAML stream into documents, each checked to be a CustomResourceDefinition.
fn crd_documents(file: &Path, text: &str) -> Result<Vec<String>> {
    use serde::Deserialize;

    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).or_help(
            format!("`{}` is not valid YAML", file.display()),
            "correct the file; `crds` takes YAML or JSON",
        )?;
        if value.is_null() {
            continue;
        }
        if value["kind"] != "CustomResourceDefinition" {
            return Err(failure(
                format!(
                    "`{}` holds a document of kind {}, not a CustomResourceDefinition",
                    file.display(),
                    value["kind"]
                ),
                format!("move it elsewhere, or narrow `crds` in `{FILE_NAME}`"),
            )
            .into());
        }
        documents.push(serde_json::to_string(&value)?);
    }
    Ok(documents)
}

fn parse(dir: PathBuf, file: PathBuf, text: &str) -> Result<Project, Failure> {
    let source = Source { file: &file, text };
    let document = DeTable::parse(text).map_err(|error| {
        source.failure(
            error.span().unwrap_or_default(),
            error.message(),
            "correct the TOML; docs/wasmop-toml.md shows every key",
        )
    })?;
    let top = Table::top(source, "", document.get_ref());
    top.only(&["package", "build", "permissions", "external-hosts", "limits", "suspend", "env", "args"])?;

    let package = top.table("package", "[package]")?.ok_or_else(|| {
        failure(
            format!("{}: the [package] section is missing", file.display()),
            "add [package] with `name`, `version` and `language`",
        )
    })?;
    package.only(&["name", "version", "language", "toolchain"])?;
    let name = package.required("name", "my-controller")?;
    if let Some(problem) = dns_label_problem(name) {
        return Err(package.bad_value("name", format!("`{name}` {problem}"), DNS_LABEL_HELP));
    }
    let version = package.required("version", "0.1.0")?;
    if let Err(error) = semver::Version::parse(version) {
        let problem = format!("`{version}` is not a semantic version ({error})");
        return Err(package.bad_value("version", problem, "write it like `0.1.0`"));
    }
    let language = choose(&package, "language", package.required("language", "rust")?, &LANGUAGES)?;
    let toolchain = match package.string("toolchain")? {
        Some(given) => choose(&package, "toolchain", given, &TOOLCHAINS)?,
        None => default_toolchain(language),
    };
    if !builds(toolchain, language) {
        return Err(package.bad_value(
            "toolchain",
            format!("`{}` does not build {}", toolchain_name(toolchain), language_name(language)),
            format!("for {} use: {}", language_name(language), toolchains_for(language).join(", ")),
        ));
    }

    let mut project = Project {
        dir,
        file: file.clone(),
        name: name.to_owned(),
        version: version.to_owned(),
        language,
        toolchain,
        bin: None,
        package: ".".to_owned(),
        options: BuildOptions::default(),
        component: String::new(),
        command: Vec::new(),
        permissions: Vec::new(),
        external_hosts: rules::external_hosts(&top)?,
        limits: Limits::default(),
        suspend_policy: None,
        env: environment::table(&top, "[env]")?,
        args: environment::args(&top)?.unwrap_or_default(),
        crds: Vec::new(),
    };

    if let Some(build) = top.table("build", "[build]")? {
        build.only(match toolchain {
            Toolchain::Cargo => &["bin", "features", "default-features", "profile", "crds"],
            Toolchain::Go | Toolchain::Tinygo => &["package", "tags", "ldflags", "crds"],
            Toolchain::Component => &["component", "command", "crds"],
        })?;
        project.bin = build.string("bin")?.map(str::to_owned);
        if let Some(package) = build.string("package")? {
            project.package = package.to_owned();
        }
        project.options = BuildOptions::read(&build)?;
        project.component = build.string("component")?.unwrap_or_default().to_owned();
        project.command = build.strings("command")?;
        project.crds = build.strings("crds")?;
    }
    if toolchain == Toolchain::Component && project.component.is_empty() {
        return Err(failure(
            format!("{}: `component` is missing in [build]", file.display()),
            "name the component that your build makes, like `component = \"target/wasm32-wasip2/release/x.wasm\"`",
        ));
    }
    for rule in top.tables("permissions", "[[permissions]]")? {
        project.permissions.push(rules::read(&rule)?);
    }
    if let Some(limits) = top.table("limits", "[limits]")? {
        project.limits = limits::read(&limits, Limits::default())?;
    }
    if let Some(suspend) = top.table("suspend", "[suspend]")? {
        suspend.only(&["policy"])?;
        if let Some(text) = suspend.string("policy")? {
            let help = "write `adaptive`, `immediate`, `after=1s` or `never`";
            let bad = |_| suspend.bad_value("policy", format!("`{text}` is not a suspend policy"), help);
            project.suspend_policy = Some(text.parse().map_err(bad)?);
        }
    }
    Ok(project)
}

const LANGUAGES: [(&str, Language); 5] = [
    ("rust", Language::Rust),
    ("go", Language::Go),
    ("python", Language::Python),
    ("javascript", Language::JavaScript),
    ("other", Language::Other),
];
const TOOLCHAINS: [(&str, Toolchain); 4] = [
    ("cargo", Toolchain::Cargo),
    ("go", Toolchain::Go),
    ("tinygo", Toolchain::Tinygo),
    ("component", Toolchain::Component),
];

fn choose<T: Copy>(table: &Table<'_>, key: &str, given: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == given) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let mut help = format!("use one of: {}", names.join(", "));
    if let Some(near) = nearest(given, &names) {
        help = format!("did you mean `{near}`? {help}");
    }
    Err(table.bad_value(key, format!("unknown {key} `{given}`"), help))
}

pub fn default_toolchain(language: Language) -> Toolchain {
    match language {
        Language::Rust => Toolchain::Cargo,
        Language::Go => Toolchain::Go,
        Language::Python | Language::JavaScript | Language::Other => Toolchain::Component,
    }
}

/// The one language a toolchain builds; `None` for any.
pub fn language_of(toolchain: Toolchain) -> Option<Language> {
    match toolchain {
        Toolchain::Cargo => Some(Language::Rust),
        Toolchain::Go | Toolchain::Tinygo => Some(Language::Go),
        Toolchain::Component => None,
    }
}

pub fn builds(toolchain: Toolchain, language: Language) -> bool {
    language_of(toolchain).is_none_or(|only| only == language)
}

/// The toolchains that build a language, the default first.
pub fn toolchains_for(language: Language) -> Vec<&'static str> {
    TOOLCHAINS.iter().filter(|(_, it)| builds(*it, language)).map(|(name, _)| *name).collect()
}

pub fn language_name(language: Language) -> &'static str {
    match language {
        Language::Rust => "Rust",
        Language::Go => "Go",
        Language::Python => "Python",
        Language::JavaScript => "JavaScript",
        Language::Other => "other languages",
    }
}

pub fn toolchain_name(toolchain: Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Cargo => "cargo",
        Toolchain::Go => "go",
        Toolchain::Tinygo => "tinygo",
        Toolchain::Component => "component",
    }
}

/// What a name must look like.
pub const DNS_LABEL_HELP: &str =
    "use a DNS label: at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit";

/// Why `name` is not a DNS label (RFC 1123, as Kubernetes names are), if it isn't.
pub fn dns_label_problem(name: &str) -> Option<&'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match name.as_bytes() {
        [] => Some("is empty"),
        bytes if bytes.len() > 63 => Some("is longer than 63 characters"),
        bytes if !bytes.iter().all(|byte| inner(*byte) || *byte == b'-') => {
            Some("has characters other than a-z, 0-9 and `-`")
        }
        [first, .., last] if !inner(*first) || !inner(*last) => Some("begins or ends with `-`"),
        b"-" => Some("begins or ends with `-`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
