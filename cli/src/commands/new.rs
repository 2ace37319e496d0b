use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use wasmop_package::manifest::{Language, Toolchain};

use crate::dns_label::{DNS_LABEL_HELP, dns_label_problem};
use crate::error::failure;
use crate::output::{self, Paint};
use crate::project::{builds, default_toolchain, language_name, language_of, toolchain_name};
use crate::question::{ask_until, can_ask};
use crate::scaffold::{self, NewProject, Template, cargo_workspace};

/// Create a controller project from a template.
///
/// The project builds without changes: a `Website` custom resource that owns a ConfigMap, a Deployment
/// and a Service. On a terminal, the command asks for missing values. It never changes existing files.
#[derive(Debug, Parser)]
pub struct New {
    /// The controller's name: a DNS label (a-z, 0-9 and `-`).
    name: Option<String>,

    /// The language to write it in.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<Lang>,

    /// The toolchain: cargo for Rust; go (the default) or tinygo for Go.
    #[arg(long, value_name = "TOOLCHAIN")]
    toolchain: Option<Tool>,

    /// The directory of the project [default: a new directory with the controller's name].
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,

    /// Ask nothing, even on a terminal.
    #[arg(long, short)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lang {
    Rust,
    Go,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tool {
    Cargo,
    Go,
    Tinygo,
}

impl From<Lang> for Language {
    fn from(lang: Lang) -> Language {
        match lang {
            Lang::Rust => Language::Rust,
            Lang::Go => Language::Go,
        }
    }
}

impl From<Tool> for Toolchain {
    fn from(tool: Tool) -> Toolchain {
        match tool {
            Tool::Cargo => Toolchain::Cargo,
            Tool::Go => Toolchain::Go,
            Tool::Tinygo => Toolchain::Tinygo,
        }
    }
}

impl New {
    pub fn run(self) -> Result<()> {
        // Contradicting flags are an error before the first question.
        let toolchain = self.toolchain.map(Toolchain::from);
        let language = match (self.lang.map(Language::from), toolchain) {
            (Some(language), Some(toolchain)) if !builds(toolchain, language) => {
                return Err(failure(
                    format!("`--toolchain {}` does not build {}", toolchain_name(toolchain), language_name(language)),
                    format!("for {} use: {}", language_name(language), templates_for(language).join(", ")),
                )
                .usage()
                .into());
            }
            (Some(language), _) => Some(language),
            (None, toolchain) => toolchain.and_then(language_of),
        };
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        let ask = !self.yes && can_ask();

        let name = match self.name {
            Some(name) => name,
            None if ask => {
                ask_until("new", "Name of the controller", |answer| check_name(answer).map(|()| answer.to_owned()))?
            }
            None => return Err(missing("the controller's name", "wasmop new my-controller --lang rust")),
        };
        let language = match language {
            Some(language) => language,
            None if ask => ask_until("new", "Language, rust or go", |answer| {
                Lang::from_str(answer, true)
                    .map(Language::from)
                    .map_err(|_| failure(format!("`{answer}` is not a language"), "answer rust or go").into())
            })?,
            None => return Err(missing("the language", &format!("wasmop new {name} --lang rust|go"))),
        };
        let project = NewProject { name, toolchain: toolchain.unwrap_or(default_toolchain(language)) };
        let dir = self.path.unwrap_or_else(|| PathBuf::from(&project.name));

        scaffold::check_target(&dir)?;
        let template = Template::for_language(language)?;
        let mut files = template.files(&project)?;
        let workspace = match project.toolchain {
            Toolchain::Cargo => cargo_workspace::around(&dir)?,
            _ => None,
        };
        if workspace.is_some() {
            cargo_workspace::stand_alone(&mut files);
        }
        scaffold::write(&dir, &files)?;

        let paint = Paint::for_stderr();
        output::line(format!(
            "{} Created {} in {}: {}",
            paint.success("✓"),
            paint.strong(&project.name),
            dir.display(),
            template.description
        ));
        if let Some(workspace) = workspace {
            output::line(format!(
                "It is no member of the cargo workspace in {}, so its Cargo.toml has a [workspace] of its own.\n\
                 To make it a member, remove that section and add the project to `members` there.",
                workspace.display()
            ));
        }
        output::line("\nNext:");
        if dir != Path::new(".") {
            output::line(format!("  cd {}", dir.display()));
        }
        output::line("  wasmop build");
        output::line("  kubectl apply -f crds/");
        output::line(format!("  wasmop run target/wasmop/{}.wasm", project.name));
        Ok(())
    }
}

/// The toolchains that build a language and have a template.
fn templates_for(language: Language) -> Vec<&'static str> {
    let toolchains = Tool::value_variants().iter().map(|tool| Toolchain::from(*tool));
    toolchains.filter(|toolchain| builds(*toolchain, language)).map(toolchain_name).collect()
}

fn check_name(name: &str) -> Result<()> {
    match dns_label_problem(name) {
        None => Ok(()),
        Some(problem) => Err(failure(format!("the name `{name}` {problem}"), DNS_LABEL_HELP).usage().into()),
    }
}

fn missing(what: &str, example: &str) -> anyhow::Error {
    failure(format!("{what} is missing"), format!("give it, like `{example}`")).usage().into()
}
