//! Operators that know nothing of wasmop: their sources in `e2e/operators` are built as they are.

mod go;

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::part::{self, Part};

fn main() -> ExitCode {
    part::main("operators", &[go::COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    go::run(part).await
}
