//! What goes wrong between a host and an API server is said: with the input named, and a remedy.
//!
//! One control plane serves all tests, so they run one after the other, and without cargo's harness:
//! the control plane ends, and its files go, with `main`.

mod packages;
mod token;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::guests;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::{TestCluster, PATIENCE};
use wasmop_testbed::controlplane::Binaries;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;

type Test = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// `missing_crd` creates the CRD that those before must not find.
const TESTS: [(&str, Test); 11] = [
    ("an_unknown_token_is_refused_with_a_remedy", |fixture| Box::pin(fixture.unknown_token())),
    ("an_expired_token_is_refused_with_a_remedy", |fixture| Box::pin(fixture.expired_token())),
    ("a_second_host_on_a_state_directory_is_refused", |fixture| Box::pin(fixture.second_host())),
    ("a_memory_budget_too_small_for_one_instance_is_refused", |fixture| Box::pin(fixture.small_budget())),
    ("encrypted_snapshots_without_their_key_are_refused_and_kept", |fixture| Box::pin(fixture.other_key())),
    ("packages_made_by_hand_are_left_out_and_the_others_run", |fixture| Box::pin(packages::made_by_hand(fixture))),
    ("a_host_that_compiles_answers_probes_and_ends_when_it_is_told", |fixture| Box::pin(packages::compiling(fixture))),
    ("an_address_space_limit_is_named_with_a_remedy", |fixture| Box::pin(packages::address_space(fixture))),
    ("a_missing_crd_is_named_and_the_controller_goes_on_when_it_appears", |fixture| Box::pin(fixture.missing_crd())),
    ("a_forbidden_identity_is_named_and_goes_on_once_it_is_allowed", |fixture| Box::pin(fixture.forbidden())),
    ("lists_are_streamed_and_come_in_pages_where_that_is_refused", |fixture| Box::pin(fixture.streamed_lists())),
];

const CONTROLLER: &str = "probe-go";
/// Of the controller: Probes, ConfigMaps, ServiceAccounts.
const WATCHES: u64 = 3;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let fixture = match Fixture::set().await {
            Ok(fixture) => fixture,
            Err(error) => {
                println!("failed: the fixture for the tests: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let mut code = ExitCode::SUCCESS;
        for (name, test) in TESTS {
            match test(&fixture).await {
                Ok(()) => println!("test {name} ... ok"),
                Err(error) => {
                    println!("{error:#}\ntest {name} ... FAILED");
                    code = ExitCode::FAILURE;
                }
            }
        }
        code
    })
}

/// A cluster without the Probe CRD, and a package that asks for it.
struct Fixture {
    cluster: TestCluster,
    package: PathBuf,
}

impl Fixture {
    async fn set() -> Result<Fixture> {
        let cluster = TestCluster::start().await?;
        // Of the guests, the one that is built fastest.
        let package = tokio::task::block_in_place(|| guests::build("go", cluster.dir()))?.package;
        cluster.create_namespace(CONTROLLER).await?;
        Ok(Fixture { cluster, package })
    }

