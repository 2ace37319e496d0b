//! What controllers may do at a real API server, by that server's own record: its audit log.
//!
//! ```text
//! attempts   the table of what hostile guests try     guest   a guest that tries it, byte for byte
//! watches    what registrations lead to               learn   what a run needed is enough for the next
//! reload     grants and policies change at SIGHUP
//! ```

mod attempts;
mod guest;
mod learn;
mod reload;
mod watches;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::audit::{self, Reached};
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::part;
use wasmop_e2e::table::Table;
use wasmop_e2e::world::{Cluster, PATIENCE};
use wasmop_e2e::{guests, probe};
use wasmop_package::manifest::PolicyRule;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Log;

use attempts::{ATTEMPTS, Attempt, Expected, Who};
use guest::Request;

const COLUMN: &str = "result";
const POLL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    part::main("permissions", run())
}

async fn run() -> Result<bool> {
    let cluster = Cluster::start_with(audit::flags).await?;
    cluster.create_crd().await?;
    set_up(&cluster).await?;
    let mut table = Table::new(&[COLUMN]);
    let mut set = |row: &'static str, result: Result<()>| table.set(row, COLUMN, result.into());
    let mut attempts = ATTEMPTS.to_vec();
    attempts.push(attempts::huge());
    for (row, result) in attempted(&cluster, &attempts).await? {
        set(row.leak(), result);
    }
    for (row, result) in watches::watched(&cluster).await? {
        set(row, result);
    }
    set("a redirect is not followed", redirected(&cluster).await);
    let package = tokio::task::block_in_place(|| guests::build("go", cluster.dir()))?.package;
    for (row, result) in reload::reloaded(&cluster, &package).await {
        set(row, result);
    }
    set("what a run needed is enough for the next", learn::learnt(&cluster, &package).await);
    println!("\n{}", table.render("permissions"));
    Ok(table.is_good())
}

fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

