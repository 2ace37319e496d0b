//! SIGHUP: reads the configuration file again, and applies the keys that can change while the host runs.

use std::path::PathBuf;

use anyhow::Result;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use wasmop_host::Settings;

use crate::config::{self, Flags, Plan};
use crate::error;
use crate::logging::Verbosity;

/// Everything a reload needs.
pub struct Reload {
    pub file: PathBuf,
    pub flags: Flags,
    /// The names of the packages on the command line.
    pub names: Vec<String>,
    pub default_budget: Option<u64>,
    /// The plan that the host started with.
    pub plan: Plan,
    pub verbosity: Verbosity,
    pub changes: mpsc::UnboundedSender<Settings>,
}

impl Reload {
    /// Reads the file at each signal.
    pub async fn on(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            match self.read() {
                Ok(plan) => self.apply(plan),
                Err(error) => {
                    let (problem, help) = error::problem_and_help(&error);
                    tracing::error!(
                        target: "wasmop",
                        problem,
                        help,
                        "the configuration file is refused; the previous settings stay in force"
                    );
                }
            }
        }
    }

    fn read(&self) -> Result<Plan> {
        let config = config::load(&self.file)?;
        Ok(Plan::new(&self.flags, &config, &self.names, self.default_budget)?)
    }

    fn apply(&self, plan: Plan) {
        tracing::info!(target: "wasmop", file = %self.file.display(), "the configuration file was read again");
        let keys = plan.needs_restart(&self.plan);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            tracing::warn!(target: "wasmop", keys, "a change in the configuration file needs a restart of the host");
        }
        self.verbosity.set(plan.verbose);
        // Without a receiver, the host is shutting down.
        let _ = self.changes.send(plan.settings);
    }
}
