//! Rules, host options and answers that several modules of this part use.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::{Instant, sleep};
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::audit::AuditedRequest;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_package::manifest::PolicyRule;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Log;

/// The only column.
pub const COLUMN: &str = "result";
const POLL: Duration = Duration::from_millis(50);

pub fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    PolicyRule { api_groups: owned(groups), resources: owned(resources), verbs: owned(verbs), ..PolicyRule::default() }
}

pub fn urls(urls: &[&str], verbs: &[&str]) -> PolicyRule {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    PolicyRule { non_resource_urls: urls, ..rule(&[], &[], verbs) }
}

pub fn everything() -> Vec<PolicyRule> {
    vec![rule(&["*"], &["*"], &["*"]), urls(&["*"], &["*"])]
}

/// Options of a host with a configuration file of this content, and the path of the file. All files are named `name`.
pub fn options(cluster: &TestCluster, name: &str, config: &str) -> Result<(HostOptions, PathBuf)> {
    let file = cluster.dir().join(format!("{name}.toml"));
    std::fs::write(&file, config)?;
    let mut options = cluster.host_options(name, Vec::new())?;
    options.suspend_after = None;
    options.args = vec!["--config".into(), file.display().to_string()];
    Ok((options, file))
}

/// The response to a request of a guest.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: Option<u16>,
    pub body: String,
    pub failed: Option<String>,
    pub ended: bool,
}

/// Responses by the number of the request, from the guest's log.
fn answers(log: &mut Log, controller: &str) -> Result<BTreeMap<usize, Answer>> {
    let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
    for record in log.records()?.iter().filter(|r| r.text("target") == "guest" && r.text("controller") == controller) {
        let mut parts = record.message().splitn(3, ' ');
        let (Some(number), Some(kind)) = (parts.next(), parts.next()) else { continue };
        let text = parts.next().unwrap_or_default();
        let answer = answers.entry(number.parse()?).or_default();
        match kind {
            "head" => answer.status = Some(text.parse()?),
            "body" => answer.body.push_str(text),
            "fail" => answer.failed = Some(text.into()),
            _ => {}
        }
        answer.ended |= matches!(kind, "fail" | "end");
    }
    Ok(answers)
}

/// Waits until all requests of a guest have a response.
pub async fn until_answered(host: &mut Host, controller: &str, count: usize) -> Result<BTreeMap<usize, Answer>> {
    let deadline = Instant::now() + TIMEOUT * 2;
    loop {
        let answers = answers(&mut host.log, controller)?;
        if answers.values().filter(|answer| answer.ended).count() == count {
            return Ok(answers);
        }
        if Instant::now() > deadline || !host.is_running() {
            bail!("{controller}: {} of {count} answers; the end of the log:\n{}", answers.len(), host.log.tail(10));
        }
        sleep(POLL).await;
    }
}

pub fn user_agent(controller: &str) -> String {
    format!("{HOST_USER_AGENT} (controller/{controller})")
}

/// Checks that a request was made as this ServiceAccount, or as the host.
pub fn check_identity(record: &AuditedRequest, account: Option<(&str, &str)>) -> Result<()> {
    let Some((namespace, name)) = account else {
        ensure!(record.impersonated.is_none(), "{record:?}");
        return Ok(());
    };
    let user = format!("system:serviceaccount:{namespace}:{name}");
    ensure!(record.impersonated.as_deref() == Some(&user), "{record:?}");
    let mut groups = record.groups.clone();
    groups.sort_unstable();
    let of_namespace = format!("system:serviceaccounts:{namespace}");
    ensure!(groups == ["system:authenticated", "system:serviceaccounts", &of_namespace], "{record:?}");
    Ok(())
}
