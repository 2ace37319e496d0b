//! The API server is killed and restarted, and the host's credentials rotate.
//!
//! The host connects without a proxy, because the rows test its own authentication.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Api, Client};
use tokio::time::Instant;
use wasmop_e2e::guests;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::probe::spec;
use wasmop_e2e::probe_object::ProbeObject;
use wasmop_e2e::test_cluster::{self, TIMEOUT, TestCluster};
use wasmop_package::Package;

const COLUMN: &str = "rust";
const NAMESPACE: &str = "default";
const ACCOUNT: &str = "wasmop";
/// How long the API server is down.
const AWAY: Duration = Duration::from_secs(2);
/// The host reads a token file once a minute, and retries rejected requests with backoff.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    part::main("api-server", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let mut cluster = TestCluster::start().await?;
    let guest = tokio::task::block_in_place(|| guests::build(COLUMN, cluster.dir()))?;
    cluster.create_crd().await?;
    cluster.create_namespace(guest.name).await?;
    let first = account_token(&cluster.client, "first").await?;
    let second = account_token(&cluster.client, "second").await?;
    let token_file = cluster.dir().join("token");
    std::fs::write(&token_file, &first)?;
    let kubeconfig = cluster.dir().join("token.kubeconfig");
    let by_file = AuthInfo { token_file: Some(token_file.display().to_string()), ..AuthInfo::default() };
    write_kubeconfig(&cluster, by_file, &kubeconfig)?;

    let package = Package::parse(std::fs::read(&guest.package)?)?;
    let host = InProcessHost::start(vec![package], &kubeconfig, &cluster.dir().join("state"))?;
    host.until_ready().await?;
    let probe = ProbeObject::new(&cluster, &guest, "probe");
    probe.create().await?;

    let row = "a restarted API server with a new certificate costs no change and at most one list";
    part.row(row, COLUMN, killed(&mut cluster, &host, &probe)).await;
    let by_file = rotated(&cluster, &host, &probe, ("first", &first), || Ok(std::fs::write(&token_file, &second)?));
    part.row("a rotated token file takes effect after the old token is revoked", COLUMN, by_file).await;
    host.stop().await?;

    let third = account_token(&cluster.client, "third").await?;
    let fourth = account_token(&cluster.client, "fourth").await?;
    std::fs::write(&token_file, &third)?;
    write_kubeconfig(&cluster, by_plugin(cluster.dir(), &token_file)?, &kubeconfig)?;
    let package = Package::parse(std::fs::read(&guest.package)?)?;
    let host = InProcessHost::start(vec![package], &kubeconfig, &cluster.dir().join("state"))?;
    host.until_ready().await?;
    probe.change("by a plugin").await?;
    let by_plugin = rotated(&cluster, &host, &probe, ("third", &third), || Ok(std::fs::write(&token_file, &fourth)?));
    part.row("an exec plugin's new token takes effect after the old one expires", COLUMN, by_plugin).await;
    host.stop().await
}

async fn killed(cluster: &mut TestCluster, host: &InProcessHost, probe: &ProbeObject) -> Result<()> {
    let watches = async || Ok::<_, anyhow::Error>(host.overview().await?.host.watches);
    let (before, listed) = (probe.observed().await?, watches().await?);
    cluster.plane.kill()?;
    tokio::time::sleep(AWAY).await;
    ensure!(host.get("/healthz").await?.0 == 200, "the host is not healthy without its API server");
    tokio::task::block_in_place(|| cluster.plane.start_again())?;
    probe.change("after it was killed").await?;
    let after = probe.observed().await?;
    ensure!(after.seen > before.seen, "the guest's memory is lost: {before:?}, then {after:?}");
    // A restarted API server may have lost the history after an older resource version.
    for (before, after) in listed.iter().zip(watches().await?) {
        ensure!(after.resource == before.resource && after.lists <= before.lists + 1, "{before:?}, then {after:?}");
    }
    let controller = host.controller().await?;
    ensure!(controller.restarts == 0, "{controller:?}");
    Ok(())
}

async fn rotated(
    cluster: &TestCluster,
    host: &InProcessHost,
    probe: &ProbeObject,
    (secret, old): (&str, &str),
    rotate: impl FnOnce() -> Result<()>,
) -> Result<()> {
    rotate()?;
    Api::<Secret>::namespaced(cluster.client.clone(), NAMESPACE).delete(secret, &DeleteParams::default()).await?;
    until_refused(cluster, old).await?;
    probe.change_without_waiting(spec("child", "after the rotation")).await?;
    probe.until_current(TOKEN_TIMEOUT).await?;
    let controller = host.controller().await?;
    ensure!(controller.restarts == 0, "{controller:?}");
    Ok(())
}

/// A plugin that prints the token in a file, with an expiry in the near future.
fn by_plugin(dir: &Path, token_file: &Path) -> Result<AuthInfo> {
    let plugin = dir.join("plugin.sh");
    let script = format!(
        r#"printf '{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{"token":"%s","expirationTimestamp":"%s"}}}}' \
    "$(cat {})" "$(date --utc --date '+65 seconds' +%Y-%m-%dT%H:%M:%SZ)""#,
        token_file.display()
    );
    std::fs::write(&plugin, script)?;
    Ok(serde_json::from_value(serde_json::json!({
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": [plugin], "interactiveMode": "Never"},
    }))?)
}

/// A token of a cluster administrator. It is valid while the Secret of this name exists.
async fn account_token(client: &Client, secret: &str) -> Result<String> {
    let named = |name: &str| ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE);
    if accounts.get_opt(ACCOUNT).await?.is_none() {
        let account = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
        accounts.create(&PostParams::default(), &account).await?;
        let subject = Subject {
            kind: "ServiceAccount".into(),
            name: ACCOUNT.into(),
            namespace: Some(NAMESPACE.into()),
            ..Subject::default()
        };
        let role_ref = RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: "cluster-admin".into(),
        };
        let binding = ClusterRoleBinding { metadata: named(ACCOUNT), role_ref, subjects: Some(vec![subject]) };
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
    }
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let created =
        secrets.create(&PostParams::default(), &Secret { metadata: named(secret), ..Secret::default() }).await?;
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Secret".into()),
        name: Some(secret.into()),
        uid: created.metadata.uid,
    };
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await?;
    answer.status.and_then(|status| status.token).context("no token")
}

/// Writes the cluster's kubeconfig with other credentials.
fn write_kubeconfig(cluster: &TestCluster, credentials: AuthInfo, path: &Path) -> Result<()> {
    let mut kubeconfig = Kubeconfig::read_from(&cluster.plane.kubeconfig)?;
    kubeconfig.auth_infos.first_mut().context("no user")?.auth_info = Some(credentials);
    // JSON is valid YAML.
    Ok(std::fs::write(path, serde_json::to_string(&kubeconfig)?)?)
}

/// Waits until the API server rejects a token. It caches the result of an authentication for some seconds.
async fn until_refused(cluster: &TestCluster, token: &str) -> Result<()> {
    let path = cluster.dir().join("old.kubeconfig");
    write_kubeconfig(cluster, AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() }, &path)?;
    let deadline = Instant::now() + TIMEOUT;
    let namespaces = Api::<Namespace>::all(test_cluster::client(&path).await?);
    loop {
        match namespaces.get(NAMESPACE).await {
            Err(kube::Error::Api(status)) if status.code == 401 => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(_) if Instant::now() > deadline => bail!("the old token is still accepted after {TIMEOUT:?}"),
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
