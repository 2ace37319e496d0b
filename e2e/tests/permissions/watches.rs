//! Upstream watches: one for all controllers with the host's identity, one per ServiceAccount, and none without a grant.

use anyhow::{Result, ensure};
use serde_json::json;
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::audit;
use wasmop_e2e::part::Part;
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

use crate::guest;
use crate::setup::{COLUMN, check_identity, everything, options, rule};

/// Runs all controllers in one host, and records a row for each kind.
pub async fn rows(part: &Part, cluster: &TestCluster) -> Result<()> {
    let watching = vec![rule(&[""], &["configmaps"], &["list", "watch"])];
    let mut config = String::new();
    for (name, requested, kind, plural, namespace, settings) in [
        ("plain-one", watching.clone(), "ConfigMap", "configmaps", None, ""),
        ("plain-two", watching.clone(), "ConfigMap", "configmaps", None, ""),
        (
            "as-watcher",
            watching.clone(),
            "ConfigMap",
            "configmaps",
            Some("team-a"),
            "service-account = \"team-a/watcher\"",
        ),
        ("as-nobody", everything(), "ConfigMap", "configmaps", None, "service-account = \"team-a/nobody\""),
        ("not-requested", watching, "Secret", "secrets", None, ""),
        // Discovery finds the plural, and the grant covers URLs only.
        (
            "not-granted",
            everything(),
            "Secret",
            "",
            None,
            "[[controllers.not-granted.grant]]\nnon-resource-urls = [\"*\"]\nverbs = [\"*\"]",
        ),
    ] {
        let mut spec = json!({"name": name, "primary": {"version": "v1", "kind": kind, "plural": plural}});
        if let Some(namespace) = namespace {
            spec["namespace"] = namespace.into();
        }
        let package = guest::package(name, requested, Some(&spec.to_string()), &[])?;
        std::fs::write(cluster.dir().join(format!("{name}.wasm")), package)?;
        config.push_str(&format!("[controllers.{name}]\npackage = \"{name}.wasm\"\n{settings}\n"));
    }
    let (options, _) = options(cluster, "watches", &config)?;
    let mut host = Host::spawn(&options)?;
    let records = tokio::task::block_in_place(|| {
        let mut wait = |what: &str, is: &dyn Fn(&Record) -> bool| host.log.wait_for(0, TIMEOUT, what, is);
        for (name, key) in
            [("plain-one", "team-b/settings"), ("plain-two", "team-b/settings"), ("as-watcher", "team-a/settings")]
        {
            wait(name, &|r: &Record| r.is("reconciled", name) && r.text("object") == key)?;
        }
        let waits = wait("wait", &|r: &Record| r.is("waiting for resource", "as-nobody"))?;
        let not_requested = wait("refusal", &|r: &Record| r.is("permission denied", "not-requested"))?;
        let not_granted = wait("refusal", &|r: &Record| r.is("permission denied", "not-granted"))?;
        host.terminate()?;
        Ok::<_, anyhow::Error>([waits, not_requested, not_granted])
    })?;
    let reached: Vec<_> = audit::read(cluster.dir())?.into_iter().filter(|r| r.user_agent == HOST_USER_AGENT).collect();
    let reconciled = |controller: &str, of: &str| {
        let lines = std::fs::read_to_string(&options.log)?;
        let of = format!("\"object\":\"{of}/");
        let controller = format!("\"controller\":\"{controller}\"");
        let is = |line: &&str| line.contains("\"reconciled\"") && line.contains(&of) && line.contains(&controller);
        Ok::<_, anyhow::Error>(lines.lines().any(|line| is(&line)))
    };
    let watches = |path: &str, user: Option<&str>| {
        let of = |r: &&audit::AuditedRequest| {
            r.verb == "watch" && r.uri.split('?').next() == Some(path) && r.impersonated.as_deref() == user
        };
        reached.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    let shared = || {
        let all = watches("/api/v1/configmaps", None);
        ensure!(all.len() == 1, "{all:?}");
        Ok(())
    };
    let of_account = || {
        let mine = watches("/api/v1/namespaces/team-a/configmaps", Some("system:serviceaccount:team-a:watcher"));
        ensure!(mine.len() == 1 && mine[0].code == 200, "{mine:?}");
        check_identity(&mine[0], Some(("team-a", "watcher")))?;
        ensure!(
            reconciled("plain-one", "team-b")? && !reconciled("as-watcher", "team-b")?,
            "it reconciled another namespace"
        );
        Ok(())
    };
    let of_nobody = || {
        let mine = watches("/api/v1/configmaps", Some("system:serviceaccount:team-a:nobody"));
        ensure!(!mine.is_empty() && mine.iter().all(|r| r.code == 403), "{mine:?}");
        ensure!(!reconciled("as-nobody", "team-a")? && !reconciled("as-nobody", "team-b")?, "it reconciled objects");
        ensure!(records[0].text("help").contains("team-a/nobody"), "{:?}", records[0]);
        Ok(())
    };
    let refused = || {
        let secrets: Vec<_> = reached.iter().filter(|r| r.uri.contains("/secrets")).collect();
        ensure!(secrets.is_empty(), "{secrets:?}");
        ensure!(records[1].text("reason").contains("no permission to list and watch secrets"), "{:?}", records[1]);
        ensure!(records[2].text("reason").contains("not granted"), "{:?}", records[2]);
        Ok(())
    };
    part.record("watch: controllers with the host's identity share one", COLUMN, shared());
    part.record("watch: a ServiceAccount has its own, limited to its rights", COLUMN, of_account());
    part.record("watch: a ServiceAccount without rights waits and sees nothing", COLUMN, of_nobody());
    part.record("watch: there is none without a request and a grant", COLUMN, refused());
    Ok(())
}
