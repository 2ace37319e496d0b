//! The part's fixture: a cluster without the Probe CRD, and hosts that must fail or wait on it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use wasmop_e2e::guests;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_testbed::host::{Host, HostOptions};

/// The only column.
pub const COLUMN: &str = "result";
/// The controller of the package.
pub const CONTROLLER: &str = "probe-go";

/// A cluster without the Probe CRD, and a package that needs it.
pub struct Fixture {
    pub cluster: TestCluster,
    package: PathBuf,
}

impl Fixture {
    pub async fn set_up() -> Result<Fixture> {
        let cluster = TestCluster::start().await?;
        // The Go guest builds fastest.
        let package = tokio::task::block_in_place(|| guests::build("go", cluster.dir()))?.package;
        cluster.create_namespace(CONTROLLER).await?;
        Ok(Fixture { cluster, package })
    }

    /// Options of a host with a state directory and a log named `name`. A token replaces the administrator's
    /// credentials.
    pub fn options(&self, name: &str, token: Option<&str>) -> Result<HostOptions> {
        let mut options = self.cluster.host_options(name, vec![self.package.clone()])?;
        if let Some(token) = token {
            options.kubeconfig = self.cluster.dir().join(format!("{name}.kubeconfig"));
            let mut kubeconfig = kube::config::Kubeconfig::read_from(&self.cluster.plane.kubeconfig)?;
            for user in &mut kubeconfig.auth_infos {
                user.auth_info = Some(serde_json::from_value(serde_json::json!({ "token": token }))?);
            }
            std::fs::write(&options.kubeconfig, serde_json::to_string(&kubeconfig)?)?;
        }
        Ok(options)
    }

    /// Starts a host that must exit with an error. Returns its output.
    pub fn refused(&self, options: &HostOptions) -> Result<String> {
        tokio::task::block_in_place(|| {
            let mut host = Host::spawn(options)?;
            let status = host.wait(TIMEOUT)?;
            let said = std::fs::read_to_string(&options.log)?;
            ensure!(status.code() == Some(1), "it ended with {status}: {said}");
            Ok(said)
        })
    }

    pub async fn service_account(&self, name: &str) -> Result<Api<ServiceAccount>> {
        let accounts = Api::<ServiceAccount>::namespaced(self.cluster.client.clone(), "default");
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
        Ok(accounts)
    }

    /// Creates a Probe, and waits until `host` has reconciled it.
    pub async fn reconciles(&self, name: &str, host: &mut Host) -> Result<()> {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some([("guest".to_owned(), CONTROLLER.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let probes = Api::<Probe>::namespaced(self.cluster.client.clone(), CONTROLLER);
        probes.create(&PostParams::default(), &Probe { metadata, spec: spec("child", "one"), status: None }).await?;
        let reconciled = |probe: Option<&Probe>| probe.is_some_and(Probe::is_current);
        let wait = kube::runtime::wait::await_condition(probes, name, reconciled);
        let waited = tokio::time::timeout(TIMEOUT, wait).await;
        ensure!(waited.is_ok(), "{name} is not reconciled; the end of the log:\n{}", host.log.tail(10));
        Ok(())
    }
}

/// Starts a host, and waits until its controller is ready.
pub fn ready(options: &HostOptions) -> Result<Host> {
    let mut host = Host::spawn(options)?;
    host.wait_ready(&[CONTROLLER], TIMEOUT)?;
    Ok(host)
}

/// Checks that `text` contains all `words`.
pub fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    Ok(())
}
