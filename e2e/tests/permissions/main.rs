//! Permissions of controllers on a real API server, whose audit log is the evidence.
//!
//! ```text
//! attempts              the requests that hostile guests make, and their expected results
//! guest                 a guest that makes a list of requests, byte for byte
//! watches               upstream watches that registrations cause
//! learned_permissions   permissions that one run prints suffice for the next run
//! reload                grants and policies change on SIGHUP
//! setup                 rules, options and answers that several modules use
//! ```

mod attempts;
mod guest;
mod learned_permissions;
mod reload;
mod setup;
mod watches;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::audit::{self, AuditedRequest};
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::guests;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::test_cluster::TestCluster;
use wasmop_package::manifest::PolicyRule;
use wasmop_testbed::host::Host;

use attempts::{ATTEMPTS, Attempt, Caller, Expected};
use guest::Request;
use setup::{Answer, COLUMN, check_identity, everything, options, rule, until_answered, urls, user_agent};

fn main() -> ExitCode {
    part::main("permissions", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start_with(audit::flags).await?;
    cluster.create_crd().await?;
    set_up(&cluster).await?;
    let mut attempts = ATTEMPTS.to_vec();
    attempts.push(attempts::huge());
    attempt_all(part, &cluster, &attempts).await?;
    watches::rows(part, &cluster).await?;
    part.row("a redirect is not followed", COLUMN, redirected(&cluster)).await;
    let package = tokio::task::block_in_place(|| guests::build("go", cluster.dir()))?.package;
    reload::rows(part, &cluster, &package).await?;
    let learned = learned_permissions::sufficient(&cluster, &package);
    part.row("permissions learned from one run suffice for the next", COLUMN, learned).await;
    Ok(())
}

fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// Creates objects that guests try to reach, and ServiceAccounts with and without rights.
async fn set_up(cluster: &TestCluster) -> Result<()> {
    let create = PostParams::default();
    for namespace in ["team-a", "team-b", reload::NAMESPACE, learned_permissions::NAMESPACE] {
        cluster.create_namespace(namespace).await?;
    }
    for (namespace, name) in [("team-a", "settings"), ("team-b", "settings"), ("team-a", "doomed")] {
        let map: ConfigMap = object(json!({"metadata": {"name": name}}))?;
        Api::namespaced(cluster.client.clone(), namespace).create(&create, &map).await?;
    }
    for name in ["settings", "other"] {
        let secret: Secret = object(json!({"metadata": {"name": name}}))?;
        Api::namespaced(cluster.client.clone(), "team-a").create(&create, &secret).await?;
    }
    for (account, verbs) in [("nobody", &[] as &[&str]), ("account", &["get", "list"]), ("watcher", &["list", "watch"])]
    {
        let metadata = json!({"name": account});
        let created: ServiceAccount = object(json!({"metadata": metadata}))?;
        Api::namespaced(cluster.client.clone(), "team-a").create(&create, &created).await?;
        if verbs.is_empty() {
            continue;
        }
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]);
        let role: Role = object(json!({"metadata": metadata, "rules": rules}))?;
        Api::namespaced(cluster.client.clone(), "team-a").create(&create, &role).await?;
        let binding: RoleBinding = object(json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "team-a"}],
        }))?;
        Api::namespaced(cluster.client.clone(), "team-a").create(&create, &binding).await?;
    }
    Ok(())
}

/// The permissions that the package of a controller requests.
fn requested(caller: Caller) -> Vec<PolicyRule> {
    if caller != Caller::Limited {
        return everything();
    }
    vec![
        rule(&[""], &["configmaps"], &["get", "list", "create", "patch", "delete"]),
        PolicyRule {
            resource_names: vec!["settings".into()],
            ..rule(&[""], &["secrets"], &["get", "list", "watch", "patch", "delete"])
        },
        rule(&[""], &["pods", "namespaces"], &["get", "list"]),
        rule(&["rbac.authorization.k8s.io"], &["clusterroles", "clusterrolebindings"], &["create", "patch"]),
        rule(
            &["certificates.k8s.io"],
            &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
            &["update", "patch"],
        ),
        rule(&["certificates.k8s.io"], &["certificatesigningrequests", "clustertrustbundles"], &["create"]),
        rule(&["admissionregistration.k8s.io"], &["validatingadmissionpolicies"], &["create"]),
        rule(&["resource.k8s.io"], &["resourceclaims/status"], &["patch"]),
        rule(&[""], &["services"], &["update"]),
        urls(&["/version"], &["get"]),
    ]
}

/// The grant of the controller's owner, as TOML.
fn granted(caller: Caller) -> &'static str {
    match caller {
        Caller::Limited | Caller::Unprivileged | Caller::Account => "",
        Caller::Everything => "grant = \"all\"\n",
        Caller::Subset => {
            "[[controllers.subset.grant]]\napi-groups = [\"\"]\nresources = [\"configmaps\"]\nverbs = [\"get\"]\n\
             [[controllers.subset.grant]]\napi-groups = [\"\"]\nresources = [\"secrets\"]\n\
             resource-names = [\"settings\"]\nverbs = [\"get\"]\n"
        }
    }
}

