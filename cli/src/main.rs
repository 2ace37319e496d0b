//! `wasmop`: scaffold, build, inspect and run Kubernetes controllers as WebAssembly components.

mod allocator;
mod atomic_file;
mod commands;
mod config;
mod dns_label;
mod embedded;
mod environment;
mod error;
mod escape;
mod heartbeat;
mod init;
mod interrupt;
mod limits;
mod logging;
mod output;
mod package_file;
mod packaging;
mod process;
mod project;
mod question;
mod report;
mod rules;
mod running;
mod scaffold;
mod simulation;
mod spelling;
mod state_dir;
mod toml_file;
mod toolchain;
mod top;
#[cfg(feature = "otlp")]
mod traces;
#[cfg(not(feature = "otlp"))]
#[path = "traces/absent.rs"]
mod traces;
mod units;
mod written;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Cli::parse().run()
}
