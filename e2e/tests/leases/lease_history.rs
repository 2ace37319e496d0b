//! The audit log as history: which host held each controller when, and which hosts wrote for it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use wasmop_e2e::audit::{self, AuditedRequest};

/// The API server's status for a request whose client has disconnected.
const GIVEN_UP: u64 = 504;

/// A period during which a controller's Lease had one holder.
#[derive(Debug)]
struct Tenure {
    holder: String,
    /// When the write arrived that began it.
    begun: Timestamp,
    /// When the write was answered that ended it.
    ended: Option<Timestamp>,
}

pub fn instant(text: &str) -> Result<Timestamp> {
    text.parse().with_context(|| format!("{text:?} is not a time"))
}

/// Successful writes of a controller's Lease, in order.
fn lease_writes<'a>(reached: &'a [AuditedRequest], controller: &str) -> Vec<&'a AuditedRequest> {
    let name = format!("wasmop.controller.{controller}");
    let is_it = |r: &&AuditedRequest| {
        let path = r.uri.split('?').next().unwrap_or_default();
        (200..300).contains(&r.code)
            && (r.verb == "update" && path.ends_with(&format!("/leases/{name}"))
                || r.verb == "create" && path.ends_with("/leases") && r.name.as_deref() == Some(&name))
    };
    let mut writes: Vec<_> = reached.iter().filter(is_it).collect();
    writes.sort_by(|a, b| a.answered.cmp(&b.answered));
    writes
}

fn tenures(reached: &[AuditedRequest], controller: &str) -> Result<Vec<Tenure>> {
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

/// Checks that the host that held the Lease made every write for its controller.
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
            // A host that stops cuts its requests in flight, and the API server gives them up.
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
        println!("{controller}: {} consecutive holders, {writes} writes", tenures.len());
        // With fewer of them the check proves nothing.
        ensure!(tenures.len() > 4 && writes > 10, "{} tenures and {writes} writes of {controller}", tenures.len());
    }
    let anonymous = format!("{} (controller/", wasmop_api::caller::HOST_USER_AGENT);
    let strange = reached.iter().find(|r| r.user_agent.starts_with(&anonymous) && !r.user_agent.contains("; host/"));
    ensure!(strange.is_none(), "a request without its host: {strange:?}");
    Ok(())
}

/// The earliest start among the last tenures of this host.
pub fn first_acquired(dir: &Path, controllers: &[String], host: &str) -> Result<String> {
    let reached = audit::read(dir)?;
    let begun = controllers.iter().filter_map(|controller| {
        let writes = lease_writes(&reached, controller);
        let last = writes.iter().rev().find(|write| write.holder.as_deref() == Some(host))?;
        Some(last.received.clone())
    });
    begun.min().context("it has acquired no Lease")
}
