//! The server for probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// What the probes report.
#[derive(Debug, Default)]
pub struct Health {
    drawn: AtomicU64,
}

impl Health {
    /// Counts a banner.
    pub fn drew(&self) {
        self.drawn.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves probes until the program is stopped.
pub async fn serve(health: Arc<Health>) -> anyhow::Result<()> {
    let app = Router::new().route("/healthz", get(report)).with_state(health);
    let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn report(State(health): State<Arc<Health>>) -> Json<Value> {
    Json(json!({ "drawn": health.drawn.load(Ordering::Relaxed) }))
}
