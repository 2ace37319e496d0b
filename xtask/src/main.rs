//! `cargo xtask`: the tasks of this repository besides `cargo build`.

mod bench;
mod cargo_tool;
mod chromium;
mod ci;
mod command;
mod compat;
mod componentize_py;
mod debian;
mod demo;
#[cfg(test)]
mod doc_constants;
mod operators;
mod programs;
mod progress;
mod repository;
mod setup;
mod simulate;
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
    /// Install everything that the other tasks need; they also do so themselves
    Setup(setup::Setup),
    /// Create, build and run a Rust and a Go controller on a real API server, and watch them suspend and resume
    Demo(demo::Demo),
    /// Run the tests
    Test(test::Test),
    /// Run a benchmark
    Bench(bench::Bench),
    /// Run whole hosts in virtual time on a simulated cluster, disk and clock
    Simulate(simulate::Simulate),
    /// Build a small operator with each version of its framework, and write docs/porting.md
    Compat(compat::Compat),
    /// Try existing operators: build each as a package, and compare it with its native program on a real API server
    Operators(operators::Operators),
    /// Kill a host or break its network, again and again, and check that nothing is lost
    Torture(torture::Torture),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(setup) => setup.run().map(|()| ExitCode::SUCCESS),
        Task::Demo(demo) => demo.run().map(|()| ExitCode::SUCCESS),
        Task::Test(test) => test.run(),
        Task::Bench(bench) => bench.run(),
        Task::Simulate(simulate) => simulate.run(),
        Task::Compat(compat) => compat.run(),
        Task::Operators(operators) => operators.run(),
        Task::Torture(torture) => torture.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
