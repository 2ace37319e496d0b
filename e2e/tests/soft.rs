//! The soft tier: components with WASI on a real API server.

use std::process::ExitCode;

use anyhow::Result;
use wasmop_e2e::environment::Environment;
use wasmop_e2e::guest_fixture::GuestFixture;
use wasmop_e2e::guests::{self, Column};
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::scenarios::{soft_behaviours, soft_host_restarts};
use wasmop_e2e::test_cluster::TestCluster;

fn main() -> ExitCode {
    part::main("soft", &guests::SOFT_COLUMNS, run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_soft(cluster.dir()))?;
    let mut behaviours = soft_behaviours();
    behaviours.extend(soft_host_restarts());
    behaviours.iter().for_each(|behaviour| part.list(behaviour.name));
    let built = columns.iter().filter_map(|column| column.guest.clone().ok()).collect();
    let env = Environment::start(cluster, built).await?;
    for Column { name, guest } in columns {
        match guest {
            Ok(guest) => {
                let fixture = GuestFixture { env: env.clone(), guest };
                for behaviour in &behaviours {
                    part.row(behaviour.name, name, (behaviour.check)(fixture.clone())).await;
                }
            }
            Err(reason) => behaviours.iter().for_each(|behaviour| part.skip(behaviour.name, name, &reason)),
        }
    }
    if part.has_failures()
        && let Some(files) = env.keep_files()
    {
        part.keep(files);
    }
    Ok(())
}
