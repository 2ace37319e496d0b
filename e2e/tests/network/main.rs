//! Networks that drop, freeze and slow connections, and credentials as kubectl has them.
//!
//! Most rows wait, so all rows run at the same time. Each has a namespace, a host and, where needed, a proxy of its own.

mod connect_proxy;
mod credential_rotation;
mod fixture;
mod frozen_connections;
mod kubeconfigs;
mod readiness;

use std::process::ExitCode;

use anyhow::Result;
use futures::future::join_all;
use wasmop_e2e::part::{self, Part};

use fixture::{COLUMN, Fixture};

fn main() -> ExitCode {
    part::main("network", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let fixture = Fixture::set_up().await?;
    let mut rows = frozen_connections::rows(part, &fixture);
    rows.extend(credential_rotation::rows(part, &fixture));
    rows.extend(readiness::rows(part, &fixture));
    rows.extend(kubeconfigs::rows(part, &fixture));
    join_all(rows).await;
    Ok(())
}
