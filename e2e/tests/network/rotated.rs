//! Credentials that change while the host runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::AuthInfo;
use tokio::time::sleep;
use wasmop_e2e::table::Cell;

use crate::stage::{Run, Stage};
use crate::{Row, row};

/// How long a certificate is good that is replaced in time: the host has to start with it.
const SHORT: Duration = Duration::from_secs(60);
/// The API server remembers for some seconds that a token was good; then come a 401 and backoff.
const RECOVERY: Duration = Duration::from_secs(60);
/// All that the API server has remembered is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(12);

pub fn rows(stage: &Stage) -> Vec<Row<'_>> {
    vec![
        of_certificates("client certificate rotated, the old one expired: goes on", stage, certificate_files(stage)),
        of_certificates("plugin's certificate expired and was renewed: goes on", stage, plugin_certificate(stage)),
        row("plugin's token revoked, without an expiry: it is run again after a 401", plugin_token(stage)),
        row("token file rotated, with newlines: goes on", token_file(stage)),
    ]
}

fn of_certificates<'a>(name: &'static str, stage: &'a Stage, result: impl Future<Output = Result<()>> + 'a) -> Row<'a> {
    Box::pin(async move {
        match stage.certificate(SHORT) {
            Ok(Some(_)) => (name, Cell::from(result.await)),
            Ok(None) => (name, Cell::Skipped("the cluster's authority is not at hand".into())),
            Err(error) => (name, Cell::Failed(format!("{error:#}"))),
        }
    })
}

async fn goes_on(run: Run<'_>) -> Result<()> {
    for value in ["after the rotation", "and once more"] {
        run.reconciles("probe", value, RECOVERY).await?;
    }
    run.stop().await
}

async fn certificate_files(stage: &Stage) -> Result<()> {
    let (crt, key) = (stage.path("rotated.crt"), stage.path("rotated.key"));
    let write = |valid| {
        let (certificate, private) = stage.certificate(valid)?.context("no authority")?;
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
    let kubeconfig = stage.kubeconfig_of("rotated-certificate", user)?;
    let run = stage.run("rotated-certificate", &kubeconfig, &[]).await?;
    write(Duration::from_secs(3600))?;
    tokio::time::sleep_until(expires + Duration::from_secs(1)).await;
    goes_on(run).await
}

/// A plugin that prints a file.
fn plugin(stage: &Stage, name: &str, status: &serde_json::Value) -> Result<AuthInfo> {
    let output = stage.path(&format!("{name}.json"));
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

async fn plugin_certificate(stage: &Stage) -> Result<()> {
    let status = |valid: Duration| {
        let (certificate, key) = stage.certificate(valid)?.context("no authority")?;
        let expires = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::try_from(valid)?;
        anyhow::Ok(serde_json::json!({
            "clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": expires.to_string(),
        }))
    };
    let expires = tokio::time::Instant::now() + SHORT;
    let user = plugin(stage, "plugin-certificate", &status(SHORT)?)?;
    let kubeconfig = stage.kubeconfig_of("plugin-certificate", user)?;
    let run = stage.run("plugin-certificate", &kubeconfig, &[]).await?;
    plugin(stage, "plugin-certificate", &status(Duration::from_secs(3600))?)?;
    tokio::time::sleep_until(expires + Duration::from_secs(1)).await;
    goes_on(run).await
}

async fn plugin_token(stage: &Stage) -> Result<()> {
    let token = stage.token("plugin-token", true).await?;
    let user = plugin(stage, "plugin-token", &serde_json::json!({ "token": token }))?;
    let kubeconfig = stage.kubeconfig_of("plugin-token", user)?;
    let run = stage.run("plugin-token", &kubeconfig, &[]).await?;
    let next = stage.another_token("plugin-token", "plugin-token-2").await?;
    plugin(stage, "plugin-token", &serde_json::json!({ "token": next }))?;
    stage.revoke("plugin-token").await?;
    sleep(FORGOTTEN).await;
    goes_on(run).await
}

async fn token_file(stage: &Stage) -> Result<()> {
    let file = stage.path("rotated-token");
    let token = stage.token("rotated-token", true).await?;
    std::fs::write(&file, format!("{token}\n"))?;
    let user = AuthInfo { token_file: Some(file.display().to_string()), ..AuthInfo::default() };
    let kubeconfig = stage.kubeconfig_of("rotated-token", user)?;
    let run = stage.run("rotated-token", &kubeconfig, &[]).await?;
    let next = stage.another_token("rotated-token", "rotated-token-2").await?;
    ensure!(next != token, "the same token");
    std::fs::write(&file, format!(" {next}\r\n"))?;
    stage.revoke("rotated-token").await?;
    sleep(FORGOTTEN).await;
    goes_on(run).await
}
