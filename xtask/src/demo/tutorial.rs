//! Runs commands and prints them as a person would type them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use wasmop_testbed::cargo_variables;
use wasmop_testbed::controlplane::{Binaries, ControlPlane};

use crate::{command, programs, repository};

/// The state of a tutorial: its directory, its cluster, and how far it is.
pub struct Tutorial {
    dir: PathBuf,
    cluster: Option<(Binaries, PathBuf)>,
    begun: Instant,
    chapters: usize,
}

impl Tutorial {
    /// Runs all commands in `dir`.
    pub fn begin(dir: &Path) -> Tutorial {
        println!("$ cd {}", dir.display());
        Tutorial { dir: dir.to_owned(), cluster: None, begun: Instant::now(), chapters: 0 }
    }

    /// Begins the next chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        println!("\n{}. {title}", self.chapters);
    }

    /// Reports an observation.
    pub fn saw(&self, text: &str) {
        println!("✓ {text}");
    }

    /// Remarks on what happens without a command.
    pub fn note(&self, text: &str) {
        println!("  ({text})");
    }

    /// Runs `wasmop`.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn wasmop(&self, args: &[&str]) -> Result<()> {
        println!("$ {}", line("wasmop", args));
        let mut command = Command::new(programs::path(programs::WASMOP));
        // Guests share their dependencies with those of earlier runs.
        command
            .args(args)
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", std::path::absolute(repository::guest_target())?);
        cargo_variables::remove(&mut command);
        command::run(&mut command)
    }

    /// Points kubectl at the cluster.
    pub fn cluster(&mut self, binaries: &Binaries, plane: &ControlPlane) {
        self.saw(&format!("{} is ready", plane.server));
        println!("$ export KUBECONFIG=cluster/kubeconfig");
        self.cluster = Some((binaries.clone(), plane.kubeconfig.clone()));
    }

    /// Runs `kubectl` on the cluster.
    ///
    /// # Errors
    ///
    /// It fails, or there is no cluster yet.
    pub fn kubectl(&self, args: &[&str]) -> Result<()> {
        println!("$ {}", line("kubectl", args));
        let (binaries, kubeconfig) = self.cluster.as_ref().context("there is no cluster yet")?;
        let mut command = binaries.kubectl();
        command::run(command.args(args).current_dir(&self.dir).env("KUBECONFIG", kubeconfig))
    }

    /// Prints a command that the caller starts.
    pub fn background(&self, program: &str, args: &[String], log: &str) {
        println!("$ {} 2> {log} &", line(program, args));
    }

    /// Ends the tutorial.
    pub fn end(&self) {
        println!("\nDone in {:.0} s.", self.begun.elapsed().as_secs_f64());
    }
}

fn line(program: &str, args: &[impl AsRef<str>]) -> String {
    let words: Vec<_> =
        std::iter::once(program.to_owned()).chain(args.iter().map(|arg| command::quote(arg.as_ref()))).collect();
    words.join(" ")
}
