//! `cargo xtask bench NAME`: measures and prints a table, and with `--json` rows for machines.
//!
//! Benchmarks assert nothing: on a noisy machine an assertion about time fails at random.

/// The allocator of `wasmop`, because `footprint` measures a host.
#[path = "../../cli/src/allocator.rs"]
mod allocator;
mod footprint;
mod guests;
mod measured_host;
mod neighbours;
mod objects;
mod operators;
mod page_cache;
mod predicates;
mod resume;
mod simulation;
mod watches;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use wasmop_e2e::rows::Rows;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Resume with first step, incremental suspend, and peak memory of a suspend
    Resume(Common),
    /// Memory and disk space of N suspended controllers in one host, on a real API server
    Footprint(Common),
    /// Reaction time of controllers beside one that spins, floods or grows
    Neighbours(Common),
    /// Memory by number of objects in the cluster, compared with kube-rs and controller-runtime
    Objects(Common),
    /// Operators that exist, as packages and natively: build time, reaction, memory and idle steps
    Operators(Common),
    /// Evaluation time of CEL predicates by size of the object; `n` is its size in bytes
    Predicates(Common),
    /// What derived watches save, and what leaving out own writes saves
    Watches(Common),
    /// The native Rust controller of `objects`, in its own process
    #[command(hide = true)]
    ObjectsTwin(objects::TwinArgs),
    /// The measured host of `footprint`, in its own process
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
    /// Measure only this guest (rust, go, tinygo); repeatable
    #[arg(long = "guest", value_name = "NAME")]
    guests: Vec<String>,
}

impl Common {
    fn finish(&self, rows: &Rows) -> Result<()> {
        rows.print();
        match &self.json {
            Some(path) => rows.write(path),
            None => Ok(()),
        }
    }
}

/// Errors are printed here: returned from `main`, they would have a backtrace if `RUST_BACKTRACE` is set.
fn main() -> ExitCode {
    match run(Cli::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: Bench) -> Result<()> {
    let out = tempfile::tempdir()?;
    match bench {
        Bench::Resume(common) => {
            let mut rows = Rows::new("resume");
            for variant in guests::build(out.path(), &common.guests)? {
                resume::run(variant.name, &variant.load()?, common.quick, &mut rows)?;
            }
            common.finish(&rows)
        }
        Bench::Footprint(common) => {
            let mut rows = Rows::new("footprint");
            footprint::run(&guests::build(out.path(), &common.guests)?, common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::Neighbours(common) => {
            let mut rows = Rows::new("neighbours");
            neighbours::run(common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::Objects(common) => {
            let mut rows = Rows::new("objects");
            objects::run(common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::Operators(common) => {
            let mut rows = Rows::new("operators");
            operators::run(&common.guests, common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::Predicates(common) => {
            let mut rows = Rows::new("predicates");
            predicates::run(common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::Watches(common) => {
            let mut rows = Rows::new("watches");
            watches::run(common.quick, &mut rows)?;
            common.finish(&rows)
        }
        Bench::ObjectsTwin(args) => objects::twin(args),
        Bench::FootprintHost(args) => footprint::host(args),
    }
}
