//! Some fifty hostile guests in one host, on a real API server.
//!
//! The host survives, a well-behaved neighbour keeps reconciling, and the owner of each guest gets an Event with the
//! cause.

mod connection_share;
mod guests;
mod neighbour;
mod whole_objects;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use wasmop_e2e::guests::build;
use wasmop_e2e::in_process_host::InProcessHost;
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::wat_guest::{self, NAMESPACE};
use wasmop_host::status::values::ControllerStatus;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;

use guests::{Guest, Outcome, REFUSED};
use neighbour::Neighbour;

const COLUMN: &str = "wat";
const POLL: Duration = Duration::from_millis(100);
/// Reconciles of the neighbour that must succeed beside the hostile guests.
const NEIGHBOUR_RECONCILES: u64 = 50;

/// Reasons of Events about limits, and the keys of the limits.
const LIMIT_KEYS: [(&str, &str); 10] = [
    ("StepCpuLimit", "cpu-per-step"),
    ("StepMemoryLimit", "memory"),
    ("MemoryNearlyFull", "memory"),
    ("CpuShareUsedUp", "cpu-share"),
    ("RequestRateLimited", "api-rate"),
    ("RequestsInFlightLimited", "api-in-flight"),
    ("ResponseTooLarge", "response"),
    ("LogLinesDropped", "log-rate"),
    ("ReconcileTimedOut", "reconcile-timeout"),
    ("SnapshotTooLarge", "disk"),
];

fn main() -> ExitCode {
    part::main("hostile", &[COLUMN], run)
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    let good = tokio::task::block_in_place(|| build("rust", cluster.dir()))?;
    cluster.create_crd().await?;
    cluster.create_namespace(NAMESPACE).await?;
    cluster.create_namespace(good.name).await?;

    for (row, fields, named) in REFUSED {
        part.record(row, COLUMN, refused(fields, named));
    }
    let guests = guests::all();
    guests.iter().for_each(|guest| part.list(guest.row));
    let mut packages = vec![Package::parse(std::fs::read(&good.package)?)?];
    for guest in &guests {
        create_object(&cluster.client, guest.name).await?;
        packages.push(guest.code.package(guest.name, guest.limits).with_context(|| guest.name)?);
    }
    let host = InProcessHost::start(packages, &cluster.plane.kubeconfig, &cluster.dir().join("state"))?;
    let neighbour = Neighbour::create(&cluster.client, good.name).await?;
    neighbour.until_current(TIMEOUT * 2).await.context("the neighbour's first reconcile")?;

    let mut observed = Observed::default();
    let checks = check_all(part, &host, &cluster.client, &guests, &mut observed);
    let neighbour = async {
        let (checked, changes, slowest) = neighbour.reconcile_during(NEIGHBOUR_RECONCILES, checks).await?;
        checked?;
        println!("the neighbour reconciled {changes} changes beside them, the slowest took {slowest:?}");
        Ok(())
    };
    part.step("a neighbour keeps reconciling", COLUMN, neighbour).await;
    part.row("the neighbour gets no error", COLUMN, untroubled(&host, good.name)).await;
    part.row("one Event per controller, cause and minute", COLUMN, few_events(&cluster.client)).await;
    part.step("the host stops when asked to", COLUMN, host.stop()).await;
    let shared = connection_share::keeps_neighbour(&cluster, &good);
    part.row("unread responses leave connections to other guests", COLUMN, shared).await;
    let bounded = whole_objects::bounded(&cluster);
    part.row("objects of a map function take bounded memory", COLUMN, bounded).await;
    Ok(())
}

