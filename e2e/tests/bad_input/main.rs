//! Wrong input of a host, and what an API server lacks: the error names the input and a remedy.
//!
//! All rows share one control plane, and run one after the other.

mod fixture;
mod hosts;
mod packages;
mod token;

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::part::{self, Part};

use fixture::{COLUMN, Fixture};

fn main() -> ExitCode {
    part::main("bad-input", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let f = &Fixture::set_up().await?;
    part.row("an unknown token is rejected with a remedy", COLUMN, hosts::unknown_token(f)).await;
    part.row("an expired token is rejected with a remedy", COLUMN, hosts::expired_token(f)).await;
    part.row("a second host on a state directory is rejected", COLUMN, hosts::second_host(f)).await;
    part.row("a memory budget too small for one instance is rejected", COLUMN, hosts::small_budget(f)).await;
    part.row("encrypted snapshots without their key are rejected and kept", COLUMN, hosts::other_key(f)).await;
    part.row("invalid packages are left out and the others run", COLUMN, packages::made_by_hand(f)).await;
    part.row("a compiling host answers probes and stops when asked to", COLUMN, packages::compiling(f)).await;
    part.row("an address space limit is named with a remedy", COLUMN, packages::address_space(f)).await;
    // Creates the CRD, which must be missing before.
    part.step("a missing CRD is named, and reconciles start once it appears", COLUMN, hosts::missing_crd(f)).await;
    part.row("a forbidden identity is named, and runs once it has rights", COLUMN, Box::pin(hosts::forbidden(f))).await;
    part.row("lists are streamed, or paged where streaming is rejected", COLUMN, Box::pin(hosts::streamed_lists(f)))
        .await;
    Ok(())
}
