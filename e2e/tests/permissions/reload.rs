//! A host reads its changed configuration file again on SIGHUP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_e2e::audit;
use wasmop_e2e::part::Part;
use wasmop_e2e::probe::{Probe, ProbeStatus, spec};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

use crate::guest::{self, Request};
use crate::setup::{COLUMN, options, rule, until_answered};

pub const NAMESPACE: &str = "reload";
const CONTROLLER: &str = "probe-go";
const POLL: Duration = Duration::from_millis(50);

const ALL: &str = "grant = \"all\"";
const NOTHING: &str = "grant = []";
/// Everything the controller needs except access to its children.
const CHILDLESS: &str = "
[[controllers.probe-go.grant]]
api-groups = [\"e2e.wasmop.dev\"]
resources = [\"probes\", \"probes/status\"]
verbs = [\"get\", \"list\", \"watch\", \"update\", \"patch\"]";

/// The rows build on each other: they change the settings of one host.
pub async fn rows(part: &Part, cluster: &TestCluster, package: &Path) -> Result<()> {
    let mut host = ReloadingHost::start(cluster, package)?;
    part.step("reload: a wider grant applies, also to watches", COLUMN, host.widen()).await;
    part.step("reload: a narrower grant applies, and no change is lost", COLUMN, host.narrow()).await;
    part.step("reload: a ServiceAccount applies", COLUMN, host.impersonate()).await;
    part.step("reload: a suspend policy applies", COLUMN, host.suspend()).await;
    part.step("reload: the log level applies", COLUMN, host.log_more()).await;
    part.step("reload: settings that need a restart are named", COLUMN, host.needs_restart()).await;
    part.step("reload: an invalid file is rejected, the old one stays in force", COLUMN, host.bad_file()).await;
    part.step("reload: impossible settings are rejected", COLUMN, host.bad_settings()).await;
    part.step("reload: no controller was restarted", COLUMN, host.end()).await;
    part.row("reload: a stream that loses its grant is cut", COLUMN, cut(cluster)).await;
    Ok(())
}

/// A guest has a watch open when its grant is revoked.
async fn cut(cluster: &TestCluster) -> Result<()> {
    const NAME: &str = "streaming";
    const PATH: &str = "/api/v1/namespaces/team-a/configmaps?watch=true";
    let request = Request { target: "", method: "GET", path: PATH, headers: "", body: "" };
    let package = guest::package(NAME, vec![rule(&[""], &["configmaps"], &["watch"])], None, &[request])?;
    std::fs::write(cluster.dir().join(format!("{NAME}.wasm")), package)?;
    let config = |grant: &str| format!("[controllers.{NAME}]\npackage = \"{NAME}.wasm\"\n{grant}\n");
    let (options, file) = options(cluster, NAME, &config(ALL))?;
    let mut host = Host::spawn(&options)?;
    let begun = |r: &Record| r.text("controller") == NAME && r.message().starts_with("001 body");
    tokio::task::block_in_place(|| host.log.wait_for(0, TIMEOUT, "piece of the watch", begun))?;
    std::fs::write(&file, config(NOTHING))?;
    host.hang_up();
    let answers = until_answered(&mut host, NAME, 1).await?;
    let failed = answers[&1].failed.clone().unwrap_or_default();
    ensure!(failed.contains("what this controller is granted has changed"), "{answers:?}");
    let status = tokio::task::block_in_place(|| host.terminate())?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// The host whose settings change, and its controller.
struct ReloadingHost {
    host: Host,
    /// The directory of the cluster.
    dir: PathBuf,
    file: PathBuf,
    package: PathBuf,
    probes: Api<Probe>,
    maps: Api<ConfigMap>,
    /// Reconciles that the controller counts in its memory.
    total: u64,
}

/// A configuration file with these settings of the host and of the controller.
fn config(package: &Path, host: &str, controller: &str) -> String {
    format!(
        "namespace = \"{NAMESPACE}\"\n{host}\n[controllers.{CONTROLLER}]\npackage = \"{}\"\n{controller}\n",
        package.display()
    )
}

const STAYS: &str = "suspend-policy = \"never\"";

impl ReloadingHost {
    fn start(cluster: &TestCluster, package: &Path) -> Result<ReloadingHost> {
        let (options, file) = options(cluster, "reload", &config(package, STAYS, CHILDLESS))?;
        let mut host = Host::spawn(&options)?;
        tokio::task::block_in_place(|| host.wait_ready(&[CONTROLLER], TIMEOUT))?;
        Ok(ReloadingHost {
            host,
            dir: cluster.dir().into(),
            file,
            package: package.into(),
            probes: Api::namespaced(cluster.client.clone(), NAMESPACE),
            maps: Api::namespaced(cluster.client.clone(), NAMESPACE),
            total: 0,
        })
    }

    /// Changes the settings. Returns the position of the log before that.
    fn change(&mut self, host: &str, controller: &str) -> Result<usize> {
        self.write(&config(&self.package, host, controller))
    }

    /// Writes the file and sends SIGHUP. Returns the position of the log before that.
    fn write(&mut self, text: &str) -> Result<usize> {
        let position = self.host.log.position()?;
        std::fs::write(&self.file, text)?;
        self.host.hang_up();
        Ok(position)
    }

    fn logged(&mut self, position: usize, what: &str, is: impl Fn(&Record) -> bool) -> Result<Record> {
        tokio::task::block_in_place(|| self.host.log.wait_for(position, TIMEOUT, what, is))
    }

    async fn create(&self, name: &str) -> Result<()> {
        let labels = Some([("guest".to_owned(), CONTROLLER.to_owned())].into());
        let metadata = ObjectMeta { name: Some(name.into()), labels, ..ObjectMeta::default() };
        let probe = Probe { metadata, spec: spec("child", "one"), status: None };
        self.probes.create(&PostParams::default(), &probe).await?;
        Ok(())
    }

    /// Waits until the current spec of a Probe has been reconciled.
    async fn until_current(&mut self, name: &str) -> Result<ProbeStatus> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let probe = self.probes.get(name).await?;
            if probe.is_current() {
                self.total = self.total.max(probe.observed().total);
                return Ok(probe.observed());
            }
            if Instant::now() > deadline {
                bail!("{name} is not reconciled; the end of the log:\n{}", self.host.log.tail(8));
            }
            sleep(POLL).await;
        }
    }

    /// Changes a Probe, and waits until the change has been reconciled.
    async fn reconciles(&mut self, name: &str, value: &str) -> Result<()> {
        let patch = serde_json::json!({ "spec": spec("child", value) });
        self.probes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        let status = self.until_current(name).await?;
        ensure!(status.value == value, "{status:?}");
        Ok(())
    }

    async fn widen(&mut self) -> Result<()> {
        self.create("one").await?;
        let denied = |r: &Record| {
            r.is("permission denied", CONTROLLER)
                && r.text("object") == "reload/one"
                && r.text("request").contains("/configmaps")
        };
        let record = self.logged(0, "refusal", denied)?;
        ensure!(record.text("reason").starts_with("not granted to"), "{record:?}");
        ensure!(record.text("help").contains("[[controllers.probe-go.grant]]"), "{record:?}");
        self.change(STAYS, ALL)?;
        self.until_current("one").await?;
        // The children are watched as well: a deleted child is restored.
        let uid = self.maps.get("one").await?.metadata.uid;
        self.maps.delete("one", &DeleteParams::default()).await?;
        let deadline = Instant::now() + TIMEOUT;
        while self.maps.get_opt("one").await?.is_none_or(|map| map.metadata.uid == uid) {
            ensure!(Instant::now() < deadline, "the child is not restored");
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn narrow(&mut self) -> Result<()> {
        let narrowed = self.change(STAYS, NOTHING)?;
        let refused = |r: &Record| r.is("permission denied", CONTROLLER) && r.text("request") == "watch Probe";
        self.logged(narrowed, "refused watch", refused)?;
        self.logged(narrowed, "line about the new settings", |r| r.message() == "new settings are in force")?;
        self.until_unwatched().await?;
        self.create("two").await?;
        let widened = self.change(STAYS, ALL)?;
        self.until_current("two").await?;
        let of_two = |r: &Record| r.text("object") == "reload/two";
        // The status may be written before the host logs the reconcile.
        self.logged(narrowed, "line about it", of_two)?;
        let records = self.host.log.records()?;
        let first = records.iter().position(of_two).context("no record about it")?;
        ensure!(first >= widened, "it was reconciled without a grant: {:?}", records[first]);
        Ok(())
    }

    /// Waits until the host has no watch of Probes at the API server.
    async fn until_unwatched(&self) -> Result<()> {
        let path = format!("/apis/e2e.wasmop.dev/v1/namespaces/{NAMESPACE}/probes?");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let watches: Vec<_> = audit::read(&self.dir)?.into_iter().filter(|r| r.uri.starts_with(&path)).collect();
            ensure!(watches.iter().any(|r| r.verb == "watch"), "there was no watch");
            if watches.iter().all(|r| r.ended) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it is still watched: {watches:?}");
            sleep(POLL).await;
        }
    }

    async fn impersonate(&mut self) -> Result<()> {
        let position = self.change(STAYS, "service-account = \"team-a/nobody\"")?;
        let waits = |r: &Record| r.is("waiting for resource", CONTROLLER) && r.text("help").contains("team-a/nobody");
        let record = self.logged(position, "wait", waits)?;
        ensure!(record.text("reason").contains("system:serviceaccount:team-a:nobody"), "{record:?}");
        self.change(STAYS, ALL)?;
        self.reconciles("one", "after impersonation").await
    }

    async fn suspend(&mut self) -> Result<()> {
        let suspended = |r: &Record| r.is("suspended", CONTROLLER);
        ensure!(!self.host.log.records()?.iter().any(suspended), "it was suspended despite the policy");
        let position = self.change("suspend-policy = \"immediate\"", ALL)?;
        self.logged(position, "suspend", suspended)?;
        self.reconciles("one", "after a suspend").await
    }

    async fn log_more(&mut self) -> Result<()> {
        let is_detail = |r: &Record| r.text("level") == "DEBUG";
        let position = self.change("verbose = 3", ALL)?;
        self.reconciles("one", "in detail").await?;
        self.logged(position, "detail", is_detail)?;
        let position = self.change("verbose = 0", ALL)?;
        self.logged(position, "line about the file", |r| r.message() == "the configuration file was read again")?;
        Ok(())
    }

    async fn needs_restart(&mut self) -> Result<()> {
        let text = config(&self.package, "durability = \"none\"", ALL).replace("\"reload\"", "\"elsewhere\"");
        let position = self.write(&format!("{text}[controllers.another]\npackage = \"x.wasm\"\n"))?;
        let warning = self.logged(position, "warning", |r| r.message().contains("needs a restart"))?;
        ensure!(warning.text("keys") == "namespace, durability, controllers.another", "{warning:?}");
        ensure!(warning.text("level") == "WARN", "{warning:?}");
        self.reconciles("one", "still here").await
    }

    async fn bad_file(&mut self) -> Result<()> {
        let text = config(&self.package, STAYS, NOTHING).replace("namespace", "namspace");
        let position = self.write(&text)?;
        let refused =
            self.logged(position, "refusal", |r| r.message().contains("the configuration file is refused"))?;
        ensure!(refused.text("problem").contains("reload.toml:1: unknown key `namspace`"), "{refused:?}");
        ensure!(refused.text("help").contains("did you mean `namespace`"), "{refused:?}");
        // The earlier grant is still in force.
        self.reconciles("one", "unmoved").await
    }

    async fn bad_settings(&mut self) -> Result<()> {
        let position = self.change("memory-budget = \"1KiB\"", NOTHING)?;
        let refused = self.logged(position, "refusal", |r| r.message().contains("the new settings are refused"))?;
        ensure!(refused.text("problem").contains("memory budget"), "{refused:?}");
        self.reconciles("one", "unmoved as well").await
    }

    async fn end(&mut self) -> Result<()> {
        let before = self.total;
        self.reconciles("two", "the last").await?;
        ensure!(self.total > before, "{before} reconciles were remembered, then {}", self.total);
        let status = tokio::task::block_in_place(|| self.host.terminate())?;
        ensure!(status.success(), "it ended with {status}");
        let records = self.host.log.records()?;
        let count = |message: &str| records.iter().filter(|r| r.message().starts_with(message)).count();
        ensure!(
            (count("host started"), count("controller ready"), count("restarted")) == (1, 1, 0),
            "it was restarted"
        );
        Ok(())
    }
}