    /// Options with a state directory and a log named `name`; with a token in place of the
    /// administrator's credentials, if one is given.
    fn options(&self, name: &str, token: Option<&str>) -> Result<HostOptions> {
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

    /// Starts a host that must refuse to run; returns what it said.
    fn refused(&self, options: &HostOptions) -> Result<String> {
        tokio::task::block_in_place(|| {
            let mut host = Host::spawn(options)?;
            let status = host.wait(PATIENCE)?;
            let said = std::fs::read_to_string(&options.log)?;
            ensure!(status.code() == Some(1), "it ended with {status}: {said}");
            Ok(said)
        })
    }

    async fn service_account(&self, name: &str) -> Result<Api<ServiceAccount>> {
        let accounts = Api::<ServiceAccount>::namespaced(self.cluster.client.clone(), "default");
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
        Ok(accounts)
    }

    /// Creates a Probe, which `host` must reconcile.
    async fn reconciles(&self, name: &str, host: &mut Host) -> Result<()> {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some([("guest".to_owned(), CONTROLLER.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let probes = Api::<Probe>::namespaced(self.cluster.client.clone(), CONTROLLER);
        probes.create(&PostParams::default(), &Probe { metadata, spec: spec("child", "one"), status: None }).await?;
        let reconciled = |probe: Option<&Probe>| probe.is_some_and(Probe::is_current);
        let wait = kube::runtime::wait::await_condition(probes, name, reconciled);
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        ensure!(waited.is_ok(), "{name} is not reconciled; the end of the log:\n{}", host.log.tail(10));
        Ok(())
    }

    async fn unknown_token(&self) -> Result<()> {
        let options = self.options("unknown", Some("no-such-token"))?;
        says(&self.refused(&options)?, &[&self.cluster.plane.server, "credentials", "help:", "kubeconfig"])
    }

    async fn expired_token(&self) -> Result<()> {
        let account = self.service_account("expired").await?.get("expired").await?;
        let issuer = match self.cluster.binaries {
            Binaries::Bundled(_) => "https://kubernetes.default.svc".to_owned(),
            Binaries::Separate { .. } => format!("{}/", self.cluster.plane.server),
        };
        let key = self.cluster.dir().join("cluster/pki/sa.key");
        // The same token, were it still valid, is accepted: it is the time that is refused.
        let claims = |expires_in: i64| token::claims(&issuer, &account, expires_in);
        let valid = self.options("still-valid", Some(&token::sign(&key, &claims(3600))?))?;
        wasmop_e2e::test_cluster::client(&valid.kubeconfig).await?.apiserver_version().await?;

        let options = self.options("expired", Some(&token::sign(&key, &claims(-3600))?))?;
        says(&self.refused(&options)?, &[&self.cluster.plane.server, "credentials", "help:", "expired", "kubeconfig"])
    }

    async fn second_host(&self) -> Result<()> {
        let first = self.options("first", None)?;
        let second = HostOptions { log: self.cluster.dir().join("second.log"), ..first.clone() };
        let mut host = tokio::task::block_in_place(|| ready(&first))?;
        let said = self.refused(&second)?;
        says(&said, &[&first.state_dir.display().to_string(), "another host", "help:", "--state-dir"])?;
        ensure!(host.is_running(), "the first host has ended");
        tokio::task::block_in_place(|| host.terminate())?;
        Ok(())
    }

    async fn small_budget(&self) -> Result<()> {
        let mut options = self.options("small-budget", None)?;
        options.args = vec!["--memory-budget".into(), "1Mi".into()];
        says(&self.refused(&options)?, &["1048576 bytes", CONTROLLER, "help:", "--memory-budget"])
    }

    async fn other_key(&self) -> Result<()> {
        let options = self.options("sealed", None)?;
        let keyed = |letter: u8| -> Result<HostOptions> {
            let file = self.cluster.dir().join(format!("key-{letter}"));
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
            says(&self.refused(&wrong)?, &[CONTROLLER, word, "help:", "--encryption-key-file"])?;
        }
        let said = run(&keyed(1)?)?;
        ensure!(said.contains(r#""from":"snapshot""#), "it began anew: {said}");
        Ok(())
    }

    async fn forbidden(&self) -> Result<()> {
        let accounts = self.service_account("nobody").await?;
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let issued = accounts.create_token_request("nobody", &PostParams::default(), &request).await?;
        let token = issued.status.and_then(|status| status.token).context("the API server issued no token")?;
        let options = self.options("forbidden", Some(&token))?;
        let mut host = Host::spawn(&options)?;
        let waits = |record: &Record| {
            record.is("waiting for resource", CONTROLLER) && record.text("resource").contains("configmaps")
        };
        let record =
            tokio::task::block_in_place(|| host.log.wait_for(0, PATIENCE, "line about the forbidden watch", waits))?;
        says(&record.0.to_string(), &["system:serviceaccount:default:nobody", "grant", "list", "watch", "configmaps"])?;

        // Allowed now, so the waiting ends.
        let binding = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "nobody" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
            "subjects": [{ "kind": "ServiceAccount", "name": "nobody", "namespace": "default" }],
        }))?;
        Api::<ClusterRoleBinding>::all(self.cluster.client.clone()).create(&PostParams::default(), &binding).await?;
        self.reconciles("allowed", &mut host).await?;
        tokio::task::block_in_place(|| host.terminate())?;
        Ok(())
    }

    async fn streamed_lists(&self) -> Result<()> {
        let proxy = FaultProxy::start(self.cluster.client.clone()).await?;
        let options = |name: &str| -> Result<HostOptions> {
            let options = self.options(name, None)?;
            let kubeconfig = self.cluster.dir().join(format!("{name}.kubeconfig"));
            std::fs::write(&kubeconfig, proxy.kubeconfig())?;
            Ok(HostOptions { kubeconfig, ..options })
        };
        // Pages of 50 whole objects, and of 500 with metadata only.
        let pages = proxy.delay("limit=50", Duration::ZERO);
        let streamed = proxy.delay("sendInitialEvents=true", Duration::ZERO);
        let mut host = tokio::task::block_in_place(|| ready(&options("streamed")?))?;
        self.reconciles("streamed", &mut host).await?;
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
        self.reconciles("in-pages", &mut host).await?;
        tokio::task::block_in_place(|| host.terminate())?;
        // All watches may have asked before the first was refused.
        ensure!((1..=WATCHES).contains(&refused.hits()), "asked for {} streamed lists", refused.hits());
        ensure!(pages.hits() == WATCHES, "{} pages", pages.hits());
        Ok(())
    }

    async fn missing_crd(&self) -> Result<()> {
        let options = self.options("no-crd", None)?;
        let mut host = Host::spawn(&options)?;
        let waits = |record: &Record| record.is("waiting for resource", CONTROLLER);
        let record =
            tokio::task::block_in_place(|| host.log.wait_for(0, PATIENCE, "line about the missing CRD", waits))?;
        says(&record.0.to_string(), &["probes", "e2e.wasmop.dev", "CustomResourceDefinition", "kubectl apply"])?;

        self.cluster.create_unserved_crd().await?;
        let unserved = |record: &Record| waits(record) && record.0.to_string().contains("served: false");
        let record =
            tokio::task::block_in_place(|| host.log.wait_for(0, PATIENCE, "line about the version", unserved))?;
        says(&record.0.to_string(), &["probes.e2e.wasmop.dev", "served: true", "serves no version"])?;

        self.cluster.serve_crd().await?;
        self.reconciles("early", &mut host).await?;
        tokio::task::block_in_place(|| host.terminate())?;
        Ok(())
    }
}

fn ready(options: &HostOptions) -> Result<Host> {
    let mut host = Host::spawn(options)?;
    host.wait_ready(&[CONTROLLER], PATIENCE)?;
    Ok(host)
}

/// Whether `text` contains all of `words`.
fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    Ok(())
}
