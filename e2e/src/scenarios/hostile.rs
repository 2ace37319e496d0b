//! Reconciles that break the guest: those in flight beside the culprit complete, and the culprit alone backs off.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};
use wasmop_testbed::log::Record;

use crate::guest_fixture::GuestFixture;
use crate::probe::spec;
use crate::test_cluster::TIMEOUT;

/// Reconciles in flight while the culprit breaks the guest.
const OTHERS: usize = 3;

pub async fn panic(fixture: GuestFixture) -> Result<()> {
    breaks_the_guest(fixture, "panic", "panic").await
}

pub async fn endless_loop(fixture: GuestFixture) -> Result<()> {
    breaks_the_guest(fixture, "loop", "cpu-limit").await
}

pub async fn memory_limit(fixture: GuestFixture) -> Result<()> {
    breaks_the_guest(fixture, "grow", "memory-limit").await
}

/// A crash is one log record, however many lines the language's runtime prints.
pub async fn crash(fixture: GuestFixture) -> Result<()> {
    fixture.create_and_wait("bystander", spec("", "")).await?;
    let position = fixture.position()?;
    fixture.create("crashing", spec("crash", "")).await?;
    let is_failure = |record: &Record| record.message() == "step failed";
    fixture.until_logged(position, "the crash", is_failure).await?;
    let records = fixture.logged(position)?;
    let first = records.iter().position(is_failure).unwrap_or_default();
    let own: Vec<_> = records[..first].iter().filter(|record| record.text("target") == "guest").collect();
    let [report] = own[..] else { bail!("the crash is {} records in the log: {own:?}", own.len()) };
    ensure!(report.message().contains("asked for a crash"), "its message is {:?}", report.message());
    ensure!(!report.message().contains('\n'), "its message has several lines: {:?}", report.message());
    if fixture.guest.column == "go" {
        let trace = report.0["fields"]["trace"].as_str().unwrap_or_default();
        ensure!(trace.contains("goroutine ") && trace.len() < 5000, "{} bytes of trace: {trace:?}", trace.len());
    }
    fixture.remove("crashing").await?;
    fixture.remove("bystander").await
}

/// The Event names a remedy for the author of the controller.
pub async fn self_triggered(fixture: GuestFixture) -> Result<()> {
    fixture.create("churning", spec("churn", "")).await?;
    let events = Api::<Event>::namespaced(fixture.env.cluster.client.clone(), fixture.guest.name);
    let deadline = Instant::now() + TIMEOUT;
    let event = loop {
        let is_of_loop = |event: &Event| event.reason.as_deref() == Some("SelfTriggered");
        if let Some(event) = events.list(&ListParams::default()).await?.items.into_iter().find(is_of_loop) {
            break event;
        }
        ensure!(Instant::now() < deadline, "no Event about the self-triggering reconcile");
        sleep(Duration::from_millis(100)).await;
    };
    let regarding = event.regarding.unwrap_or_default();
    ensure!(
        regarding.kind.as_deref() == Some("Probe") && regarding.name.as_deref() == Some("churning"),
        "{regarding:?}"
    );
    let note = event.note.unwrap_or_default();
    let written = format!("configmaps {}/churning", fixture.guest.name);
    // The guest uses server-side apply, and its watch already ignores own writes. Advice about those would not help.
    ensure!(note.contains(&written) && note.contains("compare with what is there before writing"), "{note}");
    ensure!(!note.contains("ignore_own_writes") && !note.contains("generation_changed"), "{note}");
    fixture.remove("churning").await
}

async fn breaks_the_guest(fixture: GuestFixture, action: &'static str, cause: &str) -> Result<()> {
    let counted = format!("{action}-counted");
    let before = fixture.create_and_wait(&counted, spec("child", "one")).await?.observed();

    // Other reconciles wait for a response that the proxy holds until the guest is broken.
    let position = fixture.position()?;
    let others: Vec<String> = (0..OTHERS).map(|i| format!("{action}-held-{i}")).collect();
    let mut holds = Vec::new();
    for other in &others {
        let hold = fixture.env.proxy.hold(&fixture.config_map_path(other));
        fixture.create(other, spec("hold", "")).await?;
        hold.until_waiting(1).await?;
        holds.push(hold);
    }

    let culprit = format!("{action}-culprit");
    let key = fixture.key(&culprit);
    fixture.create(&culprit, spec(action, "")).await?;
    // A language that recovers from a panic reports an error instead.
    let recovered = |record: &Record| {
        cause == "panic" && record.text("outcome") == "error" && record.text("error").contains("panic")
    };
    let noticed =
        |record: &Record| record.text("object") == key && (record.text("cause") == cause || recovered(record));
    fixture.until_logged(position, &format!("the {cause}"), noticed).await?;
    drop(holds);
    for other in &others {
        fixture
            .until(other, "completed beside it", |probe| probe.is_current() && probe.observed().echo == "held")
            .await?;
    }

    // The culprit is retried with backoff.
    let backoffs = |records: &[Record]| -> Vec<f64> {
        let of_culprit =
            records.iter().filter(|record| record.message() == "reconciled" && record.text("object") == key);
        of_culprit
            .filter(|record| record.text("outcome") == "cancelled" || recovered(record))
            .filter_map(|record| record.number("after_ms"))
            .collect()
    };
    let deadline = Instant::now() + TIMEOUT;
    let waits = loop {
        let waits = backoffs(&fixture.logged(position)?);
        if waits.len() >= 4 {
            break waits;
        }
        ensure!(Instant::now() < deadline, "the culprit was retried only {} times", waits.len());
        sleep(Duration::from_millis(50)).await;
    };
    ensure!(waits.windows(2).all(|pair| pair[1] >= pair[0] * 1.5), "the culprit's waits do not grow: {waits:?} ms");
    for record in fixture.logged(position)? {
        ensure!(record.message() != "step failed" || record.text("cause") == cause, "another cause: {}", record.0);
        let blamed =
            record.message() == "reconciled" && record.text("outcome") == "cancelled" && record.text("object") != key;
        ensure!(!blamed, "another was cancelled: {}", record.0);
    }

    // The guest has lost nothing, and the culprit is reconciled once its spec is harmless.
    let after = fixture.change_and_wait(&counted, spec("child", "two")).await?.observed();
    ensure!(
        after.seen > before.seen && after.total > before.total,
        "the counters went from {}/{} to {}/{}",
        before.seen,
        before.total,
        after.seen,
        after.total
    );
    fixture.change_and_wait(&culprit, spec("child", "harmless")).await?;
    fixture.until_config_map(&culprit, "created", |_| true).await?;
    for name in others.iter().chain([&counted, &culprit]) {
        fixture.remove(name).await?;
    }
    Ok(())
}
