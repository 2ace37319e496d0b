//! Hosts with wrong credentials, keys and settings, and with an API server that lacks something.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::PostParams;
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::test_cluster::TIMEOUT;
use wasmop_testbed::controlplane::Binaries;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;

use crate::fixture::{CONTROLLER, Fixture, ready, says};
use crate::token;

/// Watches of the controller: Probes, ConfigMaps, ServiceAccounts.
const WATCHES: u64 = 3;

pub async fn unknown_token(fixture: &Fixture) -> Result<()> {
    let options = fixture.options("unknown", Some("no-such-token"))?;
    says(&fixture.refused(&options)?, &[&fixture.cluster.plane.server, "credentials", "help:", "kubeconfig"])
}

pub async fn expired_token(fixture: &Fixture) -> Result<()> {
    let account = fixture.service_account("expired").await?.get("expired").await?;
    let issuer = match fixture.cluster.binaries {
        Binaries::Bundled(_) => "https://kubernetes.default.svc".to_owned(),
        Binaries::Separate { .. } => format!("{}/", fixture.cluster.plane.server),
    };
    let key = fixture.cluster.dir().join("cluster/pki/sa.key");
    // A token with the same claims and a later expiry is accepted, so the rejection is about the expiry.
    let claims = |expires_in: i64| token::claims(&issuer, &account, expires_in);
    let valid = fixture.options("still-valid", Some(&token::sign(&key, &claims(3600))?))?;
    wasmop_e2e::test_cluster::client(&valid.kubeconfig).await?.apiserver_version().await?;

    let options = fixture.options("expired", Some(&token::sign(&key, &claims(-3600))?))?;
    says(&fixture.refused(&options)?, &[&fixture.cluster.plane.server, "credentials", "help:", "expired", "kubeconfig"])
}

pub async fn second_host(fixture: &Fixture) -> Result<()> {
    let first = fixture.options("first", None)?;
    let second = HostOptions { log: fixture.cluster.dir().join("second.log"), ..first.clone() };
    let mut host = tokio::task::block_in_place(|| ready(&first))?;
    let said = fixture.refused(&second)?;
    says(&said, &[&first.state_dir.display().to_string(), "another host", "help:", "--state-dir"])?;
    ensure!(host.is_running(), "the first host has ended");
    tokio::task::block_in_place(|| host.terminate())?;
    Ok(())
}

pub async fn small_budget(fixture: &Fixture) -> Result<()> {
    let mut options = fixture.options("small-budget", None)?;
    options.args = vec!["--memory-budget".into(), "1Mi".into()];
    says(&fixture.refused(&options)?, &["1048576 bytes", CONTROLLER, "help:", "--memory-budget"])
}

pub async fn other_key(fixture: &Fixture) -> Result<()> {
    let options = fixture.options("sealed", None)?;
    let keyed = |letter: u8| -> Result<HostOptions> {
        let file = fixture.cluster.dir().join(format!("key-{letter}"));
        std::fs::write(&file, [letter; 32])?;
        let args = vec!["--encryption-key-file".into(), file.display().to_string()];
        Ok(HostOptions { args, ..options.clone() })
    };
    let run = |options: &HostOptions| {
        tokio::task::block_in_place(|| {
            let mut host = ready(options)?;
            host.terminate()?;
            Ok::<_, anyhow::Error>(std::fs::read_to_string(&options.log)?)
        })
    };
    run(&keyed(1)?)?;
    for (wrong, word) in [(options.clone(), "encrypted\n"), (keyed(2)?, "with another key")] {
        says(&fixture.refused(&wrong)?, &[CONTROLLER, word, "help:", "--encryption-key-file"])?;
    }
    let said = run(&keyed(1)?)?;
    ensure!(said.contains(r#""from":"snapshot""#), "it did not continue from its snapshot: {said}");
    Ok(())
}

pub async fn forbidden(fixture: &Fixture) -> Result<()> {
    let accounts = fixture.service_account("nobody").await?;
    let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
    let issued = accounts.create_token_request("nobody", &PostParams::default(), &request).await?;
    let token = issued.status.and_then(|status| status.token).context("the API server issued no token")?;
    let options = fixture.options("forbidden", Some(&token))?;
    let mut host = Host::spawn(&options)?;
    let waits = |record: &Record| {
        record.is("waiting for resource", CONTROLLER) && record.text("resource").contains("configmaps")
    };
    let record =
        tokio::task::block_in_place(|| host.log.wait_for(0, TIMEOUT, "line about the forbidden watch", waits))?;
    says(&record.0.to_string(), &["system:serviceaccount:default:nobody", "grant", "list", "watch", "configmaps"])?;

    // With these rights the host stops waiting.
    let binding = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "nobody" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "nobody", "namespace": "default" }],
    }))?;
    Api::<ClusterRoleBinding>::all(fixture.cluster.client.clone()).create(&PostParams::default(), &binding).await?;
    fixture.reconciles("allowed", &mut host).await?;
    tokio::task::block_in_place(|| host.terminate())?;
    Ok(())
}

