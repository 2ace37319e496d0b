//! `cargo xtask bench NAME`: measures, and prints a table; with `--json`, rows for machines.
//!
//! Nothing here asserts: noisy machines make timed assertions lie.

mod fake_api;
mod footprint;
mod process;
mod resume;
mod rows;
mod simulation;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use wasmop_package::{Package, with_manifest};

use crate::rows::Rows;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Resume and first step, incremental suspend, peak memory while suspending
    Resume(Common),
    /// Memory and disk of N suspended controllers in one host
    Footprint {
        #[command(flatten)]
        common: Common,
        /// An API server with the Probe CRD installed
        #[arg(long)]
        kubeconfig: PathBuf,
    },
    /// The measured host of `footprint`, a process of its own
    #[command(hide = true)]
    FootprintHost(footprint::HostArgs),
}

#[derive(clap::Args)]
struct Common {
    /// A guest to measure: VARIANT=PACKAGE, for example rust=target/wasmop/probe-rust.wasm
    #[arg(long = "package", value_parser = variant, required = true)]
    packages: Vec<(String, PathBuf)>,
    /// Also write the rows as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer repetitions
    #[arg(long)]
    quick: bool,
}

fn variant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected VARIANT=PACKAGE")?;
    Ok((name.into(), path.into()))
}

impl Common {
    fn load(&self) -> Result<Vec<(String, Package)>> {
        let load = |(variant, path): &(String, PathBuf)| {
            let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
            let package = Package::parse(bytes).with_context(|| format!("{}", path.display()))?;
            // Room for the largest heap that is measured, and for a collector's headroom.
            let mut manifest = package.manifest.clone();
            manifest.limits.memory_bytes = 512 << 20;
            let package = Package::parse(with_manifest(package.bytes(), &manifest)?)?;
            Ok((variant.clone(), package))
        };
        self.packages.iter().map(load).collect()
    }

    fn finish(&self, rows: &Rows) -> Result<()> {
        rows.print();
        match &self.json {
            Some(path) => rows.write(path),
            None => Ok(()),
        }
    }
}

fn main() -> Result<()> {
    match Cli::parse().bench {
        Bench::Resume(common) => {
            let mut rows = Rows::new("resume");
            for (variant, package) in common.load()? {
                resume::run(&variant, &package, common.quick, &mut rows)?;
            }
            common.finish(&rows)
        }
        Bench::Footprint { common, kubeconfig } => {
            let mut rows = Rows::new("footprint");
            if common.packages.is_empty() {
                bail!("no packages given");
            }
            footprint::run(&common.packages, &kubeconfig, common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::FootprintHost(args) => footprint::host(args),
    }
}
