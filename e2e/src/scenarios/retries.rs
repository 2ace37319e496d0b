//! The work queue: conflicts, requeues, errors, and many objects at once.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::guest_fixture::GuestFixture;
use crate::probe::{ProbeSpec, number_after, spec};

pub async fn conflict(fixture: GuestFixture) -> Result<()> {
    fixture.create("conflicting", spec("conflict", "")).await?;
    let probe = fixture
        .until("conflicting", "written despite a conflict", |probe| {
            probe.is_current() && probe.observed().echo.starts_with("conflicts=")
        })
        .await?;
    let conflicts: u64 = number_after(&probe.observed().echo, "conflicts=")?;
    ensure!(conflicts >= 1, "there was no conflict");
    fixture.remove("conflicting").await
}

/// How late a requeue may be on a busy machine.
const LATE: Duration = Duration::from_millis(1500);

pub async fn requeue(fixture: GuestFixture) -> Result<()> {
    let after = Duration::from_millis(1200);
    let position = fixture.position()?;
    fixture.create("requeued", ProbeSpec { delay_ms: after.as_millis() as u64, ..spec("requeue", "") }).await?;
    for round in 2..=3 {
        let probe = fixture.until("requeued", "reconciled again", |probe| probe.observed().seen >= round).await?;
        let echo = probe.observed().echo;
        let (before, now) = echo.split_once(',').with_context(|| format!("the echo is {echo:?}"))?;
        let gap = Duration::from_nanos(now.parse::<u64>()?.saturating_sub(before.parse()?));
        ensure!(gap >= after, "requeued after {gap:?} instead of {after:?}");
        ensure!(gap <= after + LATE, "requeued after {gap:?}, far later than {after:?}");
    }
    // The delay is longer than the idle time, so the guest is suspended and resumed for the requeue.
    fixture.until_logged(position, "a resume for the requeue", |record| record.message() == "resumed").await?;
    fixture.remove("requeued").await
}

pub async fn error(fixture: GuestFixture) -> Result<()> {
    const ERRORS: usize = 6;
    let position = fixture.position()?;
    let begun = Instant::now();
    fixture.create("failing", ProbeSpec { count: ERRORS as u64, ..spec("error", "") }).await?;
    let probe = fixture.until_current("failing").await?;
    ensure!(probe.observed().echo == format!("errors={ERRORS}"), "the echo is {:?}", probe.observed().echo);
    // 5 ms, doubled each time.
    let least = Duration::from_millis(5 * ((1 << ERRORS) - 1));
    ensure!(begun.elapsed() >= least, "{ERRORS} errors took {:?}, with backoff at least {least:?}", begun.elapsed());
    let key = fixture.key("failing");
    let waits: Vec<f64> = fixture
        .logged(position)?
        .iter()
        .filter(|record| {
            record.message() == "reconciled" && record.text("object") == key && record.text("outcome") == "error"
        })
        .filter_map(|record| record.number("after_ms"))
        .collect();
    ensure!(waits.len() == ERRORS, "the host logged {} errors", waits.len());
    ensure!(waits.windows(2).all(|pair| pair[1] >= pair[0] * 1.5), "the waits do not grow: {waits:?} ms");
    fixture.remove("failing").await
}

pub async fn fifty(fixture: GuestFixture) -> Result<()> {
    const OBJECTS: usize = 50;
    const SLEEP: Duration = Duration::from_millis(1000);
    let names: Vec<String> = (0..OBJECTS).map(|i| format!("many-{i}")).collect();
    let begun = Instant::now();
    try_join_all(
        names
            .iter()
            .map(|name| fixture.create(name, ProbeSpec { delay_ms: SLEEP.as_millis() as u64, ..spec("sleep", name) })),
    )
    .await?;
    let done = try_join_all(names.iter().map(|name| fixture.until_current(name))).await?;
    let took = begun.elapsed();
    for probe in &done {
        let slept: u64 = number_after(&probe.observed().echo, "slept=")?;
        ensure!(slept >= SLEEP.as_millis() as u64, "{:?} slept {slept} ms", probe.metadata.name);
    }
    ensure!(
        took < SLEEP * OBJECTS as u32 / 2,
        "{OBJECTS} reconciles of {SLEEP:?} each took {took:?}: they did not run concurrently"
    );
    try_join_all(names.iter().map(|name| fixture.change(name, spec("child", name)))).await?;
    try_join_all(names.iter().map(|name| fixture.until_config_map(name, "created", |_| true))).await?;
    try_join_all(names.iter().map(|name| fixture.remove(name))).await?;
    Ok(())
}