/// Checks that a module is rejected with a reason and a remedy.
fn refused(fields: &str, named: &str) -> Result<()> {
    let step = r#"(func (export "wasmop:controller/guest@0.1.0#step"))"#;
    let import = fields.starts_with("(import");
    let (before, after) = if import { (fields, "") } else { ("", fields) };
    let text = format!(r#"(module {before} (memory (export "memory") 1) {after} {step})"#);
    match wat_guest::package("refused", &text, Limits::default()) {
        Ok(_) => bail!("it was packaged"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(said.contains(named) && said.contains("help:"), "no {named:?} or no help in: {said}");
            Ok(())
        }
    }
}

async fn create_object(client: &Client, name: &str) -> Result<()> {
    // Some guests need a large object.
    let data = if name.ends_with("s-large") { "x".repeat(200_000) } else { String::new() };
    let metadata = ObjectMeta {
        name: Some(name.into()),
        labels: Some([("guest".to_owned(), name.to_owned())].into()),
        ..ObjectMeta::default()
    };
    let object = ConfigMap { metadata, data: Some([("data".to_owned(), data)].into()), ..ConfigMap::default() };
    let objects = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    objects.create(&PostParams::default(), &object).await.with_context(|| format!("creating {name}"))?;
    Ok(())
}

/// Everything the host has reported so far.
#[derive(Default)]
struct Observed {
    /// Last errors by controller.
    errors: BTreeMap<String, BTreeSet<String>>,
    controllers: BTreeMap<String, ControllerStatus>,
    /// Reasons of conditions by controller, and their messages.
    conditions: BTreeMap<String, BTreeSet<String>>,
    messages: BTreeMap<String, BTreeSet<String>>,
}

impl Observed {
    /// Adds the current status of all controllers.
    async fn update(&mut self, host: &InProcessHost) -> Result<()> {
        for controller in host.controllers().await? {
            if let Some(error) = &controller.last_error {
                self.errors.entry(controller.name.clone()).or_default().insert(error.message.clone());
            }
            // A last error may be replaced between two polls. A condition lasts longer.
            let messages = controller.conditions.iter().map(|condition| condition.message.clone());
            self.messages.entry(controller.name.clone()).or_default().extend(messages);
            let reasons = controller.conditions.iter().map(|condition| condition.reason.clone());
            self.conditions.entry(controller.name.clone()).or_default().extend(reasons);
            self.controllers.insert(controller.name.clone(), controller);
        }
        Ok(())
    }
}

/// Waits until the outcome of each guest is as expected, and records its row.
async fn check_all(
    part: &Part,
    host: &InProcessHost,
    client: &Client,
    guests: &[Guest],
    observed: &mut Observed,
) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut open: Vec<&Guest> = guests.iter().collect();
    loop {
        observed.update(host).await?;
        let events = events(client).await?;
        let is_late = Instant::now() > deadline;
        open.retain(|guest| {
            let result = check(guest, observed, &events);
            if result.is_err() && !is_late {
                return true;
            }
            part.record(guest.row, COLUMN, result);
            false
        });
        if open.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn check(guest: &Guest, observed: &Observed, events: &[Event]) -> Result<()> {
    let errors = observed.errors.get(guest.name).cloned().unwrap_or_default();
    let mine = || events.iter().filter(|event| event.reporting_instance.as_deref() == Some(guest.name));
    match guest.outcome {
        Outcome::Reported { reason, on_object, says } => {
            let messages = observed.messages.get(guest.name).into_iter().flatten();
            let is_reported = errors.iter().chain(messages).any(|message| message.contains(says));
            ensure!(is_reported, "last errors were {errors:?}");
            let reasons = || mine().map(|event| (event.reason.as_deref(), event.note.as_deref())).collect::<Vec<_>>();
            let event = mine().find(|event| event.reason.as_deref() == Some(reason));
            let event = event.with_context(|| format!("no Event {reason} among {:?}", reasons()))?;
            ensure!(event.reporting_controller.as_deref() == Some("wasmop"), "{event:?}");
            let note = event.note.as_deref().unwrap_or_default();
            ensure!(note.contains(says) && note.contains(&format!("controller {}", guest.name)), "{note}");
            if let Some((_, key)) = LIMIT_KEYS.into_iter().find(|(of, _)| *of == reason) {
                let names_key = note.contains(&format!("`{key} = ")) && note.contains("under [limits] in wasmop.toml");
                ensure!(names_key, "no `{key}`, or no remedy: {note}");
            }
            let regarding = event.regarding.clone().unwrap_or_default();
            let about = (regarding.kind.as_deref(), regarding.namespace.as_deref(), regarding.name.as_deref());
            let expected = match on_object {
                true => (Some("ConfigMap"), Some(NAMESPACE), Some(guest.name)),
                false => (Some("Namespace"), Some("default"), Some("default")),
            };
            ensure!(about == expected, "the Event is about {about:?}");
            ensure!(!on_object || regarding.uid.is_some(), "no uid: {regarding:?}");
            let conditions = observed.conditions.get(guest.name);
            ensure!(conditions.is_some_and(|c| c.contains(reason)), "its conditions were {conditions:?}");
        }
        Outcome::KeepsRunning => {
            let status = observed.controllers.get(guest.name).context("its status is missing")?;
            ensure!(status.reconciles > 0, "no reconcile yet: {status:?}");
            let events: Vec<_> = mine().collect();
            ensure!(errors.is_empty() && events.is_empty() && status.restarts == 0, "{errors:?} {events:?} {status:?}");
        }
    }
    Ok(())
}

/// Events that the host has emitted.
async fn events(client: &Client) -> Result<Vec<Event>> {
    let all = Api::<Event>::all(client.clone()).list(&Default::default()).await?;
    let ours = |event: &Event| event.reporting_controller.as_deref() == Some("wasmop");
    Ok(all.items.into_iter().filter(ours).collect())
}

async fn untroubled(host: &InProcessHost, name: &str) -> Result<()> {
    let controller = host.controller().await?;
    ensure!(controller.name == name && controller.last_error.is_none(), "{controller:?}");
    ensure!((controller.restarts, controller.reconcile_errors) == (0, 0), "{controller:?}");
    Ok(())
}

async fn few_events(client: &Client) -> Result<()> {
    let mut times: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
    for event in events(client).await? {
        // A series also counts repetitions of the first Event.
        let more = event.series.as_ref().map_or(0, |series| series.count - 1);
        let at = event.event_time.as_ref().map_or(0, |time| time.0.as_second());
        let key = (event.reporting_instance.unwrap_or_default(), event.reason.unwrap_or_default());
        let entry = times.entry(key).or_default();
        entry.push(at);
        entry.extend((0..more).map(|_| at));
    }
    for (key, mut at) in times {
        at.sort_unstable();
        // The part takes a few minutes at most.
        ensure!(at.len() <= 3, "{} Events of {key:?} at {at:?}", at.len());
    }
    Ok(())
}
