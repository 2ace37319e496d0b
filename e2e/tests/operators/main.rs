//! Operators that do not know wasmop: built unmodified, run on a real API server, suspended, killed and resumed.

mod rust;

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::test_cluster::TestCluster;

fn main() -> ExitCode {
    part::main("operators", &[rust::COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    rust::run(part, &cluster).await
}