/// Runs one guest for each kind of controller, which makes all of its attempts, and records a row for each.
async fn attempt_all(part: &Part, cluster: &TestCluster, attempts: &[Attempt]) -> Result<()> {
    let mut config = "suspend-policy = \"after=300ms\"\n".to_owned();
    let mut of = BTreeMap::new();
    for caller in Caller::ALL {
        let mine: Vec<_> = attempts.iter().filter(|attempt| attempt.caller == caller).collect();
        let requests: Vec<_> = mine
            .iter()
            .map(|Attempt { target, method, path, headers, body, .. }| Request { target, method, path, headers, body })
            .collect();
        let name = caller.name();
        std::fs::write(
            cluster.dir().join(format!("{name}.wasm")),
            guest::package(name, requested(caller), None, &requests)?,
        )?;
        config.push_str(&format!("[controllers.{name}]\npackage = \"{name}.wasm\"\n"));
        if let Some((namespace, account)) = caller.service_account() {
            config.push_str(&format!("service-account = \"{namespace}/{account}\"\n"));
        }
        config.push_str(granted(caller));
        of.insert(caller, mine);
    }
    let (options, _) = options(cluster, "attempts", &config)?;
    let mut host = Host::spawn(&options)?;
    let mut all = BTreeMap::new();
    for (caller, mine) in &of {
        all.insert(*caller, until_answered(&mut host, caller.name(), mine.len()).await?);
    }
    tokio::task::block_in_place(|| host.terminate())?;
    let reached = audit::read(cluster.dir())?;
    let own = reached.iter().find(|r| r.user_agent == HOST_USER_AGENT).context("no request of the host itself")?;
    for (caller, mine) in of {
        let of_controller: Vec<_> = reached.iter().filter(|r| r.user_agent == user_agent(caller.name())).collect();
        for (index, attempt) in mine.iter().enumerate() {
            let answer = &all[&caller][&(index + 1)];
            let result = judge(attempt, answer, &of_controller, &own.user);
            part.record(&format!("{}: {}", caller.name(), attempt.name), COLUMN, result);
        }
        let answered = mine.iter().filter(|a| matches!(a.expected, Expected::Answered(_))).count();
        let result = match of_controller.len() == answered {
            true => Ok(()),
            false => Err(anyhow!("{answered} requests should reach the API server, {of_controller:#?} did")),
        };
        part.record(&format!("{}: no other request reaches the API server", caller.name()), COLUMN, result);
    }
    let is_disguised =
        |r: &&AuditedRequest| r.user_agent.starts_with("kubectl/v1") || r.user_agent.contains("example.com");
    let result = match reached.iter().find(is_disguised) {
        None => Ok(()),
        Some(disguised) => Err(anyhow!("{disguised:?}")),
    };
    part.record("no request has a forged User-Agent", COLUMN, result);
    Ok(())
}

/// Checks the result of an attempt against the expected one.
fn judge(attempt: &Attempt, answer: &Answer, reached: &[&AuditedRequest], host: &str) -> Result<()> {
    let records: Vec<_> = reached.iter().filter(|r| r.uri == attempt.path).collect();
    match attempt.expected {
        Expected::Refused(text) => {
            ensure!(answer.status == Some(403) && answer.body.contains(text), "{answer:?}");
            ensure!(records.is_empty(), "it reached the API server: {records:?}");
        }
        Expected::Failed(text) => {
            ensure!(answer.failed.as_ref().is_some_and(|why| why.contains(text)), "{answer:?}");
            ensure!(records.is_empty(), "it reached the API server: {records:?}");
        }
        Expected::Answered(status) => {
            ensure!(answer.status == Some(status), "{answer:?}");
            let [record] = records[..] else { bail!("{} such requests reached the API server", records.len()) };
            ensure!(record.code == u64::from(status) && record.user == host, "{record:?}");
            let verbs: &[&str] = match attempt.method {
                "POST" => &["create"],
                "DELETE" => &["delete"],
                "PATCH" => &["patch"],
                _ => &["get", "list", "watch"],
            };
            ensure!(verbs.contains(&&*record.verb), "{record:?}");
            check_identity(record, attempt.caller.service_account())?;
        }
    }
    Ok(())
}

/// The API server redirects a guest to a forbidden object, and to another server.
async fn redirected(cluster: &TestCluster) -> Result<()> {
    const NAME: &str = "redirected";
    const SECRET: &str = "/api/v1/namespaces/team-a/secrets/other";
    let proxy = FaultProxy::start(cluster.client.clone()).await?;
    let elsewhere = format!("{}{SECRET}", cluster.plane.server);
    let rules = [("row=r1", SECRET.to_owned()), ("row=r2", elsewhere)]
        .map(|(row, location)| proxy.add(Rule::new("GET", row, Fault::Redirect(location))));
    let paths = ["/api/v1/configmaps?row=r1", "/api/v1/configmaps?row=r2"];
    let requests = paths.map(|path| Request { target: "", method: "GET", path, headers: "", body: "" });
    let package = guest::package(NAME, vec![rule(&[""], &["configmaps"], &["list"])], None, &requests)?;
    std::fs::write(cluster.dir().join(format!("{NAME}.wasm")), package)?;
    let config = format!("kubeconfig = \"{NAME}.kubeconfig\"\n[controllers.{NAME}]\npackage = \"{NAME}.wasm\"\n");
    let (mut options, _) = options(cluster, NAME, &config)?;
    options.kubeconfig = cluster.dir().join(format!("{NAME}.kubeconfig"));
    std::fs::write(&options.kubeconfig, proxy.kubeconfig())?;
    let mut host = Host::spawn(&options)?;
    let answers = until_answered(&mut host, NAME, paths.len()).await?;
    tokio::task::block_in_place(|| host.terminate())?;
    ensure!(answers.values().all(|answer| answer.status == Some(302)), "{answers:?}");
    ensure!(rules.iter().all(|rule| rule.hits() == 1), "the proxy did not get one request for each rule");
    let followed = audit::read(cluster.dir())?.into_iter().find(|r| r.user_agent == user_agent(NAME));
    ensure!(followed.is_none(), "{followed:?}");
    Ok(())
}
