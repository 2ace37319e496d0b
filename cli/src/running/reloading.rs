//! SIGHUP: the configuration file is read again, and a host that runs follows it as far as it can.

use std::path::PathBuf;

use anyhow::Result;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use wasmop_host::Settings;

use crate::config::{self, Flags, Plan};
use crate::error;
use crate::logging::Verbosity;

pub struct Reloading {
    pub file: PathBuf,
    pub flags: Flags,
    /// Of the packages on the command line.
    pub names: Vec<String>,
    pub default_budget: Option<u64>,
    /// What the host was started with.
    pub plan: Plan,
    pub verbosity: Verbosity,
    pub changes: mpsc::UnboundedSender<Settings>,
}

impl Reloading {
    /// Reads the file at each signal, for as long as the host runs.
    pub async fn at(self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            match self.read() {
                Ok(plan) => self.follow(plan),
                Err(error) => {
                    let (problem, help) = error::problem_and_help(&error);
                    tracing::error!(
                        target: "wasmop",
                        problem,
                        help,
                        "the configuration file is refused, what it said before stays in force"
                    );
                }
            }
        }
    }

    fn read(&self) -> Result<Plan> {
        let config = config::load(&self.file)?;
        Ok(Plan::new(&self.flags, &config, &self.names, self.default_budget)?)
    }

    fn follow(&self, plan: Plan) {
        tracing::info!(target: "wasmop", file = %self.file.display(), "the configuration file was read again");
        let keys = plan.needs_restart(&self.plan);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            tracing::warn!(target: "wasmop", keys, "a change in the configuration file needs a restart of the host");
        }
        self.verbosity.set(plan.verbose);
        // Without a receiver the host is ending.
        let _ = self.changes.send(plan.settings);
    }
}
