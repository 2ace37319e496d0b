//! What registrations lead to: one watch for all who are the host, one for each ServiceAccount, and none for
//! what is not asked for and granted.

use anyhow::{Result, ensure};
use serde_json::json;
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::world::{Cluster, PATIENCE};
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

use super::{audit, everything, guest, options, rule};

pub async fn watched(cluster: &Cluster) -> Result<Vec<(&'static str, Result<()>)>> {
    let watching = vec![rule(&[""], &["configmaps"], &["list", "watch"])];
    let mut config = String::new();
    for (name, asked, kind, plural, namespace, settings) in [
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
        ("unasked", watching, "Secret", "secrets", None, ""),
        // The plural is left to discovery, and the grant is of URLs.
        (
            "ungranted",
            everything(),
            "Secret",
            "",
            None,
            "[[controllers.ungranted.grant]]\nnon-resource-urls = [\"*\"]\nverbs = [\"*\"]",
        ),
    ] {
        let mut spec = json!({"name": name, "primary": {"version": "v1", "kind": kind, "plural": plural}});
        if let Some(namespace) = namespace {
            spec["namespace"] = namespace.into();
        }
        let package = guest::package(name, asked, Some(&spec.to_string()), &[])?;
        std::fs::write(cluster.dir().join(format!("{name}.wasm")), package)?;
        config.push_str(&format!("[controllers.{name}]\npackage = \"{name}.wasm\"\n{settings}\n"));
    }
    let (options, _) = options(cluster, "watches", &config)?;
    let mut host = Host::spawn(&options)?;
    let told = tokio::task::block_in_place(|| {
        let mut wait = |what: &str, is: &dyn Fn(&Record) -> bool| host.log.wait_for(0, PATIENCE, what, is);
        for (name, key) in
            [("plain-one", "team-b/settings"), ("plain-two", "team-b/settings"), ("as-watcher", "team-a/settings")]
        {
            wait(name, &|r: &Record| r.is("reconciled", name) && r.text("object") == key)?;
        }
        let waits = wait("a wait", &|r: &Record| r.is("waiting for resource", "as-nobody"))?;
        let unasked = wait("a refusal", &|r: &Record| r.is("permission denied", "unasked"))?;
        let ungranted = wait("a refusal", &|r: &Record| r.is("permission denied", "ungranted"))?;
        host.terminate()?;
        Ok::<_, anyhow::Error>([waits, unasked, ungranted])
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
        let of = |r: &&audit::Reached| {
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
        super::as_whom(&mine[0], Some(("team-a", "watcher")))?;
        ensure!(reconciled("plain-one", "team-b")? && !reconciled("as-watcher", "team-b")?, "it saw another namespace");
        Ok(())
    };
    let of_nobody = || {
        let mine = watches("/api/v1/configmaps", Some("system:serviceaccount:team-a:nobody"));
        ensure!(!mine.is_empty() && mine.iter().all(|r| r.code == 403), "{mine:?}");
        ensure!(!reconciled("as-nobody", "team-a")? && !reconciled("as-nobody", "team-b")?, "it saw objects");
        ensure!(told[0].text("help").contains("team-a/nobody"), "{:?}", told[0]);
        Ok(())
    };
    let refused = || {
        let secrets: Vec<_> = reached.iter().filter(|r| r.uri.contains("/secrets")).collect();
        ensure!(secrets.is_empty(), "{secrets:?}");
        ensure!(told[1].text("reason").contains("no permission to list and watch secrets"), "{:?}", told[1]);
        ensure!(told[2].text("reason").contains("not granted"), "{:?}", told[2]);
        Ok(())
    };
    Ok(vec![
        ("watch: one for all who are the host", shared()),
        ("watch: a ServiceAccount has its own, and sees no more", of_account()),
        ("watch: one that may not waits, and sees nothing", of_nobody()),
        ("watch: not asked for or not granted, there is none", refused()),
    ])
}
