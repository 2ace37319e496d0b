//! Time without a host counts: what fell due meanwhile is done at once, the rest when its time has come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wasmop_testbed::log::Record;

use super::restart::{How, Prepared, Restart, Row};
use super::retries::number;
use crate::probe::{Probe, ProbeSpec, spec};
use crate::scene::Scene;
use crate::world::PATIENCE;

/// By so many seconds the wall clock goes on while there is no host.
const DOWNTIME: i64 = 15;
/// Falls due meanwhile.
const DUE: Duration = Duration::from_secs(12);
/// Does not.
const NOT_YET: Duration = Duration::from_secs(25);
/// A host that does not count the time without one is later than that.
const LATE: Duration = Duration::from_secs(5);
/// Clocks are read one after the other.
const EARLY: Duration = Duration::from_millis(300);
/// Errors after which the backoff is longer than the time without a host, and after which it isn't: 20 s and 10 s.
const ERRORS: (u64, u64) = (13, 12);

/// One stop of the host for all of it.
pub fn restart() -> Restart {
    Restart {
        how: How::Terminate,
        args: super::restart::no_args,
        prepare: |scene| Box::pin(prepare(scene)),
        meanwhile: |scene| Box::pin(async move { scene.world.clock.step_to(DOWNTIME) }),
        rows: vec![
            Row {
                name: "requeue-after counts time without a host",
                verify: |scene, prepared| Box::pin(requeue(scene, prepared)),
            },
            Row {
                name: "error backoff counts time without a host",
                verify: |scene, prepared| Box::pin(backoff(scene, prepared)),
            },
            Row {
                name: "sleep counts time without a host",
                verify: |scene, prepared| Box::pin(sleep(scene, prepared)),
            },
            Row {
                name: "ticker counts time without a host",
                verify: |scene, prepared| Box::pin(ticker(scene, prepared)),
            },
        ],
    }
}

async fn prepare(scene: Scene) -> Result<Prepared> {
    scene.world.clock.step_to(0)?;
    let position = scene.position()?;
    let errors = |count| ProbeSpec { count, ..spec("error", "") };
    scene.create("failing-not-yet", errors(ERRORS.0)).await?;
    // From here on both fail at the same time.
    failed(&scene, position, "failing-not-yet", ERRORS.0 - 1).await?;
    scene.create("failing-due", errors(ERRORS.1)).await?;
    let mut due = BTreeMap::new();
    for (name, count) in [("failing-not-yet", ERRORS.0), ("failing-due", ERRORS.1)] {
        let wait = failed(&scene, position, name, count).await?;
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
        scene.create(name, ProbeSpec { delay_ms: millis, count: 2, ..spec(action, "") }).await?;
    }
    for name in ["requeued-due", "requeued-not-yet"] {
        scene.until_current(name).await?;
    }
    scene.until_suspended().await?;
    Ok(Prepared { due, ..Prepared::default() })
}

/// Waits until an object has failed so often; returns its backoff then.
async fn failed(scene: &Scene, position: usize, name: &str, times: u64) -> Result<Duration> {
    let (key, wait) = (scene.key(name), 5 << (times - 1));
    let is_it = |record: &Record| {
        record.text("object") == key
            && record.text("outcome") == "error"
            && record.number("after_ms") == Some(wait as f64)
    };
    scene.until_logged(position, &format!("{times} errors of {name}"), is_it).await?;
    Ok(Duration::from_millis(wait))
}

/// Waits until something is seen of an object, and checks that it is in time: `due`, had there been no downtime.
async fn in_time(scene: &Scene, name: &str, due: Instant, done: impl Fn(&Probe) -> bool) -> Result<Probe> {
    let ready = Instant::now();
    let due = due.checked_sub(Duration::from_secs(DOWNTIME as u64)).context("the machine has just been started")?;
    let probe = scene.until(name, "reconciled again", done).await?;
    let at = Instant::now();
    ensure!(at + EARLY >= due, "{name} is {:?} too early", due - at);
    let late = at - due.max(ready).min(at);
    ensure!(late < LATE, "{name} is {late:?} late, {:?} after the host was ready", at - ready);
    Ok(probe)
}

async fn requeue(scene: Scene, Prepared { due, .. }: Prepared) -> Result<()> {
    for name in ["requeued-due", "requeued-not-yet"] {
        in_time(&scene, name, due[name], |probe| probe.observed().seen > 1).await?;
        scene.remove(name).await?;
    }
    Ok(())
}

async fn backoff(scene: Scene, Prepared { due, .. }: Prepared) -> Result<()> {
    for (name, count) in [("failing-due", ERRORS.1), ("failing-not-yet", ERRORS.0)] {
        let probe = in_time(&scene, name, due[name], Probe::is_current).await?;
        ensure!(number(&probe.observed().echo, "errors=")? == count, "{name}: {:?}", probe.observed());
        scene.remove(name).await?;
    }
    Ok(())
}

async fn sleep(scene: Scene, Prepared { due, .. }: Prepared) -> Result<()> {
    for (name, delay) in [("sleeping-due", DUE), ("sleeping-not-yet", NOT_YET)] {
        let probe = in_time(&scene, name, due[name], Probe::is_current).await?;
        // By the guest's monotonic clock.
        let slept = Duration::from_millis(number(&probe.observed().echo, "slept=")?);
        ensure!(slept >= delay && slept < delay + PATIENCE, "{name} slept {slept:?} by its own clock");
        scene.remove(name).await?;
    }
    Ok(())
}

/// Its first tick falls due without a host, its second after.
async fn ticker(scene: Scene, Prepared { due, .. }: Prepared) -> Result<()> {
    let probe = in_time(&scene, "ticking", due["ticking"] + DUE, Probe::is_current).await?;
    ensure!(probe.observed().echo == "ticks=2", "{:?}", probe.observed());
    scene.remove("ticking").await
}
