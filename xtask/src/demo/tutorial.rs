//! Runs commands and shows them as somebody would have typed them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use wasmop_testbed::cargo_variables;
use wasmop_testbed::controlplane::{Binaries, ControlPlane};

use crate::{command, repository};

pub struct Tutorial {
    dir: PathBuf,
    binaries: Binaries,
    kubeconfig: Option<PathBuf>,
    begun: Instant,
    chapters: usize,
}

impl Tutorial {
    /// All commands run in `dir`.
    pub fn begin(dir: &Path, binaries: &Binaries) -> Tutorial {
        println!("$ cd {}", dir.display());
        Tutorial {
            dir: dir.to_owned(),
            binaries: binaries.clone(),
            kubeconfig: None,
            begun: Instant::now(),
            chapters: 0,
        }
    }

    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        println!("\n{}. {title}", self.chapters);
    }

    /// What has been observed.
    pub fn saw(&self, text: &str) {
        println!("✓ {text}");
    }

    pub fn note(&self, text: &str) {
        println!("  ({text})");
    }

    pub fn wasmop(&self, args: &[&str]) -> Result<()> {
        println!("$ {}", line("wasmop", args));
        let mut command = Command::new(repository::wasmop());
        // Guests share what they depend on with those of earlier runs.
        command
            .args(args)
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", std::path::absolute(repository::guest_target())?);
        cargo_variables::remove(&mut command);
        command::run(&mut command)
    }

    /// Says where the cluster is, and has kubectl talk to it.
    pub fn cluster(&mut self, plane: &ControlPlane) {
        self.saw(&format!("{} is ready", plane.server));
        println!("$ export KUBECONFIG=cluster/kubeconfig");
        self.kubeconfig = Some(plane.kubeconfig.clone());
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<()> {
        println!("$ {}", line("kubectl", args));
        let mut command = self.binaries.kubectl();
        command.args(args).current_dir(&self.dir);
        command.envs(self.kubeconfig.iter().map(|path| ("KUBECONFIG", path)));
        command::run(&mut command)
    }

    /// Shows a command that is started by other means.
    pub fn background(&self, program: &str, args: &[String], log: &str) {
        println!("$ {} 2> {log} &", line(program, args));
    }

    pub fn end(&self) {
        println!("\nAll of it seen, in {:.0} s.", self.begun.elapsed().as_secs_f64());
    }
}

fn line(program: &str, args: &[impl AsRef<str>]) -> String {
    let words: Vec<_> =
        std::iter::once(program.to_owned()).chain(args.iter().map(|arg| command::quote(arg.as_ref()))).collect();
    words.join(" ")
}