/// Objects to reach for, and ServiceAccounts with and without rights.
async fn set_up(cluster: &Cluster) -> Result<()> {
    let create = PostParams::default();
    for namespace in ["team-a", "team-b", reload::NAMESPACE, learn::NAMESPACE] {
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

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    PolicyRule { api_groups: owned(groups), resources: owned(resources), verbs: owned(verbs), ..PolicyRule::default() }
}

fn urls(urls: &[&str], verbs: &[&str]) -> PolicyRule {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    PolicyRule { non_resource_urls: urls, ..rule(&[], &[], verbs) }
}

fn everything() -> Vec<PolicyRule> {
    vec![rule(&["*"], &["*"], &["*"]), urls(&["*"], &["*"])]
}

/// What the package of a controller asks for.
fn asked(who: Who) -> Vec<PolicyRule> {
    if who != Who::Asking {
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

/// What its owner grants it, as TOML.
fn granted(who: Who) -> &'static str {
    match who {
        Who::Asking | Who::Nobody | Who::Account => "",
        Who::Everything => "grant = \"all\"\n",
        Who::Subset => {
            "[[controllers.subset.grant]]\napi-groups = [\"\"]\nresources = [\"configmaps\"]\nverbs = [\"get\"]\n\
             [[controllers.subset.grant]]\napi-groups = [\"\"]\nresources = [\"secrets\"]\n\
             resource-names = [\"settings\"]\nverbs = [\"get\"]\n"
        }
    }
}

/// A host with a configuration file of this content; everything it has is called `name`.
fn options(cluster: &Cluster, name: &str, config: &str) -> Result<(HostOptions, PathBuf)> {
    let file = cluster.dir().join(format!("{name}.toml"));
    std::fs::write(&file, config)?;
    let mut options = cluster.host_options(name, Vec::new())?;
    options.suspend_after = None;
    options.args = vec!["--config".into(), file.display().to_string()];
    Ok((options, file))
}

/// What became of a request.
#[derive(Debug, Default)]
struct Answer {
    status: Option<u16>,
    body: String,
    failed: Option<String>,
    ended: bool,
}

/// Answers of a guest's requests by their number, from its log.
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

/// Waits until all requests of a guest have been answered.
async fn until_answered(host: &mut Host, controller: &str, count: usize) -> Result<BTreeMap<usize, Answer>> {
    let deadline = Instant::now() + PATIENCE * 2;
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

type Rows = Vec<(String, Result<()>)>;

/// Has every attempt made, and says what came of it.
async fn attempted(cluster: &Cluster, attempts: &[Attempt]) -> Result<Rows> {
    let mut config = "suspend-policy = \"after=300ms\"\n".to_owned();
    let mut of = BTreeMap::new();
    for who in Who::ALL {
        let mine: Vec<_> = attempts.iter().filter(|attempt| attempt.who == who).collect();
        let requests: Vec<_> = mine
            .iter()
            .map(|Attempt { target, method, path, headers, body, .. }| Request { target, method, path, headers, body })
            .collect();
        let name = who.name();
        std::fs::write(cluster.dir().join(format!("{name}.wasm")), guest::package(name, asked(who), None, &requests)?)?;
        config.push_str(&format!("[controllers.{name}]\npackage = \"{name}.wasm\"\n"));
        if let Some((namespace, account)) = who.service_account() {
            config.push_str(&format!("service-account = \"{namespace}/{account}\"\n"));
        }
        config.push_str(granted(who));
        of.insert(who, mine);
    }
    let (options, _) = options(cluster, "attempts", &config)?;
    let mut host = Host::spawn(&options)?;
    let mut all = BTreeMap::new();
    for (who, mine) in &of {
        all.insert(*who, until_answered(&mut host, who.name(), mine.len()).await?);
    }
    tokio::task::block_in_place(|| host.terminate())?;
    let reached = audit::read(cluster.dir())?;
    let own = reached.iter().find(|r| r.user_agent == HOST_USER_AGENT).context("no request of the host itself")?;
    let mut rows = Rows::new();
    for (who, mine) in of {
        let by_it: Vec<_> = reached.iter().filter(|r| r.user_agent == user_agent(who.name())).collect();
        for (index, attempt) in mine.iter().enumerate() {
            let answer = &all[&who][&(index + 1)];
            let result = judge(attempt, answer, &by_it, &own.user);
            rows.push((format!("{}: {}", who.name(), attempt.name), result));
        }
        let answered = mine.iter().filter(|a| matches!(a.expected, Expected::Answered(_))).count();
        let result = match by_it.len() == answered {
            true => Ok(()),
            false => Err(anyhow::anyhow!("{answered} requests were to reach the API server, {by_it:#?} did")),
        };
        rows.push((format!("{}: nothing else reached the API server", who.name()), result));
    }
    let known = |r: &&Reached| r.user_agent.starts_with("kubectl/v1") || r.user_agent.contains("example.com");
    let result = match reached.iter().find(known) {
        None => Ok(()),
        Some(disguised) => Err(anyhow::anyhow!("{disguised:?}")),
    };
    rows.push(("nothing came in disguise".into(), result));
    Ok(rows)
}

fn user_agent(controller: &str) -> String {
    format!("{HOST_USER_AGENT} (controller/{controller})")
}

/// Whether what came of an attempt is what had to.
fn judge(attempt: &Attempt, answer: &Answer, reached: &[&Reached], host: &str) -> Result<()> {
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
            as_whom(record, attempt.who.service_account())?;
        }
    }
    Ok(())
}

/// Whether a request was made as this ServiceAccount, or as the host.
fn as_whom(record: &Reached, account: Option<(&str, &str)>) -> Result<()> {
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

/// An API server that sends a guest elsewhere: to what it may not have, and to another server.
async fn redirected(cluster: &Cluster) -> Result<()> {
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
    ensure!(rules.iter().all(|rule| rule.hits() == 1), "the proxy was not asked once for each");
    let followed = audit::read(cluster.dir())?.into_iter().find(|r| r.user_agent == user_agent(NAME));
    ensure!(followed.is_none(), "{followed:?}");
    Ok(())
}
