//! The operator as a package in a host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use wasmop_testbed::controlplane::Lifetime;
use wasmop_testbed::host::{Host, HostOptions};

use super::project::Project;
use crate::guests::wasmop;

/// For compiling a large package.
const READY: Duration = Duration::from_secs(1200);
const SUSPEND_AFTER: Duration = Duration::from_secs(1);

/// A host with the package.
pub struct Packaged {
    host: Host,
    options: HostOptions,
    name: String,
    starts: usize,
}

/// What a host's log says of the controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub suspends: usize,
    pub resumes: usize,
}

impl Packaged {
    /// Starts the host and waits until the controller is ready.
    ///
    /// # Errors
    /// It is not ready in time: the end of the host's log.
    pub fn start(project: &Project, kubeconfig: &Path, dir: &Path) -> Result<Packaged> {
        let options = HostOptions {
            program: wasmop()?,
            packages: vec![project.package.clone()],
            kubeconfig: kubeconfig.to_owned(),
            state_dir: dir.join("state"),
            suspend_after: Some(SUSPEND_AFTER),
            args: Vec::new(),
            env: Vec::new(),
            log: dir.join("host-0.log"),
            output: None,
            current_dir: None,
            lifetime: Lifetime::Owned,
        };
        let mut host = Host::spawn(&options)?;
        host.wait_ready(&[&project.name], READY)?;
        Ok(Packaged { host, options, name: project.name.clone(), starts: 1 })
    }

    /// SIGKILL, and a new host with the same state.
    pub fn restart(&mut self) -> Result<()> {
        self.host.kill()?;
        self.options.log.set_file_name(format!("host-{}.log", self.starts));
        self.starts += 1;
        self.host = Host::spawn(&self.options)?;
        self.host.wait_ready(&[&self.name], READY)
    }

    /// What the present host has logged so far.
    pub fn counts(&mut self) -> Result<Counts> {
        let records = self.host.log.records()?;
        let count = |message: &str| records.iter().filter(|record| record.is(message, &self.name)).count();
        Ok(Counts { suspends: count("suspended"), resumes: count("resumed") })
    }

    /// The first error in the host's log, if there is one.
    pub fn trouble(&mut self) -> Result<Option<String>> {
        let failed = ["step failed", "instance lost", "controller left out"];
        let records = self.host.log.records()?;
        let found = records.iter().find(|record| failed.iter().any(|message| record.message().starts_with(message)));
        Ok(found.map(|record| record.0.to_string()))
    }

    /// SIGTERM.
    pub fn stop(mut self) -> Result<()> {
        self.host.terminate().context("stopping the host")?;
        Ok(())
    }
}
