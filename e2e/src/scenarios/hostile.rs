//! A reconcile that breaks the guest: those in flight beside it complete, and it alone backs off.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};
use wasmop_testbed::log::Record;

use super::suspension::config_map_path;
use crate::probe::spec;
use crate::scene::Scene;
use crate::world::PATIENCE;

/// How many reconciles are under way while one breaks the guest.
const OTHERS: usize = 3;

pub async fn panic(scene: Scene) -> Result<()> {
    breaks_the_guest(scene, "panic", "panic").await
}

pub async fn endless_loop(scene: Scene) -> Result<()> {
    breaks_the_guest(scene, "loop", "cpu-limit").await
}

pub async fn memory_limit(scene: Scene) -> Result<()> {
    breaks_the_guest(scene, "grow", "memory-limit").await
}

/// However many lines a language's runtime prints for it.
pub async fn crash(scene: Scene) -> Result<()> {
    scene.create_and_wait("bystander", spec("", "")).await?;
    let position = scene.position()?;
    scene.create("crashing", spec("crash", "")).await?;
    let is_failure = |record: &Record| record.message() == "step failed";
    scene.until_logged(position, "the crash", is_failure).await?;
    let records = scene.logged(position)?;
    let first = records.iter().position(is_failure).unwrap_or_default();
    let own: Vec<_> = records[..first].iter().filter(|record| record.text("target") == "guest").collect();
    let [report] = own[..] else { bail!("the crash is {} records in the log: {own:?}", own.len()) };
    ensure!(report.message().contains("asked for a crash"), "its message is {:?}", report.message());
    ensure!(!report.message().contains('\n'), "its message has several lines: {:?}", report.message());
    if scene.guest.column == "go" {
        let trace = report.0["fields"]["trace"].as_str().unwrap_or_default();
        ensure!(trace.contains("goroutine ") && trace.len() < 5000, "{} bytes of trace: {trace:?}", trace.len());
    }
    scene.remove("crashing").await?;
    scene.remove("bystander").await
}

/// Whose remedy is the author's, not the host's.
pub async fn self_triggered(scene: Scene) -> Result<()> {
    scene.create("churning", spec("churn", "")).await?;
    let events = Api::<Event>::namespaced(scene.world.cluster.client.clone(), scene.guest.name);
    let deadline = Instant::now() + PATIENCE;
    let event = loop {
        let is_of_loop = |event: &Event| event.reason.as_deref() == Some("SelfTriggered");
        if let Some(event) = events.list(&ListParams::default()).await?.items.into_iter().find(is_of_loop) {
            break event;
        }
        ensure!(Instant::now() < deadline, "no Event about reconciles that cause each other");
        sleep(Duration::from_millis(100)).await;
    };
    let regarding = event.regarding.unwrap_or_default();
    ensure!(
        regarding.kind.as_deref() == Some("Probe") && regarding.name.as_deref() == Some("churning"),
        "{regarding:?}"
    );
    let note = event.note.unwrap_or_default();
    let written = format!("configmaps {}/churning", scene.guest.name);
    // It is written by apply, and its watch ignores own writes already: to name that would not help.
    ensure!(note.contains(&written) && note.contains("compare with what is there before writing"), "{note}");
    ensure!(!note.contains("ignore_own_writes") && !note.contains("generation_changed"), "{note}");
    scene.remove("churning").await
}

async fn breaks_the_guest(scene: Scene, action: &'static str, cause: &str) -> Result<()> {
    let counted = format!("{action}-counted");
    let before = scene.create_and_wait(&counted, spec("child", "one")).await?.observed();

    // Others, in the middle of a request that is not answered until the harm is done.
    let position = scene.position()?;
    let others: Vec<String> = (0..OTHERS).map(|i| format!("{action}-held-{i}")).collect();
    let mut holds = Vec::new();
    for other in &others {
        let hold = scene.world.proxy.hold(&config_map_path(&scene, other));
        scene.create(other, spec("hold", "")).await?;
        hold.until_waiting(1).await?;
        holds.push(hold);
    }

    let culprit = format!("{action}-culprit");
    let key = scene.key(&culprit);
    scene.create(&culprit, spec(action, "")).await?;
    // A guest whose language can recover from a panic reports it as an error instead.
    let recovered = |record: &Record| {
        cause == "panic" && record.text("outcome") == "error" && record.text("error").contains("panic")
    };
    let noticed =
        |record: &Record| record.text("object") == key && (record.text("cause") == cause || recovered(record));
    scene.until_logged(position, &format!("the {cause}"), noticed).await?;
    drop(holds);
    for other in &others {
        scene
            .until(other, "completed beside it", |probe| probe.is_current() && probe.observed().echo == "held")
            .await?;
    }

    // It is tried again, later each time.
    let put_off = |records: &[Record]| -> Vec<f64> {
        let of_it = records.iter().filter(|record| record.message() == "reconciled" && record.text("object") == key);
        of_it
            .filter(|record| record.text("outcome") == "cancelled" || recovered(record))
            .filter_map(|record| record.number("after_ms"))
            .collect()
    };
    let deadline = tokio::time::Instant::now() + crate::world::PATIENCE;
    let waits = loop {
        let waits = put_off(&scene.logged(position)?);
        if waits.len() >= 4 {
            break waits;
        }
        ensure!(tokio::time::Instant::now() < deadline, "the culprit was put off {} times only", waits.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(waits.windows(2).all(|pair| pair[1] >= pair[0] * 1.5), "the culprit's waits do not grow: {waits:?} ms");
    for record in scene.logged(position)? {
        ensure!(record.message() != "step failed" || record.text("cause") == cause, "another cause: {}", record.0);
        let blamed =
            record.message() == "reconciled" && record.text("outcome") == "cancelled" && record.text("object") != key;
        ensure!(!blamed, "another was cancelled: {}", record.0);
    }

    // The guest has lost nothing, and the culprit is welcome once it has mended its ways.
    let after = scene.change_and_wait(&counted, spec("child", "two")).await?.observed();
    ensure!(
        after.seen > before.seen && after.total > before.total,
        "the counters went from {}/{} to {}/{}",
        before.seen,
        before.total,
        after.seen,
        after.total
    );
    scene.change_and_wait(&culprit, spec("child", "mended")).await?;
    scene.until_config_map(&culprit, "created", |_| true).await?;
    for name in others.iter().chain([&counted, &culprit]) {
        scene.remove(name).await?;
    }
    Ok(())
}
