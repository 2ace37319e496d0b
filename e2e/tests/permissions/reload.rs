//! A host process whose configuration file changes under it: SIGHUP has it read again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_e2e::world::{Cluster, PATIENCE};
use wasmop_testbed::host::Host;
use wasmop_testbed::log::Record;

use super::guest::{self, Request};
use super::probe::{Probe, ProbeStatus, spec};
use super::{audit, options, rule, until_answered};

pub const NAMESPACE: &str = "reload";
const CONTROLLER: &str = "probe-go";
const POLL: Duration = Duration::from_millis(50);

const ALL: &str = "grant = \"all\"";
const NOTHING: &str = "grant = []";
/// What the controller needs, but for its children.
const CHILDLESS: &str = "
[[controllers.probe-go.grant]]
api-groups = [\"e2e.wasmop.dev\"]
resources = [\"probes\", \"probes/status\"]
verbs = [\"get\", \"list\", \"watch\", \"update\", \"patch\"]";

pub async fn reloaded(cluster: &Cluster, package: &Path) -> Vec<(&'static str, Result<()>)> {
    let mut stage = match Stage::set(cluster, package) {
        Ok(stage) => stage,
        Err(error) => return vec![("reload: the host starts", Err(error))],
    };
    vec![
        ("reload: a wider grant is followed, its watches too", stage.widen().await),
        ("reload: a narrower grant is followed, nothing is lost", stage.narrow().await),
        ("reload: a ServiceAccount is followed", stage.impersonate().await),
        ("reload: a suspend policy is followed", stage.suspend().await),
        ("reload: how much is logged is followed", stage.log_more().await),
        ("reload: what needs a restart is named", stage.needs_restart().await),
        ("reload: a bad file is refused, the old one stays", stage.bad_file().await),
        ("reload: settings that cannot be are refused", stage.bad_settings().await),
        ("reload: no controller was restarted", stage.end().await),
        ("reload: a stream that is no longer granted is cut", cut(cluster).await),
    ]
}

/// A guest that has a watch of its own open when its grant is taken back.
async fn cut(cluster: &Cluster) -> Result<()> {
    const NAME: &str = "streaming";
    const PATH: &str = "/api/v1/namespaces/team-a/configmaps?watch=true";
    let request = Request { target: "", method: "GET", path: PATH, headers: "", body: "" };
    let package = guest::package(NAME, vec![rule(&[""], &["configmaps"], &["watch"])], None, &[request])?;
    std::fs::write(cluster.dir().join(format!("{NAME}.wasm")), package)?;
    let config = |grant: &str| format!("[controllers.{NAME}]\npackage = \"{NAME}.wasm\"\n{grant}\n");
    let (options, file) = options(cluster, NAME, &config(ALL))?;
    let mut host = Host::spawn(&options)?;
    let begun = |r: &Record| r.text("controller") == NAME && r.message().starts_with("001 body");
    tokio::task::block_in_place(|| host.log.wait_for(0, PATIENCE, "piece of the watch", begun))?;
    std::fs::write(&file, config(NOTHING))?;
    host.hang_up();
    let answers = until_answered(&mut host, NAME, 1).await?;
    let failed = answers[&1].failed.clone().unwrap_or_default();
    ensure!(failed.contains("what this controller is granted has changed"), "{answers:?}");
    let status = tokio::task::block_in_place(|| host.terminate())?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

struct Stage {
    host: Host,
    /// Of the cluster.
    dir: PathBuf,
    file: PathBuf,
    package: PathBuf,
    probes: Api<Probe>,
    maps: Api<ConfigMap>,
    /// Reconciles that the controller remembers.
    total: u64,
}

/// A file with these settings of the host and of the controller.
fn config(package: &Path, host: &str, controller: &str) -> String {
    format!(
        "namespace = \"{NAMESPACE}\"\n{host}\n[controllers.{CONTROLLER}]\npackage = \"{}\"\n{controller}\n",
        package.display()
    )
}

const STAYS: &str = "suspend-policy = \"never\"";

impl Stage {
    fn set(cluster: &Cluster, package: &Path) -> Result<Stage> {
        let (options, file) = options(cluster, "reload", &config(package, STAYS, CHILDLESS))?;
        let mut host = Host::spawn(&options)?;
        tokio::task::block_in_place(|| host.wait_ready(&[CONTROLLER], PATIENCE))?;
        Ok(Stage {
            host,
            dir: cluster.dir().into(),
            file,
            package: package.into(),
            probes: Api::namespaced(cluster.client.clone(), NAMESPACE),
            maps: Api::namespaced(cluster.client.clone(), NAMESPACE),
            total: 0,
        })
    }

    /// Changes the file and says so; where the log was then.
    fn change(&mut self, host: &str, controller: &str) -> Result<usize> {
        self.write(&config(&self.package, host, controller))
    }

    fn write(&mut self, text: &str) -> Result<usize> {
        let position = self.host.log.position()?;
        std::fs::write(&self.file, text)?;
        self.host.hang_up();
        Ok(position)
    }

    fn logged(&mut self, position: usize, what: &str, is: impl Fn(&Record) -> bool) -> Result<Record> {
        tokio::task::block_in_place(|| self.host.log.wait_for(position, PATIENCE, what, is))
    }

    async fn create(&self, name: &str) -> Result<()> {
        let labels = Some([("guest".to_owned(), CONTROLLER.to_owned())].into());
        let metadata = ObjectMeta { name: Some(name.into()), labels, ..ObjectMeta::default() };
        let probe = Probe { metadata, spec: spec("child", "one"), status: None };
        self.probes.create(&PostParams::default(), &probe).await?;
        Ok(())
    }

    /// Waits until a Probe has been reconciled as it is now.
    async fn until_current(&mut self, name: &str) -> Result<ProbeStatus> {
        let deadline = Instant::now() + PATIENCE;
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

    /// Changes a Probe, which must be reconciled.
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
        // It is watched as well: one that is deleted comes back.
        let uid = self.maps.get("one").await?.metadata.uid;
        self.maps.delete("one", &DeleteParams::default()).await?;
        let deadline = Instant::now() + PATIENCE;
        while self.maps.get_opt("one").await?.is_none_or(|map| map.metadata.uid == uid) {
            ensure!(Instant::now() < deadline, "the child does not come back");
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
        // Its status may be there before the host has logged that.
        self.logged(narrowed, "line about it", of_two)?;
        let records = self.host.log.records()?;
        let first = records.iter().position(of_two).context("nothing is logged about it")?;
        ensure!(first >= widened, "it was seen without a grant: {:?}", records[first]);
        Ok(())
    }

    /// Waits until the API server has no watch of the host's on Probes any more.
    async fn until_unwatched(&self) -> Result<()> {
        let path = format!("/apis/e2e.wasmop.dev/v1/namespaces/{NAMESPACE}/probes?");
        let deadline = Instant::now() + PATIENCE;
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
        ensure!(!self.host.log.records()?.iter().any(suspended), "it was suspended although it should never be");
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
        // With what it was granted before.
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
