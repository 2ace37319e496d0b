//! The host's page in a browser.

use anyhow::{Result, ensure};
use wasmop_core::status::state::State;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::probe::{ProbeSpec, spec};
use wasmop_e2e::probe_object::ProbeObject;
use wasmop_e2e::{browser, page_widths};
use wasmop_snapshot::faulty_disk::DiskFault;

use crate::FEW;

/// The page must escape text of a guest.
const MARKUP: &str = "<img src=x onerror=\"document.title='run'\">";

/// The page shows a suspended controller whose last reconcile failed, and a controller whose snapshots fail.
pub async fn shown(host: &InProcessHost, probe: &ProbeObject) -> Result<()> {
    let profile = tempfile::tempdir()?;
    let document = async || browser::document(host.address, profile.path()).await;
    probe.change_to(ProbeSpec { count: 1, ..spec("error", MARKUP) }).await?;
    host.until("suspended", |c| c.state == State::Suspended && c.last_error.is_some()).await?;
    let page = document().await?;
    let has = |page: &str, what: &str| {
        ensure!(page.contains(what), "the page has no {what:?}:\n{page}");
        Ok(())
    };
    has(&page, &format!("<td>{}</td><td class=\"suspended\">suspended</td>", probe.name))?;
    has(&page, "1 controllers: 0 resident, 0 busy, 1 suspended")?;
    has(&page, "error 1 of 1, as asked for&lt;img src=x")?;
    ensure!(
        !page.contains("<img") && page.contains("<title>wasmop</title>"),
        "the guest's markup is not escaped:\n{page}"
    );
    // One line for the process and one for the instances: the host's history, then what the page has fetched since.
    let lines: Vec<_> = page.split("<polyline points=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ensure!(lines.len() == 2, "{} lines in the chart:\n{page}", lines.len());
    for points in lines {
        ensure!(points.split(' ').count() > 2 && !points.contains("NaN"), "a line of the chart is {points:?}");
    }
    host.disk.set(DiskFault::Full);
    probe.change("not on disk").await?;
    let failing = host.until("failing", |c| !c.conditions.is_empty()).await;
    let page = document().await;
    host.disk.set(DiskFault::None);
    failing?;
    has(&page?, "<td class=\"failing\">SnapshotFailing=DiskFull")?;
    for change in 0..FEW {
        probe.change(&change.to_string()).await?;
    }
    host.until("healthy", |c| c.conditions.is_empty() && c.state == State::Suspended).await?;
    Ok(())
}

/// Nothing on the page is wider than its window.
pub async fn fits(host: &InProcessHost) -> Result<()> {
    page_widths::fits(&host.get("/").await?.1, &host.get("/api/controllers").await?.1).await
}
