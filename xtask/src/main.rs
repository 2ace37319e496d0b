//! `cargo xtask`: everything one does with this repository besides `cargo build`.

mod bench;
mod chromium;
mod command;
mod componentize_py;
mod debian;
mod demo;
mod repository;
mod setup;
mod test;
mod tinygo;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set-up, demo, tests and benchmarks of wasmop")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Get everything the other tasks need: they do so themselves, this is for doing it beforehand.
    Setup(setup::Setup),
    /// Scaffold, build and run a Rust and a Go controller on a real API server, and show them
    /// suspended and resumed.
    Demo(demo::Demo),
    /// Run the tests.
    Test(test::Test),
    /// Run a benchmark.
    Bench(bench::Bench),
    /// Treat a host badly, again and again, and see that nothing is lost.
    Torture(torture::Torture),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(setup) => setup.run().map(|()| ExitCode::SUCCESS),
        Task::Demo(demo) => demo.run().map(|()| ExitCode::SUCCESS),
        Task::Test(test) => test.run(),
        Task::Bench(bench) => bench.run(),
        Task::Torture(torture) => torture.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
