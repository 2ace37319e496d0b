use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;

use super::new::Lang;
use crate::error::{HelpExt, failure};
use crate::init::{self, Wanted};
use crate::output::{self, Paint};
use crate::project::{FILE_NAME, Project};
use crate::{atomic_file, question};

/// Write a `wasmop.toml` for an operator that exists.
///
/// Reads the project's files: roles or kubebuilder markers for permissions, the Deployment for arguments, environment
/// and limits, and CustomResourceDefinitions. Helm charts are read with their default values. What the files do not say
/// is a comment with the remedy. The command writes that one file and changes nothing else. It runs a program of the
/// project only if the definitions are printed by a binary like `crdgen`.
#[derive(Debug, Parser)]
pub struct Init {
    /// The project's directory, the one with `Cargo.toml` or `go.mod`.
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// The language, if the project has a `Cargo.toml` and a `go.mod`.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Option<Lang>,

    /// The cargo binary that is the controller.
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// The cargo example that is the controller.
    #[arg(long, value_name = "NAME", conflicts_with = "bin")]
    example: Option<String>,

    /// The Go main package that is the controller, like `./cmd/controller`.
    #[arg(long, value_name = "DIR")]
    package: Option<String>,

    /// The controller's name: a DNS label (a-z, 0-9 and `-`) [default: the project's].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Replace a `wasmop.toml` that exists.
    #[arg(long)]
    force: bool,

    /// Print the file on stdout, and write nothing.
    #[arg(long)]
    dry_run: bool,

    /// Ask nothing, even on a terminal.
    #[arg(long, short)]
    yes: bool,
}

impl Init {
    pub fn run(self) -> Result<()> {
        if !self.dir.is_dir() {
            let problem = format!("there is no directory `{}`", self.dir.display());
            return Err(failure(problem, "give the directory of an operator's sources").into());
        }
        if !self.force && !self.dry_run {
            refuse_existing(&self.dir)?;
        }
        let wanted = Wanted {
            language: self.lang.map(Into::into),
            bin: self.bin,
            example: self.example,
            package: self.package,
            ask: !self.yes && question::can_ask(),
        };
        let findings = init::survey(&self.dir, &wanted, self.name.as_deref())?;
        let text = init::text(&findings);
        let file = if findings.dir == Path::new(".") { FILE_NAME.into() } else { findings.dir.join(FILE_NAME) };
        if !self.force && !self.dry_run {
            refuse_existing(&findings.dir)?;
        }
        let paint = Paint::for_stderr();
        let summary = init::summary(&findings, paint);
        if self.dry_run {
            output::line(summary.trim_end());
            output::data(text.as_bytes())?;
        }
        // A build must be able to read it.
        Project::from_text(&findings.dir, file.clone(), &text).or_help(
            format!("cannot write what the files of `{}` say", self.dir.display()),
            "this is a mistake in wasmop: please report it with the output of `wasmop init --dry-run`",
        )?;
        if self.dry_run {
            return Ok(());
        }
        atomic_file::replace(&file, text.as_bytes())
            .or_help(format!("cannot write `{}`", file.display()), "the project's directory must be writable")?;
        output::line(format!("{} Wrote {}", paint.success("✓"), file.display()));
        output::line(summary.trim_end());
        output::line("\nNext: look through the comments in it, then");
        if findings.dir == Path::new(".") {
            output::line("  wasmop build");
        } else {
            output::line(format!("  wasmop build {}", findings.dir.display()));
        }
        Ok(())
    }
}

fn refuse_existing(dir: &Path) -> Result<()> {
    let file = dir.join(FILE_NAME);
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    let help = "edit it, or replace it with `wasmop init --force`; `--dry-run` prints what it would be";
    Err(failure(format!("`{}` exists", file.display()), help).into())
}
