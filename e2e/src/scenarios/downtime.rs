//! Downtime of the host counts: work that fell due runs at once, all other work at its time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wasmop_testbed::log::Record;

use super::host_restart::{HostRestart, Prepared, RestartRow, Stop, no_args};
use crate::guest_fixture::GuestFixture;
use crate::probe::{Probe, ProbeSpec, number_after, spec};
use crate::test_cluster::TIMEOUT;

/// Seconds by which the wall clock advances while no host is up.
const DOWNTIME: i64 = 15;
/// Falls due during the downtime.
const DUE: Duration = Duration::from_secs(12);
/// Falls due after the downtime.
const NOT_YET: Duration = Duration::from_secs(25);
/// A host that ignores the downtime is later than that.
const LATE: Duration = Duration::from_secs(5);
/// The test and the guest read their clocks at different moments.
const EARLY: Duration = Duration::from_millis(300);
/// Errors after which the backoff is longer than the downtime (20 s), and shorter (10 s).
const ERRORS: (u64, u64) = (13, 12);

/// One downtime for all rows.
pub fn restart() -> HostRestart {
    HostRestart {
        stop: Stop::Terminate,
        args: no_args,
        prepare: |fixture| Box::pin(prepare(fixture)),
        while_down: |fixture| Box::pin(async move { fixture.env.clock.step_to(DOWNTIME) }),
        rows: vec![
            RestartRow {
                name: "downtime counts for requeue-after",
                verify: |fixture, prepared| Box::pin(requeue(fixture, prepared)),
            },
            RestartRow {
                name: "downtime counts for error backoff",
                verify: |fixture, prepared| Box::pin(backoff(fixture, prepared)),
            },
            RestartRow {
                name: "downtime counts for a sleep",
                verify: |fixture, prepared| Box::pin(sleep(fixture, prepared)),
            },
            RestartRow {
                name: "downtime counts for a ticker",
                verify: |fixture, prepared| Box::pin(ticker(fixture, prepared)),
            },
        ],
    }
}

async fn prepare(fixture: GuestFixture) -> Result<Prepared> {
    fixture.env.clock.step_to(0)?;
    let position = fixture.position()?;
    let errors = |count| ProbeSpec { count, ..spec("error", "") };
    fixture.create("failing-not-yet", errors(ERRORS.0)).await?;
    // The second object starts here, so that both reach their last error at about the same time.
    failed(&fixture, position, "failing-not-yet", ERRORS.0 - 1).await?;
    fixture.create("failing-due", errors(ERRORS.1)).await?;
    let mut due = BTreeMap::new();
    for (name, count) in [("failing-not-yet", ERRORS.0), ("failing-due", ERRORS.1)] {
        let wait = failed(&fixture, position, name, count).await?;
        due.insert(name, Instant::now() + wait);
    }
    for (name, action, delay) in [
        ("requeued-due", "requeue", DUE),
        ("requeued-not-yet", "requeue", NOT_YET),
        ("sleeping-due", "sleep", DUE),
        ("sleeping-not-yet", "sleep", NOT_YET),
        ("ticking", "ticker", DUE),
    ] {
        due.insert(name, Instant::now() + delay);
        let millis = delay.as_millis() as u64;
        fixture.create(name, ProbeSpec { delay_ms: millis, count: 2, ..spec(action, "") }).await?;
    }
    for name in ["requeued-due", "requeued-not-yet"] {
        fixture.until_current(name).await?;
    }
    fixture.until_suspended().await?;
    Ok(Prepared { due, ..Prepared::default() })
}

/// Waits until an object has failed `times` times, and returns its backoff then.
async fn failed(fixture: &GuestFixture, position: usize, name: &str, times: u64) -> Result<Duration> {
    let (key, wait) = (fixture.key(name), 5 << (times - 1));
    let is_it = |record: &Record| {
        record.text("object") == key
            && record.text("outcome") == "error"
            && record.number("after_ms") == Some(wait as f64)
    };
    fixture.until_logged(position, &format!("{times} errors of {name}"), is_it).await?;
    Ok(Duration::from_millis(wait))
}

/// Waits until `done` holds for an object, and checks that this happens on time.
///
/// `due`: when it would have happened without the downtime.
async fn in_time(fixture: &GuestFixture, name: &str, due: Instant, done: impl Fn(&Probe) -> bool) -> Result<Probe> {
    let ready = Instant::now();
    let due = due
        .checked_sub(Duration::from_secs(DOWNTIME as u64))
        .context("the machine has been up for less than the downtime")?;
    let probe = fixture.until(name, "reconciled again", done).await?;
    let at = Instant::now();
    ensure!(at + EARLY >= due, "{name} is {:?} too early", due - at);
    let late = at - due.max(ready).min(at);
    ensure!(late < LATE, "{name} is {late:?} late, {:?} after the host was ready", at - ready);
    Ok(probe)
}

async fn requeue(fixture: GuestFixture, Prepared { due, .. }: Prepared) -> Result<()> {
    for name in ["requeued-due", "requeued-not-yet"] {
        in_time(&fixture, name, due[name], |probe| probe.observed().seen > 1).await?;
        fixture.remove(name).await?;
    }
    Ok(())
}

async fn backoff(fixture: GuestFixture, Prepared { due, .. }: Prepared) -> Result<()> {
    for (name, count) in [("failing-due", ERRORS.1), ("failing-not-yet", ERRORS.0)] {
        let probe = in_time(&fixture, name, due[name], Probe::is_current).await?;
        ensure!(number_after(&probe.observed().echo, "errors=")? == count, "{name}: {:?}", probe.observed());
        fixture.remove(name).await?;
    }
    Ok(())
}

async fn sleep(fixture: GuestFixture, Prepared { due, .. }: Prepared) -> Result<()> {
    for (name, delay) in [("sleeping-due", DUE), ("sleeping-not-yet", NOT_YET)] {
        let probe = in_time(&fixture, name, due[name], Probe::is_current).await?;
        // Measured by the guest's monotonic clock.
        let slept = Duration::from_millis(number_after(&probe.observed().echo, "slept=")?);
        ensure!(slept >= delay && slept < delay + TIMEOUT, "{name} slept {slept:?} by its own clock");
        fixture.remove(name).await?;
    }
    Ok(())
}

/// The first tick falls due during the downtime, the second one after it.
async fn ticker(fixture: GuestFixture, Prepared { due, .. }: Prepared) -> Result<()> {
    let probe = in_time(&fixture, "ticking", due["ticking"] + DUE, Probe::is_current).await?;
    ensure!(probe.observed().echo == "ticks=2", "{:?}", probe.observed());
    fixture.remove("ticking").await
}
