//! The part's fixture: a cluster, a guest, client certificates and tokens, and hosts with a namespace each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use tokio::time::Instant;
use wasmop_e2e::guests::{self, Guest};
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::TestCluster;
use wasmop_testbed::host::{Host, HostOptions};

/// The only column.
pub const COLUMN: &str = "rust";
/// The deadline for the first reconcile. Many hosts compile the guest at the same time.
const START: Duration = Duration::from_secs(120);

pub struct Fixture {
    pub cluster: TestCluster,
    pub guest: Guest,
}

impl Fixture {
    pub async fn set_up() -> Result<Fixture> {
        let cluster = TestCluster::start().await?;
        let guest = tokio::task::block_in_place(|| guests::build(COLUMN, cluster.dir()))?;
        cluster.create_crd().await?;
        Ok(Fixture { cluster, guest })
    }

    /// The address of the API server.
    pub fn api_server(&self) -> Result<SocketAddr> {
        Ok(self.cluster.plane.server.trim_start_matches("https://").parse()?)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.cluster.dir().join(name)
    }

    /// Writes the administrator's kubeconfig, with a change, to a file of this name.
    pub fn kubeconfig(&self, name: &str, change: impl FnOnce(&mut Kubeconfig)) -> Result<PathBuf> {
        let mut kubeconfig = Kubeconfig::read_from(&self.cluster.plane.kubeconfig)?;
        change(&mut kubeconfig);
        let path = self.path(&format!("{name}.kubeconfig"));
        // JSON is valid YAML.
        std::fs::write(&path, serde_json::to_string(&kubeconfig)?)?;
        Ok(path)
    }

    /// Writes the administrator's kubeconfig with another user.
    pub fn kubeconfig_of(&self, name: &str, user: AuthInfo) -> Result<PathBuf> {
        self.kubeconfig(name, |kubeconfig| kubeconfig.auth_infos[0].auth_info = Some(user))
    }

    /// An administrator's client certificate and key in PEM, valid for this time.
    ///
    /// `None` if the cluster's certificate authority is not available.
    pub fn certificate(&self, valid: Duration) -> Result<Option<(String, String)>> {
        let Ok(key) = std::fs::read_to_string(self.path("cluster/pki/ca.key")) else { return Ok(None) };
        let named = |pairs: &[(DnType, &str)]| -> Result<CertificateParams> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name = DistinguishedName::new();
            for (kind, value) in pairs {
                let value = DnValue::PrintableString((*value).try_into()?);
                params.distinguished_name.push(kind.clone(), value);
            }
            Ok(params)
        };
        let authority = Issuer::new(named(&[(DnType::CommonName, "controlplane-ca")])?, KeyPair::from_pem(&key)?);
        let mut params = named(&[(DnType::CommonName, "network-test")])?;
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + valid).into();
        let key = KeyPair::generate()?;
        Ok(Some((params.signed_by(&key, &authority)?.pem(), key.serialize_pem())))
    }

    /// Creates a ServiceAccount and a token of it. The token is valid while the Secret of this name exists.
    pub async fn token(&self, name: &str, is_admin: bool) -> Result<String> {
        let client = || self.cluster.client.clone();
        let named = || ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let accounts = Api::<ServiceAccount>::namespaced(client(), "default");
        accounts
            .create(&PostParams::default(), &ServiceAccount { metadata: named(), ..ServiceAccount::default() })
            .await?;
        if is_admin {
            self.make_admin(name).await?;
        }
        self.another_token(name, name).await
    }

    /// Another token of the same account, bound to another Secret.
    pub async fn another_token(&self, account: &str, secret: &str) -> Result<String> {
        let client = || self.cluster.client.clone();
        let metadata = ObjectMeta { name: Some(secret.into()), ..ObjectMeta::default() };
        let secrets = Api::<Secret>::namespaced(client(), "default");
        let created = secrets.create(&PostParams::default(), &Secret { metadata, ..Secret::default() }).await?;
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
        let accounts = Api::<ServiceAccount>::namespaced(client(), "default");
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        answer.status.and_then(|status| status.token).context("no token")
    }

    pub async fn revoke(&self, secret: &str) -> Result<()> {
        let secrets = Api::<Secret>::namespaced(self.cluster.client.clone(), "default");
        secrets.delete(secret, &DeleteParams::default()).await?;
        Ok(())
    }

    pub async fn make_admin(&self, account: &str) -> Result<()> {
        let subject = Subject {
            kind: "ServiceAccount".into(),
            name: account.into(),
            namespace: Some("default".into()),
            ..Subject::default()
        };
        let role_ref = RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: "cluster-admin".into(),
        };
        let metadata = ObjectMeta { name: Some(account.into()), ..ObjectMeta::default() };
        let binding = ClusterRoleBinding { metadata, role_ref, subjects: Some(vec![subject]) };
        Api::all(self.cluster.client.clone()).create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Starts a host for a new namespace, and waits until it has reconciled one Probe.
    pub async fn run(&self, name: &'static str, kubeconfig: &Path, args: &[&str]) -> Result<Run<'_>> {
        self.cluster.create_namespace(name).await?;
        let mut options: HostOptions = self.cluster.host_options(name, vec![self.guest.package.clone()])?;
        options.kubeconfig = kubeconfig.to_owned();
        options.args = ["--namespace", name].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let run = Run { fixture: self, namespace: name, host: Mutex::new(Host::spawn(&options)?) };
        run.create("probe").await?;
        run.until_current("probe", START).await?;
        Ok(run)
    }
}

/// A host and its namespace.
pub struct Run<'a> {
    fixture: &'a Fixture,
    pub namespace: &'static str,
    host: Mutex<Host>,
}

impl Run<'_> {
    pub fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probes(&self) -> Api<Probe> {
        Api::namespaced(self.fixture.cluster.client.clone(), self.namespace)
    }

    pub async fn create(&self, name: &str) -> Result<()> {
        let labels = Some([("guest".to_owned(), self.fixture.guest.name.to_owned())].into());
        let metadata = ObjectMeta { name: Some(name.into()), labels, ..ObjectMeta::default() };
        let probe = Probe { metadata, spec: spec("child", "0"), status: None };
        self.probes().create(&PostParams::default(), &probe).await?;
        Ok(())
    }

    /// Changes a Probe, bypassing every proxy between the host and the cluster.
    pub async fn change(&self, name: &str, value: &str) -> Result<()> {
        let patch = serde_json::json!({ "spec": spec("child", value) });
        self.probes().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// Waits until the current spec of a Probe has been reconciled.
    pub async fn until_current(&self, name: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !self.probes().get(name).await?.is_current() {
            if Instant::now() > deadline {
                bail!("{name} is not reconciled after {timeout:?}; the end of the log:\n{}", self.host().log.tail(15));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Changes a Probe, and waits until the host has reconciled the change.
    pub async fn reconciles(&self, name: &str, value: &str, timeout: Duration) -> Result<()> {
        self.change(name, value).await?;
        self.until_current(name, timeout).await
    }

    pub async fn stop(self) -> Result<()> {
        let status = tokio::task::block_in_place(|| self.host().terminate())?;
        ensure!(status.success(), "the host ended with {status}:\n{}", self.host().log.tail(15));
        Ok(())
    }
}