pub async fn streamed_lists(fixture: &Fixture) -> Result<()> {
    let proxy = FaultProxy::start(fixture.cluster.client.clone()).await?;
    let options = |name: &str| -> Result<HostOptions> {
        let options = fixture.options(name, None)?;
        let kubeconfig = fixture.cluster.dir().join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, proxy.kubeconfig())?;
        Ok(HostOptions { kubeconfig, ..options })
    };
    // Pages of 50 whole objects, and of 500 with metadata only.
    let pages = proxy.delay("limit=50", Duration::ZERO);
    let streamed = proxy.delay("sendInitialEvents=true", Duration::ZERO);
    let mut host = tokio::task::block_in_place(|| ready(&options("streamed")?))?;
    fixture.reconciles("streamed", &mut host).await?;
    tokio::task::block_in_place(|| host.terminate())?;
    ensure!(
        (streamed.hits(), pages.hits()) == (WATCHES, 0),
        "{} streamed lists, {} pages",
        streamed.hits(),
        pages.hits()
    );

    drop(streamed);
    let refused = Fault::Status { code: 422, retry_after_seconds: None };
    let refused = proxy.add(Rule::new("GET", "sendInitialEvents=true", refused));
    let mut host = tokio::task::block_in_place(|| ready(&options("in-pages")?))?;
    fixture.reconciles("in-pages", &mut host).await?;
    tokio::task::block_in_place(|| host.terminate())?;
    // All watches may have requested a streamed list before the first rejection.
    ensure!((1..=WATCHES).contains(&refused.hits()), "requested {} streamed lists", refused.hits());
    ensure!(pages.hits() == WATCHES, "{} pages", pages.hits());
    Ok(())
}

pub async fn missing_crd(fixture: &Fixture) -> Result<()> {
    let options = fixture.options("no-crd", None)?;
    let mut host = Host::spawn(&options)?;
    let waits = |record: &Record| record.is("waiting for resource", CONTROLLER);
    let record = tokio::task::block_in_place(|| host.log.wait_for(0, TIMEOUT, "line about the missing CRD", waits))?;
    says(&record.0.to_string(), &["probes", "e2e.wasmop.dev", "CustomResourceDefinition", "kubectl apply"])?;

    fixture.cluster.create_unserved_crd().await?;
    let unserved = |record: &Record| waits(record) && record.0.to_string().contains("served: false");
    let record = tokio::task::block_in_place(|| host.log.wait_for(0, TIMEOUT, "line about the version", unserved))?;
    says(&record.0.to_string(), &["probes.e2e.wasmop.dev", "served: true", "serves no version"])?;

    fixture.cluster.serve_crd().await?;
    fixture.reconciles("early", &mut host).await?;
    tokio::task::block_in_place(|| host.terminate())?;
    Ok(())
}
