use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::escape::escape;
use crate::{output, package_file};

/// Show what is in a package.
///
/// Name, SDK, how far it can be suspended and why, what it reconciles and watches, what it may ask of the API server, its imports and
/// the size of each part.
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
            // Anyone may have made the package.
            false => escape(&inspection.render()),
        };
        output::data(text.as_bytes())
    }
}
