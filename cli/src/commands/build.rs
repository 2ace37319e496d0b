use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;

use crate::output;
use crate::packaging::{self, Built};
use crate::project::Project;
use crate::project::build_options::BuildFlags;
use crate::report;

/// Build a project and pack it into one file.
///
/// Compiles the sources with the toolchain that `wasmop.toml` names, or runs the project's own build command. Then it
/// starts the controller once in a sandbox, records what it watches, and writes the package.
#[derive(Debug, Parser)]
pub struct Build {
    /// The project's directory, the one with `wasmop.toml`.
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Where to write the package [default: target/wasmop/NAME.wasm in the project].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Keep function names and line numbers, so that a crash shows where it happened.
    #[arg(long)]
    debug: bool,

    #[command(flatten)]
    flags: BuildFlags,

    /// Describe the package as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl Build {
    pub fn run(self) -> Result<()> {
        let mut project = Project::load(&self.dir)?;
        self.flags.apply_to(&mut project)?;
        let output = match self.output {
            Some(output) => output,
            None => {
                let inside = Path::new("target/wasmop").join(format!("{}.wasm", project.name));
                if self.dir == Path::new(".") { inside } else { self.dir.join(inside) }
            }
        };
        let built = packaging::build(&project, &output, self.debug)?;
        for missing in packaging::missing_permissions(&built.manifest) {
            output::warning(&format!("it watches {}, which its permissions do not allow", missing.kind), &missing.help);
        }
        output::line(report::built(&built));
        if self.json { output::data(json(&built).as_bytes()) } else { Ok(()) }
    }
}

fn json(built: &Built) -> String {
    let value = serde_json::json!({
        "package": built.path,
        "name": built.manifest.name,
        "version": built.manifest.version,
        "bytes": built.inspection.sizes.total,
        "mode": built.inspection.mode,
        "modeReason": built.inspection.mode_reason,
        "tier": built.inspection.tier,
        "sizes": built.inspection.sizes,
        "registrations": built.manifest.registrations,
    });
    format!("{value:#}\n")
}
