//! A page as a browser has it once its scripts have run.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Set to the reason if there is no browser.
const SKIP: &str = "WASMOP_E2E_SKIP_BROWSER";
/// Of the page's own time: for a few of its polls.
const PAGE_TIME: Duration = Duration::from_secs(7);
/// Of ours; a browser that starts for the first time is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no browser here.
pub fn missing() -> Option<String> {
    std::env::var(SKIP).ok().filter(|reason| !reason.is_empty())
}

/// The document at `http://address/` after some seconds of its time, as HTML. It can reach `address` and nothing
/// else. `profile`: an empty directory for what the browser writes.
pub async fn document(address: SocketAddr, profile: &Path) -> Result<String> {
    let mut chromium = Command::new("chromium");
    // Its sandbox needs rights that root in a container doesn't have.
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("--virtual-time-budget={}", PAGE_TIME.as_millis()));
    chromium.arg(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {}", address.ip()));
    chromium.arg(format!("http://{address}/")).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, chromium.output()).await.context("the browser does not end")?;
    let output = output.context("cannot run chromium")?;
    ensure!(output.status.success(), "chromium: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
