//! The audit log as history: who held each controller from when to when, and who wrote for it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use wasmop_e2e::audit::{self, Reached};

/// The API server's status for a request whose client has gone.
const GIVEN_UP: u64 = 504;

/// A time during which a controller's Lease had one holder.
#[derive(Debug)]
struct Tenure {
    holder: String,
    /// When the write came that began it.
    begun: Timestamp,
    /// When the one was answered that ended it.
    ended: Option<Timestamp>,
}

pub fn instant(text: &str) -> Result<Timestamp> {
    text.parse().with_context(|| format!("{text:?} is no time"))
}

/// Successful writes of a controller's Lease, in order.
fn lease_writes<'a>(reached: &'a [Reached], controller: &str) -> Vec<&'a Reached> {
    let name = format!("wasmop.controller.{controller}");
    let is_it = |r: &&Reached| {
        let path = r.uri.split('?').next().unwrap_or_default();
        (200..300).contains(&r.code)
            && (r.verb == "update" && path.ends_with(&format!("/leases/{name}"))
                || r.verb == "create" && path.ends_with("/leases") && r.name.as_deref() == Some(&name))
    };
    let mut writes: Vec<_> = reached.iter().filter(is_it).collect();
    writes.sort_by(|a, b| a.answered.cmp(&b.answered));
    writes
}

fn tenures(reached: &[Reached], controller: &str) -> Result<Vec<Tenure>> {
    let mut tenures: Vec<Tenure> = Vec::new();
    for write in lease_writes(reached, controller) {
        let holder = write.holder.clone().unwrap_or_default();
        if let Some(last) = tenures.last_mut() {
            if last.holder == holder {
                continue;
            }
            last.ended = Some(instant(&write.answered)?);
        }
        tenures.push(Tenure { holder, begun: instant(&write.received)?, ended: None });
    }
    Ok(tenures)
}

/// Every write for a controller was made by the host that held its Lease at that time.
pub fn check(dir: &Path, controllers: &[String]) -> Result<()> {
    let reached = audit::read(dir)?;
    for controller in controllers {
        let tenures = tenures(&reached, controller)?;
        let begins = format!("(controller/{controller}; host/");
        let mut writes = 0;
        for request in &reached {
            let Some((_, host)) = request.user_agent.split_once(&begins) else { continue };
            if ["get", "list", "watch"].contains(&&*request.verb) {
                continue;
            }
            // Its host cut it while it was on its way, as it does when it stops, and the API server gave it up.
            if request.code == GIVEN_UP {
                continue;
            }
            writes += 1;
            let host = host.trim_end_matches(')');
            let at = instant(&request.received)?;
            let holds = |tenure: &Tenure| {
                tenure.holder == host && tenure.begun <= at && tenure.ended.is_none_or(|ended| at <= ended)
            };
            ensure!(tenures.iter().any(holds), "{host} did not hold {controller}: {request:?}\n{tenures:#?}");
        }
        println!("{controller}: {} holders one after the other, {writes} writes", tenures.len());
        // Otherwise nothing has been seen.
        ensure!(tenures.len() > 4 && writes > 10, "{} tenures and {writes} writes of {controller}", tenures.len());
    }
    let anonymous = format!("{} (controller/", wasmop_api::caller::HOST_USER_AGENT);
    let strange = reached.iter().find(|r| r.user_agent.starts_with(&anonymous) && !r.user_agent.contains("; host/"));
    ensure!(strange.is_none(), "a request without its host: {strange:?}");
    Ok(())
}

/// When the last tenures of this host began, the earliest of them.
pub fn first_acquired(dir: &Path, controllers: &[String], host: &str) -> Result<String> {
    let reached = audit::read(dir)?;
    let begun = controllers.iter().filter_map(|controller| {
        let writes = lease_writes(&reached, controller);
        let last = writes.iter().rev().find(|write| write.holder.as_deref() == Some(host))?;
        Some(last.received.clone())
    });
    begun.min().context("it has acquired none")
}
