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
/// Set in a run of the whole suite, which leaves out the rows that compile dependency trees of further versions.
const SHORT: &str = "WASMOP_E2E_SHORT";
const ONLY: &str = "the whole suite leaves it out, `cargo xtask test --only operators` runs it";

fn main() -> ExitCode {
    part::main("operators", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let is_short = std::env::var_os(SHORT).is_some();
    let cluster = TestCluster::start().await?;
    rust::run(part, &cluster).await?;
    if is_short {
        part.skip("Rust: programs with web servers, HTTP clients and clocks", COLUMN, ONLY);
    } else {
        rust_programs::run(part, &cluster).await?;
    }
    drop(cluster);
    go::run(part).await?;
    if is_short {
        part.skip("Go: operators of three layouts and older libraries", COLUMN, ONLY);
        return Ok(());
    }
    go_versions::run(part).await
}
