//! The API server's own record of what reached it.

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

/// Flags with which the API server writes an audit log into `dir`.
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
    /// Whose credentials they were.
    pub user: String,
    pub impersonated: Option<String>,
    /// Of whom it was made as.
    pub groups: Vec<String>,
    pub verb: String,
    pub code: u64,
    /// Nothing more is answered to it.
    pub ended: bool,
    /// When it came, and when it was answered: RFC 3339 with microseconds, UTC.
    pub received: String,
    pub answered: String,
    /// Of the object, where it is known.
    pub name: Option<String>,
    /// Of a Lease that is written: who is to hold it.
    pub holder: Option<String>,
}

/// Every request so far, each once.
pub fn read(dir: &Path) -> Result<Vec<AuditedRequest>> {
    let mut requests = BTreeMap::new();
    for line in std::fs::read_to_string(log(dir)).context("the audit log")?.lines() {
        let record: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let impersonated = record.pointer("/impersonatedUser/username").and_then(Value::as_str).map(str::to_owned);
        let groups = if impersonated.is_some() { "/impersonatedUser/groups" } else { "/user/groups" };
        let groups = record.pointer(groups).and_then(Value::as_array).into_iter().flatten();
        // A watch has a record when it begins, and one when it ends.
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
