//! A network that drops everything, and credentials as kubectl has them.
//!
//! Most rows wait, so they run at the same time: each has a namespace, a host and, if it needs one, a proxy of its own.

mod frozen;
mod kubeconfigs;
mod proxy;
mod readiness;
mod rotated;
mod stage;

use std::process::ExitCode;

use anyhow::Result;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use wasmop_e2e::part;
use wasmop_e2e::table::{Cell, Table};

use stage::Stage;

const COLUMN: &str = "rust";

fn main() -> ExitCode {
    part::main("network", run())
}

async fn run() -> Result<bool> {
    let stage = Stage::set().await?;
    let mut table = Table::new(&[COLUMN]);
    let mut rows = FuturesUnordered::new();
    rows.extend(frozen::rows(&stage));
    rows.extend(rotated::rows(&stage));
    rows.extend(readiness::rows(&stage));
    let waiting = async {
        let mut results = Vec::new();
        while let Some(result) = rows.next().await {
            results.push(result);
        }
        results
    };
    let (results, compared) = futures::join!(waiting, join_all(kubeconfigs::rows(&stage)));
    for (name, cell) in results.into_iter().chain(compared) {
        println!("{name}: {cell:?}");
        table.set(name, COLUMN, cell);
    }
    println!("\n{}", table.render("network"));
    Ok(table.is_good())
}

/// A row under way.
type Row<'a> = std::pin::Pin<Box<dyn Future<Output = (&'static str, Cell)> + 'a>>;

fn row<'a>(name: &'static str, result: impl Future<Output = Result<()>> + 'a) -> Row<'a> {
    Box::pin(async move { (name, Cell::from(result.await)) })
}
