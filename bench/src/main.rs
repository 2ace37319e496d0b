//! `cargo xtask bench NAME`: measures, and prints a table; with `--json`, rows for machines.
//!
//! Nothing here asserts: noisy machines make timed assertions lie.

/// That of `wasmop`: `footprint` measures a host.
#[path = "../../cli/src/allocator.rs"]
mod allocator;
mod footprint;
mod neighbours;
mod objects;
mod page_cache;
mod predicates;
mod resume;
mod simulation;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use wasmop_package::{Package, with_manifest};

use wasmop_e2e::rows::Rows;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Resume and first step, incremental suspend, peak memory while suspending
    Resume(Common),
    /// Memory and disk of N suspended controllers in one host, on a real API server
    Footprint(Common),
    /// How soon controllers react, beside one that spins, floods or grows
    Neighbours(Common),
    /// Memory against the number of objects in the cluster, beside controllers of kube-rs and controller-runtime
    Objects(Common),
    /// How long predicates in CEL take, against the size of the object; `n` is its bytes
    Predicates(Common),
    /// The native controller in Rust of `objects`, a process of its own
    #[command(hide = true)]
    ObjectsTwin(objects::TwinArgs),
    /// The measured host of `footprint`, a process of its own
    #[command(hide = true)]
    FootprintHost(footprint::HostArgs),
}

#[derive(clap::Args)]
struct Common {
    /// Also write the rows as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fewer repetitions
    #[arg(long)]
    quick: bool,
    /// Only this guest (rust, go, tinygo); may be given several times
    #[arg(long = "guest", value_name = "NAME")]
    guests: Vec<String>,
}

/// A guest to measure.
pub struct Variant {
    /// Names it in the rows.
    pub name: &'static str,
    /// Its package.
    pub path: PathBuf,
}

/// The conformance guests: the same controller in each language.
fn build_guests(out: &Path, only: &[String]) -> Result<Vec<Variant>> {
    let mut variants = Vec::new();
    for column in wasmop_e2e::guests::build_all(out)? {
        if !only.is_empty() && !only.iter().any(|name| name == column.name) {
            continue;
        }
        match column.guest {
            Ok(guest) => variants.push(Variant { name: column.name, path: guest.package }),
            Err(reason) => eprintln!("{} is left out: {reason}", column.name),
        }
    }
    Ok(variants)
}

/// The package with room for the largest heap that is measured, and for a collector's headroom.
fn load(variant: &Variant) -> Result<Package> {
    let bytes = std::fs::read(&variant.path).with_context(|| format!("{}", variant.path.display()))?;
    let package = Package::parse(bytes).with_context(|| format!("{}", variant.path.display()))?;
    let mut manifest = package.manifest.clone();
    manifest.limits.memory_bytes = 512 << 20;
    Ok(Package::parse(with_manifest(package.bytes(), &manifest)?)?)
}

fn finish(common: &Common, rows: &Rows) -> Result<()> {
    rows.print();
    match &common.json {
        Some(path) => rows.write(path),
        None => Ok(()),
    }
}

fn main() -> Result<()> {
    let out = tempfile::tempdir()?;
    match Cli::parse().bench {
        Bench::Resume(common) => {
            let mut rows = Rows::new("resume");
            for variant in build_guests(out.path(), &common.guests)? {
                resume::run(variant.name, &load(&variant)?, common.quick, &mut rows)?;
            }
            finish(&common, &rows)
        }
        Bench::Footprint(common) => {
            let mut rows = Rows::new("footprint");
            footprint::run(&build_guests(out.path(), &common.guests)?, common.quick, &mut rows)?;
            finish(&common, &rows)
        }
        Bench::Neighbours(common) => {
            let mut rows = Rows::new("neighbours");
            neighbours::run(common.quick, &mut rows)?;
            finish(&common, &rows)
        }
        Bench::Objects(common) => {
            let mut rows = Rows::new("objects");
            objects::run(common.quick, &mut rows)?;
            finish(&common, &rows)
        }
        Bench::Predicates(common) => {
            let mut rows = Rows::new("predicates");
            predicates::run(common.quick, &mut rows)?;
            finish(&common, &rows)
        }
        Bench::ObjectsTwin(args) => objects::twin(args),
        Bench::FootprintHost(args) => footprint::host(args),
    }
}
