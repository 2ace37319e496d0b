//! Operators that know nothing of wasmop: their sources in `e2e/operators` are built as they are, run on a real API
//! server, suspended, killed and resumed.

mod go;
mod go_versions;
mod rust;
mod rust_programs;

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::test_cluster::TestCluster;

const COLUMN: &str = "operator";
/// Set to run the rows that compile whole dependency trees of other versions, for minutes each.
const MORE: &str = "WASMOP_E2E_MORE_OPERATORS";

fn main() -> ExitCode {
    part::main("operators", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    rust::run(part, &cluster).await?;
    if std::env::var_os(MORE).is_some() {
        rust_programs::run(part, &cluster).await?;
    }
    drop(cluster);
    go::run(part).await?;
    go_versions::run(part).await
}
