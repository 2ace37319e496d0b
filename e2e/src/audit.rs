//! The API server's audit log: every request that reached it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Request, resources: [{group: coordination.k8s.io, resources: [leases]}]}
- {level: Metadata}
";

/// Flags with which the API server writes an audit log to `dir`.
pub fn flags(dir: &Path) -> Result<Vec<String>> {
    let policy = dir.join("audit-policy.yaml");
    std::fs::write(&policy, POLICY)?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log(dir).display()),
        "--audit-log-mode=blocking".into(),
    ])
}

fn log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

/// A request that reached the API server.
#[derive(Clone, Debug)]
pub struct AuditedRequest {
    pub uri: String,
    pub user_agent: String,
    /// The authenticated user.
    pub user: String,
    /// The impersonated user.
    pub impersonated: Option<String>,
    /// The groups of the impersonated user, otherwise of the authenticated one.
    pub groups: Vec<String>,
    pub verb: String,
    pub code: u64,
    /// Whether the response is complete.
    pub ended: bool,
    /// When the request arrived: RFC 3339 with microseconds, UTC.
    pub received: String,
    /// When the response was sent.
    pub answered: String,
    /// The name of the object, where it is known.
    pub name: Option<String>,
    /// The holder in the body, if the request writes a Lease.
    pub holder: Option<String>,
}

/// All requests so far, each once.
pub fn read(dir: &Path) -> Result<Vec<AuditedRequest>> {
    let mut requests = BTreeMap::new();
    for line in std::fs::read_to_string(log(dir)).context("the audit log")?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let impersonated = record.pointer("/impersonatedUser/username").and_then(Value::as_str).map(str::to_owned);
        let groups = if impersonated.is_some() { "/impersonatedUser/groups" } else { "/user/groups" };
        let groups = record.pointer(groups).and_then(Value::as_array).into_iter().flatten();
        // A watch has a record at its start, and another one at its end.
        requests.insert(
            text("/auditID"),
            AuditedRequest {
                uri: text("/requestURI"),
                user_agent: text("/userAgent"),
                user: text("/user/username"),
                impersonated,
                groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
                verb: text("/verb"),
                ended: record.pointer("/stage").is_some_and(|stage| stage == "ResponseComplete"),
                received: text("/requestReceivedTimestamp"),
                answered: text("/stageTimestamp"),
                name: record.pointer("/objectRef/name").and_then(Value::as_str).map(str::to_owned),
                holder: record.pointer("/requestObject/spec/holderIdentity").and_then(Value::as_str).map(str::to_owned),
                code: record.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
            },
        );
    }
    Ok(requests.into_values().collect())
}
