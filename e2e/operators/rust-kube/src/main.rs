use std::sync::Arc;

use banner_operator::{Health, run, serve};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
    let client = kube::Client::try_default().await?;
    tracing::info!(namespace = client.default_namespace(), "starting");
    let health = Arc::new(Health::default());
    tokio::select! {
        () = run(client, health.clone()) => tracing::info!("the controller has ended"),
        result = serve(health) => result?,
    }
    Ok(())
}
