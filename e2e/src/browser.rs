//! A page after a browser has run its scripts.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The variable with the reason why there is no browser.
const SKIP: &str = "WASMOP_E2E_SKIP_BROWSER";
/// The page's virtual time, enough for a few polls.
const PAGE_TIME: Duration = Duration::from_secs(7);
/// The deadline in real time. The first start of a browser is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why there is no browser, if there is none.
pub fn missing() -> Option<String> {
    std::env::var(SKIP).ok().filter(|reason| !reason.is_empty())
}

/// The document at `http://address/` as HTML, after some seconds of virtual time.
///
/// The page can reach only `address`. `profile`: an empty directory for files of the browser.
pub async fn document(address: SocketAddr, profile: &Path) -> Result<String> {
    let mut chromium = Command::new("chromium");
    // The sandbox needs rights that root in a container lacks.
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("--virtual-time-budget={}", PAGE_TIME.as_millis()));
    chromium.arg(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {}", address.ip()));
    chromium.arg(format!("http://{address}/")).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, chromium.output()).await.context("the browser does not end")?;
    let output = output.context("cannot run chromium")?;
    ensure!(output.status.success(), "chromium: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
