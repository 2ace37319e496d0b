//! State that a suspension must not change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::fault_proxy::{Fault, Rule};
use crate::guest_fixture::GuestFixture;
use crate::probe::{Probe, ProbeSpec, ProbeStatus, number_after, spec};
use crate::test_cluster::SUSPEND_AFTER;

/// Changes the value of a Probe while the guest is suspended, so that the guest has to be resumed.
/// Returns the status before and after.
async fn over_suspension(fixture: &GuestFixture, name: &str, action: &str) -> Result<(ProbeStatus, ProbeStatus)> {
    let before = fixture.create_and_wait(name, spec(action, "one")).await?;
    fixture.until_suspended().await?;
    let position = fixture.position()?;
    let after = fixture.change_and_wait(name, spec(action, "two")).await?;
    fixture.until_logged(position, "the resume", |record| record.message() == "resumed").await?;
    Ok((before.observed(), after.observed()))
}

pub async fn counter(fixture: GuestFixture) -> Result<()> {
    let (before, after) = over_suspension(&fixture, "counted", "child").await?;
    ensure!(after.seen > before.seen, "the object's counter went from {} to {}", before.seen, after.seen);
    ensure!(after.total > before.total, "the guest's counter went from {} to {}", before.total, after.total);
    ensure!(after.total <= before.total + 3, "the guest's counter jumped from {} to {}", before.total, after.total);
    fixture.remove("counted").await
}

pub async fn random(fixture: GuestFixture) -> Result<()> {
    let (before, after) = over_suspension(&fixture, "random", "random").await?;
    let parts = |status: &ProbeStatus| -> Result<(String, String)> {
        let (bytes, map) = status.echo.split_once(',').with_context(|| format!("the echo is {:?}", status.echo))?;
        Ok((bytes.to_owned(), map.to_owned()))
    };
    let ((first, map_before), (second, map_after)) = (parts(&before)?, parts(&after)?);
    ensure!(first.len() == 32 && second.len() == 32 && first != second, "the random bytes are {first} and {second}");
    ensure!(map_before == "ok" && map_after == "ok", "iterating the map gave {map_before:?} and {map_after:?}");
    fixture.remove("random").await
}

pub async fn clocks(fixture: GuestFixture) -> Result<()> {
    let (before, after) = over_suspension(&fixture, "clocks", "clock").await?;
    let parts = |status: &ProbeStatus| -> Result<(u64, u64)> {
        let (wall, monotonic) =
            status.echo.split_once(',').with_context(|| format!("the echo is {:?}", status.echo))?;
        Ok((wall.parse()?, monotonic.parse()?))
    };
    let ((wall_before, mono_before), (wall_after, mono_after)) = (parts(&before)?, parts(&after)?);
    let (wall, mono) = (wall_after.saturating_sub(wall_before), mono_after.saturating_sub(mono_before));
    ensure!(Duration::from_nanos(wall) >= SUSPEND_AFTER, "the wall clock advanced only {wall} ns");
    let apart = Duration::from_nanos(wall.abs_diff(mono));
    ensure!(
        apart < Duration::from_millis(200),
        "across a suspension the wall clock advanced {wall} ns, the monotonic clock {mono} ns"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    ensure!(
        Duration::from_nanos(now.abs_diff(wall_after)) < Duration::from_secs(10),
        "the guest's wall clock says {wall_after}, it is {now}"
    );
    fixture.remove("clocks").await
}

pub async fn timer(fixture: GuestFixture) -> Result<()> {
    let delay = Duration::from_millis(2500);
    let position = fixture.position()?;
    fixture.create("timed", ProbeSpec { delay_ms: delay.as_millis() as u64, ..spec("sleep", "") }).await?;
    // The guest is suspended in the middle of a reconcile: only the timer is pending.
    let suspended = fixture
        .until_logged(position, "a suspension during the sleep", |record| record.message() == "suspended")
        .await?;
    ensure!(
        !fixture.probes().get("timed").await?.is_current(),
        "it was suspended only after the sleep: {}",
        suspended.0
    );
    let probe = fixture.until_current("timed").await?;
    let slept = Duration::from_millis(number_after(&probe.observed().echo, "slept=")?);
    ensure!(slept >= delay && slept < delay + Duration::from_millis(1500), "slept {slept:?} instead of {delay:?}");
    fixture.remove("timed").await
}

pub async fn slow(fixture: GuestFixture) -> Result<()> {
    let position = fixture.position()?;
    let delay =
        fixture.env.proxy.add(Rule::new("GET", &fixture.config_map_path("slowed"), Fault::Delay(SUSPEND_AFTER * 4)));
    fixture.create("slowed", spec("slow", "one")).await?;
    let in_flight = |record: &wasmop_testbed::log::Record| {
        record.message() == "suspended" && record.number("in_flight") >= Some(1.0)
    };
    fixture.until_logged(position, "a suspension with a call in flight", in_flight).await?;
    let probe = fixture.until("slowed", "completed", |probe| probe.observed().echo == "slow-done").await?;
    ensure!(Probe::is_current(&probe), "the status is out of date");
    drop(delay);
    fixture.until_config_map("slowed", "there", |_| true).await?;
    fixture.remove("slowed").await
}
