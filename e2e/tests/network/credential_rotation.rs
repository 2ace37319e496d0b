//! Credentials that rotate while the host runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::config::AuthInfo;
use tokio::time::sleep;
use wasmop_e2e::part::Part;
use wasmop_e2e::table::Skip;

use crate::fixture::{COLUMN, Fixture, Run};

/// The lifetime of the first certificate. The host has to start within it.
const SHORT: Duration = Duration::from_secs(60);
/// The API server caches a token for some seconds; then the host gets a 401 and retries with backoff.
const RECOVERY: Duration = Duration::from_secs(60);
/// The time after which the API server has no cached authentication.
const FORGOTTEN: Duration = Duration::from_secs(12);

pub fn rows<'a>(part: &'a Part, fixture: &'a Fixture) -> Vec<LocalBoxFuture<'a, ()>> {
    let files = with_authority(fixture, certificate_files(fixture));
    let plugin = with_authority(fixture, plugin_certificate(fixture));
    vec![
        part.row("a rotated client certificate replaces an expired one", COLUMN, files).boxed_local(),
        part.row("a plugin's renewed certificate replaces an expired one", COLUMN, plugin).boxed_local(),
        part.row("a plugin's token without expiry is renewed after a 401", COLUMN, plugin_token(fixture)).boxed_local(),
        part.row("a rotated token file with newlines takes effect", COLUMN, token_file(fixture)).boxed_local(),
    ]
}

/// Skips a row if the cluster's certificate authority is not available.
async fn with_authority(fixture: &Fixture, check: impl Future<Output = Result<()>>) -> Result<()> {
    match fixture.certificate(SHORT)? {
        Some(_) => check.await,
        None => Err(Skip::because("the cluster's certificate authority is not available")),
    }
}

async fn goes_on(run: Run<'_>) -> Result<()> {
    for value in ["after the rotation", "after one more change"] {
        run.reconciles("probe", value, RECOVERY).await?;
    }
    run.stop().await
}

async fn certificate_files(fixture: &Fixture) -> Result<()> {
    let (crt, key) = (fixture.path("rotated.crt"), fixture.path("rotated.key"));
    let write = |valid| {
        let (certificate, private) = fixture.certificate(valid)?.context("no authority")?;
        std::fs::write(&crt, certificate)?;
        std::fs::write(&key, private)?;
        anyhow::Ok(())
    };
    write(SHORT)?;
    let expires = tokio::time::Instant::now() + SHORT;
    let user = AuthInfo {
        client_certificate: Some(crt.display().to_string()),
        client_key: Some(key.display().to_string()),
        ..AuthInfo::default()
    };
    let kubeconfig = fixture.kubeconfig_of("rotated-certificate", user)?;
    let run = fixture.run("rotated-certificate", &kubeconfig, &[]).await?;
    write(Duration::from_secs(3600))?;
    tokio::time::sleep_until(expires + Duration::from_secs(1)).await;
    goes_on(run).await
}

/// A plugin that prints a credential from a file.
fn plugin(fixture: &Fixture, name: &str, status: &serde_json::Value) -> Result<AuthInfo> {
    let output = fixture.path(&format!("{name}.json"));
    let credential = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status,
    });
    std::fs::write(&output, credential.to_string())?;
    Ok(serde_json::from_value(serde_json::json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [output],
        "interactiveMode": "Never",
    }}))?)
}

async fn plugin_certificate(fixture: &Fixture) -> Result<()> {
    let status = |valid: Duration| {
        let (certificate, key) = fixture.certificate(valid)?.context("no authority")?;
        let expires = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::try_from(valid)?;
        anyhow::Ok(serde_json::json!({
            "clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": expires.to_string(),
        }))
    };
    let expires = tokio::time::Instant::now() + SHORT;
    let user = plugin(fixture, "plugin-certificate", &status(SHORT)?)?;
    let kubeconfig = fixture.kubeconfig_of("plugin-certificate", user)?;
    let run = fixture.run("plugin-certificate", &kubeconfig, &[]).await?;
    plugin(fixture, "plugin-certificate", &status(Duration::from_secs(3600))?)?;
    tokio::time::sleep_until(expires + Duration::from_secs(1)).await;
    goes_on(run).await
}

async fn plugin_token(fixture: &Fixture) -> Result<()> {
    let token = fixture.token("plugin-token", true).await?;
    let user = plugin(fixture, "plugin-token", &serde_json::json!({ "token": token }))?;
    let kubeconfig = fixture.kubeconfig_of("plugin-token", user)?;
    let run = fixture.run("plugin-token", &kubeconfig, &[]).await?;
    let next = fixture.another_token("plugin-token", "plugin-token-2").await?;
    plugin(fixture, "plugin-token", &serde_json::json!({ "token": next }))?;
    fixture.revoke("plugin-token").await?;
    sleep(FORGOTTEN).await;
    goes_on(run).await
}

async fn token_file(fixture: &Fixture) -> Result<()> {
    let file = fixture.path("rotated-token");
    let token = fixture.token("rotated-token", true).await?;
    std::fs::write(&file, format!("{token}\n"))?;
    let user = AuthInfo { token_file: Some(file.display().to_string()), ..AuthInfo::default() };
    let kubeconfig = fixture.kubeconfig_of("rotated-token", user)?;
    let run = fixture.run("rotated-token", &kubeconfig, &[]).await?;
    let next = fixture.another_token("rotated-token", "rotated-token-2").await?;
    ensure!(next != token, "the same token");
    std::fs::write(&file, format!(" {next}\r\n"))?;
    fixture.revoke("rotated-token").await?;
    sleep(FORGOTTEN).await;
    goes_on(run).await
}
