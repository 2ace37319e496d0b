//! Conflicts, requeues, errors, and many objects at once: what the work queue is for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::probe::{ProbeSpec, spec};
use crate::scene::Scene;

pub async fn conflict(scene: Scene) -> Result<()> {
    scene.create("conflicting", spec("conflict", "")).await?;
    let probe = scene
        .until("conflicting", "written in spite of a conflict", |probe| {
            probe.is_current() && probe.observed().echo.starts_with("conflicts=")
        })
        .await?;
    let conflicts: u64 = number(&probe.observed().echo, "conflicts=")?;
    ensure!(conflicts >= 1, "there was no conflict");
    scene.remove("conflicting").await
}

/// How much later than asked a requeue may come on a busy machine.
const LATE: Duration = Duration::from_millis(1500);

pub async fn requeue(scene: Scene) -> Result<()> {
    let after = Duration::from_millis(1200);
    let position = scene.position()?;
    scene.create("requeued", ProbeSpec { delay_ms: after.as_millis() as u64, ..spec("requeue", "") }).await?;
    for round in 2..=3 {
        let probe = scene.until("requeued", "reconciled again", |probe| probe.observed().seen >= round).await?;
        let echo = probe.observed().echo;
        let (before, now) = echo.split_once(',').with_context(|| format!("the echo is {echo:?}"))?;
        let gap = Duration::from_nanos(now.parse::<u64>()?.saturating_sub(before.parse()?));
        ensure!(gap >= after, "requeued after {gap:?} instead of {after:?}");
        ensure!(gap <= after + LATE, "requeued after {gap:?}, far later than {after:?}");
    }
    // Long enough to be suspended in between: it has to come back for it.
    scene.until_logged(position, "a resume for the requeue", |record| record.message() == "resumed").await?;
    scene.remove("requeued").await
}

pub async fn error(scene: Scene) -> Result<()> {
    const ERRORS: usize = 6;
    let position = scene.position()?;
    let begun = Instant::now();
    scene.create("failing", ProbeSpec { count: ERRORS as u64, ..spec("error", "") }).await?;
    let probe = scene.until_current("failing").await?;
    ensure!(probe.observed().echo == format!("errors={ERRORS}"), "the echo is {:?}", probe.observed().echo);
    // 5 ms, doubled each time.
    let least = Duration::from_millis(5 * ((1 << ERRORS) - 1));
    ensure!(begun.elapsed() >= least, "{ERRORS} errors took {:?}, with backoff at least {least:?}", begun.elapsed());
    let key = scene.key("failing");
    let waits: Vec<f64> = scene
        .logged(position)?
        .iter()
        .filter(|record| {
            record.message() == "reconciled" && record.text("object") == key && record.text("outcome") == "error"
        })
        .filter_map(|record| record.number("after_ms"))
        .collect();
    ensure!(waits.len() == ERRORS, "the host logged {} errors", waits.len());
    ensure!(waits.windows(2).all(|pair| pair[1] >= pair[0] * 1.5), "the waits do not grow: {waits:?} ms");
    scene.remove("failing").await
}

pub async fn fifty(scene: Scene) -> Result<()> {
    const OBJECTS: usize = 50;
    const SLEEP: Duration = Duration::from_millis(1000);
    let names: Vec<String> = (0..OBJECTS).map(|i| format!("many-{i}")).collect();
    let begun = Instant::now();
    try_join_all(
        names
            .iter()
            .map(|name| scene.create(name, ProbeSpec { delay_ms: SLEEP.as_millis() as u64, ..spec("sleep", name) })),
    )
    .await?;
    let done = try_join_all(names.iter().map(|name| scene.until_current(name))).await?;
    let took = begun.elapsed();
    for probe in &done {
        let slept: u64 = number(&probe.observed().echo, "slept=")?;
        ensure!(slept >= SLEEP.as_millis() as u64, "{:?} slept {slept} ms", probe.metadata.name);
    }
    ensure!(
        took < SLEEP * OBJECTS as u32 / 2,
        "{OBJECTS} reconciles of {SLEEP:?} each took {took:?}: they did not run concurrently"
    );
    try_join_all(names.iter().map(|name| scene.change(name, spec("child", name)))).await?;
    try_join_all(names.iter().map(|name| scene.until_config_map(name, "created", |_| true))).await?;
    try_join_all(names.iter().map(|name| scene.remove(name))).await?;
    Ok(())
}

/// The number after `prefix`.
pub(super) fn number(text: &str, prefix: &str) -> Result<u64> {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.parse().ok())
        .with_context(|| format!("{text:?} is not {prefix}NUMBER"))
}
