use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::escape::escape;
use crate::{output, package_file};

/// Show the contents of a package.
///
/// Shows name, SDK, tier and the reason for it, what the controller reconciles and watches, its permissions, its imports,
/// and the size of each part. It does not run the package.
#[derive(Debug, Parser)]
pub struct Inspect {
    /// The package, a file that `wasmop build` made.
    file: PathBuf,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let inspection = package_file::inspect(&self.file)?;
        let text = match self.json {
            true => format!("{}\n", serde_json::to_string_pretty(&inspection)?),
            // The package may come from anyone.
            false => escape(&inspection.render()),
        };
        output::data(text.as_bytes())
    }
}
